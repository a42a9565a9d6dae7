"""The Kubernetes API as the sensor uses it: discovery, complete lists in pages, and watches."""

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec

from attune_kit.kubernetes.access import Access
from attune_kit.kubernetes.client import KubernetesClient, KubernetesError
from attune_kubernetes.objects import Object

#: What a watch yields first, once the API server has granted it.
OPENED: Final = "OPENED"
_TIMEOUT: Final = 60.0
#: A watch that says nothing for so long (seconds) is dead: the API server sends a bookmark every minute.
_SILENCE: Final = 100.0


class Resource(NamedTuple):
    """A kind as the API server serves it. ``base`` is the path of its group and version."""

    base: str
    plural: str
    namespaced: bool

    def path(self, namespace: str) -> str:
        """Where its objects are, in one namespace or (with an empty one) in all."""
        return f"{self.base}/namespaces/{namespace}/{self.plural}" if namespace else f"{self.base}/{self.plural}"


class _Line(msgspec.Struct):
    type: str
    object: Object


_OBJECTS: Final = msgspec.json.Decoder(dict[str, Any])
_LINES: Final = msgspec.json.Decoder(_Line)


class KubernetesApi:
    """One API server.

    Args:
        access: how to reach it.
        user_agent: who is calling.
    """

    def __init__(self, access: Access, *, user_agent: str) -> None:
        self._client = KubernetesClient(access, user_agent=user_agent, timeout=_TIMEOUT, connections=0)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def discover(self, api_version: str, kind: str) -> Resource:
        """Where the kind is served.

        Raises:
            KubernetesError: it is not served, or cannot be watched, or the API server cannot be asked.
        """
        base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            found = msgspec.json.decode(await self._client.request("GET", base))
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
        query = dict(selectors)
        if version is not None:
            query |= {"resourceVersion": str(version), "resourceVersionMatch": "Exact"}
        async for page in self._client.pages(path, query):
            try:
                yield int(page.metadata.version), [_OBJECTS.decode(raw) for raw in page.items or ()]
            except (msgspec.MsgspecError, ValueError) as error:
                raise KubernetesError(f"GET {path}: the answer is no list: {error}") from None

    async def version(self, path: str, selectors: Mapping[str, str]) -> int:
        """The newest version there is.

        Raises:
            KubernetesError: the API server cannot be asked.
        """
        found = await self._client.request("GET", path, query={**selectors, "limit": "1"})
        return int(_OBJECTS.decode(found)["metadata"]["resourceVersion"])

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
        async with self._client.stream(path, query, silence=_SILENCE) as lines:
            yield OPENED, {}
            async for line in lines:
                yield self._event(path, line)

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
