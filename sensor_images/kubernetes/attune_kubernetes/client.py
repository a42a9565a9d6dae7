"""A light client of the Kubernetes API over aiohttp: discovery, complete lists in pages, and watches."""

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec

from attune_kubernetes.access import Access
from attune_kubernetes.objects import Object

#: What a watch yields first, once the API server has granted it.
OPENED: Final = "OPENED"
_PAGE: Final = 500
_TIMEOUT: Final = aiohttp.ClientTimeout(total=60.0, sock_connect=5.0)
#: A watch that says nothing for so long (seconds) is dead: the API server sends a bookmark every minute.
_SILENCE: Final = 100.0
#: No object is larger (etcd's limit is 1.5 MiB), with room for what JSON makes of it.
_LONGEST_LINE: Final = 16 * 1024 * 1024


class KubernetesError(Exception):
    """A request failed. ``status`` is the HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def gone(self) -> bool:
        """Whether the API server no longer knows the version that was asked for."""
        return self.status == HTTPStatus.GONE


class Resource(NamedTuple):
    """A kind as the API server serves it. ``base`` is the path of its group and version."""

    base: str
    plural: str
    namespaced: bool

    def path(self, namespace: str) -> str:
        """Where its objects are, in one namespace or (with an empty one) in all."""
        return f"{self.base}/namespaces/{namespace}/{self.plural}" if namespace else f"{self.base}/{self.plural}"


class _Page(msgspec.Struct):
    items: list[Object] | None = None
    metadata: dict[str, Any] = {}


class _Line(msgspec.Struct):
    type: str
    object: Object


_PAGES: Final = msgspec.json.Decoder(_Page)
_LINES: Final = msgspec.json.Decoder(_Line)


class KubernetesApi:
    """One API server.

    Args:
        access: how to reach it.
        user_agent: who is calling.
    """

    def __init__(self, access: Access, *, user_agent: str) -> None:
        self._access = access
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def discover(self, api_version: str, kind: str) -> Resource:
        """Where the kind is served.

        Raises:
            KubernetesError: it is not served, or cannot be watched, or the API server cannot be asked.
        """
        base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            found = msgspec.json.decode(await self._get(base, {}))
        except KubernetesError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                raise KubernetesError(f"the API server does not serve {api_version}", status=error.status) from None
            raise
        for resource in found.get("resources") or ():
            if resource.get("kind") == kind and "/" not in resource["name"]:
                if not {"list", "watch"} <= set(resource.get("verbs") or ()):
                    raise KubernetesError(
                        f"{kind} of {api_version} cannot be watched", status=HTTPStatus.METHOD_NOT_ALLOWED
                    )
                return Resource(base, resource["name"], bool(resource.get("namespaced")))
        raise KubernetesError(f"the API server serves no {kind} of {api_version}", status=HTTPStatus.NOT_FOUND)

    async def pages(
        self, path: str, selectors: Mapping[str, str], *, version: int | None = None
    ) -> AsyncIterator[tuple[int, list[Object]]]:
        """A complete list, page by page, each with the version of the whole.

        Args:
            path: which objects.
            selectors: labelSelector and fieldSelector.
            version: list what was at exactly this version; the newest unless given.

        Raises:
            KubernetesError: it could not be read to its end.
        """
        query = {**selectors, "limit": str(_PAGE)}
        if version is not None:
            query |= {"resourceVersion": str(version), "resourceVersionMatch": "Exact"}
        while True:
            body = await self._get(path, query)
            try:
                page = _PAGES.decode(body)
                at = int(page.metadata["resourceVersion"])
            except (msgspec.MsgspecError, KeyError, ValueError) as error:
                raise KubernetesError(f"GET {path}: the answer is no list: {error}") from None
            yield at, page.items or []
            token = page.metadata.get("continue")
            if not token:
                return
            query = {**selectors, "limit": str(_PAGE), "continue": token}

    async def version(self, path: str, selectors: Mapping[str, str]) -> int:
        """The newest version there is.

        Raises:
            KubernetesError: the API server cannot be asked.
        """
        return int(_PAGES.decode(await self._get(path, {**selectors, "limit": "1"})).metadata["resourceVersion"])

    async def watch(
        self, path: str, selectors: Mapping[str, str], *, version: int, seconds: int
    ) -> AsyncIterator[tuple[str, Object]]:
        """What happened after ``version``: (``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``; object). It ends
        when the API server ends it, after so many ``seconds`` at the latest.

        Raises:
            KubernetesError: the API server refused, or the connection was lost.
        """
        query = {
            **selectors,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(version),
            "timeoutSeconds": str(seconds),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=_SILENCE)
        try:
            async with self._opened().get(
                self._access.server + path, params=query, headers=self._headers(), timeout=timeout
            ) as answer:
                if answer.status != HTTPStatus.OK:
                    raise _refused("watch", path, answer.status, await answer.read())
                yield OPENED, {}
                rest = b""
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk if rest else chunk).split(b"\n")
                    if len(rest) > _LONGEST_LINE:
                        raise KubernetesError(f"watch {path}: an object is longer than {_LONGEST_LINE} bytes")
                    for line in lines:
                        if line.strip():
                            yield self._event(path, line)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubernetesError(f"watch {path}: {error or type(error).__name__}") from None

    def _event(self, path: str, line: bytes) -> tuple[str, Object]:
        try:
            event = _LINES.decode(line)
        except msgspec.MsgspecError as error:
            raise KubernetesError(f"watch {path}: a line is not as agreed: {error}") from None
        if event.type == "ERROR":
            code = event.object.get("code")
            raise KubernetesError(
                f"watch {path}: {event.object.get('message')}", status=code if isinstance(code, int) else 0
            )
        return event.type, event.object

    def _headers(self) -> dict[str, str]:
        token = self._access.token()
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._access.tls or True),
                headers={"User-Agent": self._user_agent, "Accept": "application/json"},
                timeout=_TIMEOUT,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def _get(self, path: str, query: Mapping[str, str]) -> bytes:
        try:
            async with self._opened().get(
                self._access.server + path, params=query, headers=self._headers(), allow_redirects=False
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise KubernetesError(f"GET {path}: {error or type(error).__name__}") from None
        if answer.status != HTTPStatus.OK:
            raise _refused("GET", path, answer.status, body)
        return body


def _refused(verb: str, path: str, status: int, body: bytes) -> KubernetesError:
    """A refusal, with the ``message`` of the ``Status`` that the API server answers with."""
    try:
        reason = str(msgspec.json.decode(body).get("message", ""))[:500]
    except (msgspec.MsgspecError, AttributeError):
        reason = ""
    return KubernetesError(f"{verb} {path}: {status} {reason}".rstrip(), status=status)
