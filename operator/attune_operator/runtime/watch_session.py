"""The HTTP session with which kopf watches: it leaves out objects that are nested too deep for kopf to decode.

kopf decodes each line of a watch and each list with ``json``, which gives up at about a thousand levels, and then the watch
ends, and with it the operator. kube-apiserver takes more, so a user who may create Sensors could stop the operator with one.
"""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import msgspec
import structlog

from attune_kit.kubernetes.access import Access
from attune_kit.kubernetes.depth import MARK, cut

_log = structlog.stdlib.get_logger(__name__)

#: Levels of objects and arrays that a line may have. kopf's own calls, and what is done with the object, need some, too.
_LEVELS: Final = 500


def open_session(access: Access, *, bearer: str | None) -> aiohttp.ClientSession:
    """A session of this access. kopf closes it.

    Args:
        access: how the API server is reached.
        bearer: the token to send, or None.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=access.verify),
        headers={**access.headers, **({"Authorization": f"Bearer {bearer}"} if bearer else {})},
        proxy=access.proxy,
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=_Response,
    )


class _Response(aiohttp.ClientResponse):
    """An answer whose JSON, or whose lines of JSON, can be decoded."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        started = await super().start(connection)
        if "watch" in self.url.query:
            self.content = _Lines(self.content)  # type: ignore[assignment]
        return started

    async def json(self, **options: Any) -> Any:
        return await super().json(**{"loads": decode_list, **options})


class _Lines:
    """The lines of a watch but those that are nested too deep; for the rest, the stream that it is made of."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield whole lines."""
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            if kept := b"".join(line + b"\n" for line in lines if is_shallow(line)):
                yield kept
        if rest and is_shallow(rest):
            yield rest


def is_shallow(line: bytes) -> bool:
    """Whether a line of a watch can be decoded; the log says so when it cannot."""
    # Most objects have fewer in all, so nobody needs to look which are inside which.
    if line.count(b"{") + line.count(b"[") <= _LEVELS or MARK not in cut(line, levels=_LEVELS):
        return True
    _log.warning("object_nested_too_deep")
    return False


def decode_list(text: str) -> Any:
    """Decode an answer; where it is a list, without the objects that are nested too deep."""
    try:
        return json.loads(text)
    except RecursionError:
        found = json.loads(cut(text.encode()))
        every = found.get("items") or []
        found["items"] = [item for item in every if MARK not in msgspec.json.encode(item)]
        _log.warning("objects_nested_too_deep", passed_over=len(every) - len(found["items"]))
        return found
