"""The Kubernetes API as the console asks it: with the caller's own token, never with the API's.

Under ``attune up`` its place is taken by the API of the command line, whose token stands for that of the admin.
"""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from attune_api.identity.callers import AdminCaller, Caller
from attune_contract.names import GROUP, VERSION
from attune_kit.kubernetes.access import Access
from attune_kit.kubernetes.client import KubernetesClient, KubernetesError, Page
from attune_kit.watched_file import WatchedFile

#: Who changed a field, as ``managedFields`` have it.
FIELD_MANAGER: Final = "attune-console"
_TIMEOUT: Final = 10.0
#: Connections for requests at once; asyncio keeps a quarter of a MiB for each that is open.
_REQUESTS: Final = 6
#: Seconds of silence after which a watch counts as lost; the API server ends one before that.
_SILENCE: Final = 330.0
_MERGE_PATCH: Final = "application/merge-patch+json"


class ConsoleCluster:
    """Sensors, Rules and pods, read and changed with somebody's token.

    Args:
        client: for requests; its own token is not used. Closed by :meth:`close`.
        watching: for watches, which each hold a connection for as long as they last. Closed by :meth:`close`.
        admin: the token that stands for the admin's; None where the admin has none.
    """

    def __init__(self, client: KubernetesClient, *, watching: KubernetesClient, admin: WatchedFile[str] | None) -> None:
        self._client = client
        self._watching = watching
        self._admin = admin

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
        await self._watching.close()

    def bearer(self, caller: Caller, token: str) -> str:
        """The token that a caller's requests are sent with.

        Raises:
            KubernetesError: the admin's cannot be read (0), or there is none (403).
        """
        if not isinstance(caller, AdminCaller):
            return token
        if self._admin is None:
            raise KubernetesError("the admin token is good for events and runs, and unknown to the cluster", status=403)
        try:
            return self._admin.read()
        except OSError as error:
            raise KubernetesError(f"the file with the admin's token for Kubernetes cannot be read: {error}") from error

    async def get(self, bearer: str, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """One object, or a list of few.

        Raises:
            KubernetesError: it cannot be had; ``status`` says why.
        """
        return _decoded(await self._client.request("GET", path, query=query, bearer=bearer))

    async def patch(self, bearer: str, path: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """A JSON merge patch; returns the object.

        Raises:
            KubernetesError: it was not done; ``status`` says why.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        answer = await self._client.request(
            "PATCH", path, query=query, body=patch, content_type=_MERGE_PATCH, bearer=bearer
        )
        return _decoded(answer)

    async def create(self, bearer: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object; returns it.

        Args:
            bearer: the token.
            path: of the list that it will be in.
            body: the object.

        Raises:
            KubernetesError: it was not made; ``status`` says why (409: there is one of that name).
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return _decoded(await self._client.request("POST", path, query=query, body=body, bearer=bearer))

    def pages(self, bearer: str, path: str) -> AsyncGenerator[Page]:
        """A complete list, page by page."""
        return self._client.pages(path, {}, bearer=bearer)

    def watch(self, bearer: str, path: str, version: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """What changes after a version of a list, one line of JSON for each."""
        query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": "300"}
        return self._watching.stream(path, query, silence=_SILENCE, bearer=bearer)


def connect(*, url: str, ca_file: Path, admin_token_file: Path | None) -> ConsoleCluster:
    """What asks the Kubernetes API at ``url``.

    Args:
        url: of the API server.
        ca_file: certificates that its own is checked against.
        admin_token_file: the token for a caller with the admin token.
    """
    authority = ca_file.read_text() if ca_file.exists() else None
    access = Access(
        server=url.rstrip("/"),
        verify=ssl.create_default_context(cadata=authority),
        bearer=lambda: None,  # each request brings the caller's
        origin="the console",
    )
    client = KubernetesClient(access, user_agent="attune-console", timeout=_TIMEOUT, connections=_REQUESTS)
    # As many as there are lists: their number is bounded (:mod:`attune_api.console.listing`).
    watching = KubernetesClient(access, user_agent="attune-console", connections=0)
    admin = None
    if admin_token_file is not None:
        admin = WatchedFile(admin_token_file, lambda content: content.decode().strip())
    return ConsoleCluster(client, watching=watching, admin=admin)


def path_of(plural: str, namespace: str = "", name: str = "") -> str:
    """The path of a Sensor or Rule, of those of a namespace, or of all."""
    path = f"/apis/{GROUP}/{VERSION}"
    if namespace:
        path += f"/namespaces/{quote(namespace, safe='')}"
    return f"{path}/{plural}" + (f"/{quote(name, safe='')}" if name else "")


def pods_path(namespace: str) -> str:
    """The path of the pods of a namespace."""
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"


def _decoded(answer: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(answer)
    except msgspec.MsgspecError as error:
        raise KubernetesError(f"the Kubernetes API answered with something else: {error}") from error
    if not isinstance(found, dict):
        raise KubernetesError("the Kubernetes API answered with something else")
    return found
