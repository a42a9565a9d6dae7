"""A client of the Kubernetes API over aiohttp: requests, complete lists page by page, and streams.

It works on paths and bytes. Callers that know kinds decode what they need of an answer. Every call has a timeout and
raises :class:`KubernetesError` with a text that names the call.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, Final

import aiohttp
import msgspec
import structlog

from attune_kit.kubernetes.access import Access, AccessError
from attune_kit.kubernetes.depth import MARK, cut

_log = structlog.stdlib.get_logger(__name__)

#: Objects in one page of a list. Small enough that decoding a page never holds the event loop for long.
PAGE: Final = 500
#: Bytes of one line of a stream. etcd keeps objects of up to 1.5 MiB, and JSON makes more of them.
_LONGEST_LINE: Final = 16 * 1024 * 1024


class KubernetesError(Exception):
    """A request failed. ``status`` is the HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _PageMetadata(msgspec.Struct, gc=False):
    more: str = msgspec.field(name="continue", default="")
    version: str = msgspec.field(name="resourceVersion", default="")


class Page(msgspec.Struct, gc=False):
    """A page of a list, its objects not decoded yet. ``metadata.version`` is the resource version of the whole list."""

    metadata: _PageMetadata
    items: list[msgspec.Raw] | None = None


_PAGES: Final = msgspec.json.Decoder(Page)


class KubernetesClient:
    """Requests to one API server.

    Args:
        access: how it is reached, and as whom.
        user_agent: who is calling.
        timeout: seconds for a whole request.
        connections: how many connections may be open at once; 0 for no limit.
        on_answer: called with the method and the status (0: none) of each request.
    """

    def __init__(
        self,
        access: Access,
        *,
        user_agent: str,
        timeout: float = 20.0,
        connections: int = 32,
        on_answer: Callable[[str, int], None] = lambda _method, _status: None,
    ) -> None:
        self.access = access
        self._user_agent = user_agent
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=5)
        self._connections = connections
        self._on_answer = on_answer
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        bearer: str | None = None,
    ) -> bytes:
        """One request; returns the body of the answer.

        Args:
            method: the HTTP method.
            path: from ``/`` on.
            query: parameters of the query.
            body: an object to send as JSON, or None.
            content_type: the type of ``body``; patches have one of their own.
            bearer: a token to send in place of the access's own.

        Raises:
            KubernetesError: there was no answer in time, or its status is not one of 2xx.
        """
        status = 0
        try:
            async with self._opened().request(
                method,
                self.access.server + path,
                params=query,
                data=None if body is None else msgspec.json.encode(body),
                headers={**await self._headers(bearer), "Content-Type": content_type},
                proxy=self.access.proxy,
                server_hostname=self.access.server_name,
                allow_redirects=False,  # a token must not travel to another host
            ) as answer:
                found = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, AccessError) as error:
            raise KubernetesError(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            self._on_answer(method, status)
        if not 200 <= status <= 299:
            raise refused(method, path, status, found)
        return found

    async def pages(self, path: str, query: Mapping[str, str], *, bearer: str | None = None) -> AsyncGenerator[Page]:
        """A complete list, page by page, but for objects that are nested too deep to be read.

        Args:
            path: from ``/`` on.
            query: parameters of the query.
            bearer: a token to send in place of the access's own.

        Raises:
            KubernetesError: it could not be read to its end. Status 410: its pages are no longer kept; begin again.
        """
        parameters = {**query, "limit": str(PAGE)}
        while True:
            found = await self.request("GET", path, query=parameters, bearer=bearer)
            try:
                page = decode_page(found)
            except msgspec.MsgspecError as error:
                raise KubernetesError(f"GET {path}: the answer is no list: {error}") from error
            yield page
            if not page.metadata.more:
                return
            # The following pages belong to the version of the first.
            parameters = {name: value for name, value in parameters.items() if not name.startswith("resourceVersion")}
            parameters["continue"] = page.metadata.more

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, query: Mapping[str, str], *, silence: float, bearer: str | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """An answer that comes line by line for as long as it lasts (a watch). The block begins when it was granted.

        Args:
            path: from ``/`` on.
            query: parameters of the query.
            silence: seconds without a byte after which the connection counts as lost.
            bearer: a token to send in place of the access's own.

        Raises:
            KubernetesError: the API server refused, or the connection was lost.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=silence)
        try:
            async with self._opened().get(
                self.access.server + path,
                params=query,
                headers=await self._headers(bearer),
                timeout=timeout,
                proxy=self.access.proxy,
                server_hostname=self.access.server_name,
                allow_redirects=False,
            ) as answer:
                if answer.status != 200:
                    raise refused("watch", path, answer.status, await answer.read())
                yield _lines(path, answer.content)
        except (aiohttp.ClientError, TimeoutError, OSError, AccessError) as error:
            raise KubernetesError(f"watch {path}: {error or type(error).__name__}") from error

    async def _headers(self, given: str | None) -> dict[str, str]:
        bearer = self.access.bearer
        token = given or (await asyncio.to_thread(bearer) if self.access.slow else bearer())
        return {**self.access.headers, **({"Authorization": f"Bearer {token}"} if token else {})}

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=self.access.verify),
                headers={"User-Agent": self._user_agent, "Accept": "application/json"},
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def decode_page(body: bytes) -> Page:
    """Decode a page of a list, without the objects that are nested too deep.

    Raises:
        msgspec.MsgspecError: it is no list.
    """
    try:
        return _PAGES.decode(body)
    except RecursionError:
        page = _PAGES.decode(cut(body))
        every = page.items or []
        page.items = [item for item in every if MARK not in bytes(item)]
        _log.warning("objects_nested_too_deep", passed_over=len(every) - len(page.items))
        return page


async def _lines(path: str, content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk if rest else chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise KubernetesError(f"watch {path}: an object is longer than {_LONGEST_LINE} bytes")
        for line in lines:
            if line.strip():
                yield line


def refused(method: str, path: str, status: int, body: bytes) -> KubernetesError:
    """A refusal, with the ``message`` of the ``Status`` that the API server answers with."""
    try:
        reason = str(msgspec.json.decode(body).get("message", ""))[:500]
    except (msgspec.MsgspecError, AttributeError):
        reason = ""
    return KubernetesError(f"{method} {path}: {status} {reason}".rstrip(), status=status)
