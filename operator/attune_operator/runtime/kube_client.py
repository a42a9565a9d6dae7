"""A thin client for the Kubernetes API on plain objects.

Plain dictionaries, because server-side apply must send exactly the fields that the operator means to own: a typed model
would add its defaults. Every call has a timeout and raises :class:`ClusterError` with a sentence that names the call.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec

from attune_contract import names
from attune_kit.kubernetes.access import Access, AccessError, find_access
from attune_kit.kubernetes.client import KubernetesClient, KubernetesError
from attune_operator.resources.kinds import (
    Kind,
    Object,
)
from attune_operator.runtime import metrics
from attune_operator.runtime.client import Body, ClusterError, Known, Listed, Read

_LIST_ATTEMPTS: Final = 3
#: Objects of a page that are read before the loop lets others run.
_CHUNK: Final = 100


class _Version(msgspec.Struct, gc=False, rename="camel"):
    uid: str
    resource_version: str


class _Versioned(msgspec.Struct, gc=False):
    """What says whether an object has changed."""

    metadata: _Version


_VERSIONS: Final = msgspec.json.Decoder(_Versioned)
_OBJECTS: Final = msgspec.json.Decoder(dict[str, Any])


def load_access() -> Access:
    """How to reach the API server (:func:`attune_kit.kubernetes.access.find_access`).

    Raises:
        ClusterError: there is no way.
    """
    try:
        return find_access(os.environ)
    except (AccessError, OSError) as error:
        raise ClusterError(f"The Kubernetes API cannot be reached: {error}") from error


def _count(method: str, status: int) -> None:
    metrics.REQUESTS.labels(method, str(status)).inc()


def status_patch(status: Object, *, uid: str, first: bool = False) -> list[Object]:
    """The JSON patch (RFC 6902) that puts these fields into the status of the object with this uid; None removes one.

    It fails as a whole if the object has another uid; if it has a status and this is the ``first``; or if it has none and
    this is not.
    """
    patch: list[Object] = [{"op": "test", "path": "/metadata/uid", "value": uid}]
    if first:
        whole = {field: value for field, value in status.items() if value is not None}
        return [
            *patch,
            {"op": "test", "path": "/status", "value": None},
            {"op": "add", "path": "/status", "value": whole},
        ]
    for field, value in status.items():
        path = f"/status/{field}"
        # A field that is not there cannot be removed, so it is set before.
        patch.append({"op": "add", "path": path, "value": value})
        if value is None:
            patch.append({"op": "remove", "path": path})
    return patch


class KubeClient:
    """Calls to one API server."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._client = KubernetesClient(access, user_agent=names.FIELD_MANAGER, on_answer=_count)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | list[Object] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """One request; returns the decoded answer.

        Raises:
            ClusterError: there was no answer in time, or its status is not one of 2xx.
        """
        try:
            found = await self._client.request(method, path, query=query, body=body, content_type=content_type)
        except KubernetesError as error:
            raise ClusterError(str(error), status=error.status) from error
        return msgspec.json.decode(found)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            return cast("Object", await self.call("GET", kind.path(namespace, name)))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def list_objects(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", name: str = ""
    ) -> list[Object]:
        """Every object of ``kind`` (and of this name), in one namespace or in all; complete, or it raises.

        ``apiVersion`` and ``kind``, which lists leave out of their items, are put back.
        """

        def whole(body: Body) -> Object:
            return cast("Object", body)

        return (await self.list_changed(kind, namespace, labels=labels, name=name, read=whole)).read

    async def list_changed(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        name: str = "",
        read: Callable[[Body], Read | None],
        known: Known | None = None,
    ) -> Listed[Read]:
        """Every object of ``kind`` by ``read``, page by page; what is ``known`` is only counted. Complete, or it raises.

        Most of what a long list costs is making objects of it, and most of them have not changed since the last one: of those
        only uid and resourceVersion are decoded. ``read`` may be called twice for an object, when the list had to start again.
        """
        selectors = {"labelSelector": labels, "fieldSelector": f"metadata.name={name}" if name else ""}
        query = {key: value for key, value in selectors.items() if value}
        for _ in range(_LIST_ATTEMPTS):
            try:
                return await self._list_once(kind.path(namespace), query, kind, read, known)
            except KubernetesError as error:
                # 410: the pages took longer than the API server keeps their snapshot. From the start, then.
                if error.status != 410:
                    raise ClusterError(str(error), status=error.status) from error
            except msgspec.MsgspecError as error:
                raise ClusterError(f"GET {kind.path(namespace)}: the answer is no list: {error}") from error
        raise ClusterError(f"GET {kind.path(namespace)}: the list expired {_LIST_ATTEMPTS} times while it was read")

    async def _list_once(
        self,
        path: str,
        query: dict[str, str],
        kind: Kind,
        read: Callable[[Body], Read | None],
        known: Known | None,
    ) -> Listed[Read]:
        found: list[Read] = []
        unchanged: list[str] = []
        async for page in self._client.pages(path, query):
            for position, raw in enumerate(page.items or ()):
                if position % _CHUNK == 0:
                    await asyncio.sleep(0)  # others may want the loop
                if known is not None:
                    head = _VERSIONS.decode(raw).metadata
                    if known(head.uid, head.resource_version):
                        unchanged.append(head.uid)
                        continue
                item = _OBJECTS.decode(raw)
                item.setdefault("apiVersion", kind.api_version)
                item.setdefault("kind", kind.kind)
                if (one := read(item)) is not None:
                    found.append(one)
        return Listed(read=found, unchanged=unchanged)

    async def apply(self, kind: Kind, body: Object) -> Object:
        """Server-side apply as the operator's field manager; returns the object as it is afterwards."""
        metadata = body["metadata"]
        return cast(
            "Object",
            await self.call(
                "PATCH",
                kind.path(metadata.get("namespace"), metadata["name"]),
                query={"fieldManager": names.FIELD_MANAGER, "force": "true"},
                body=body,
                content_type="application/apply-patch+yaml",
            ),
        )

    async def create(self, kind: Kind, body: Object) -> Object:
        """Make a new object (409 when there is one)."""
        path = kind.path(body["metadata"].get("namespace"))
        return cast("Object", await self.call("POST", path, query={"fieldManager": names.FIELD_MANAGER}, body=body))

    async def replace(self, kind: Kind, body: Object) -> Object:
        """Put the whole object, which must carry the ``resourceVersion`` that it replaces (409 when that has changed)."""
        metadata = body["metadata"]
        return cast(
            "Object",
            await self.call(
                "PUT",
                kind.path(metadata.get("namespace"), metadata["name"]),
                query={"fieldManager": names.FIELD_MANAGER},
                body=body,
            ),
        )

    async def merge(
        self, kind: Kind, namespace: str | None, name: str, patch: Object, *, subresource: str | None = None
    ) -> Object | None:
        """JSON merge patch (RFC 7396); None when the object is gone."""
        try:
            return cast(
                "Object",
                await self.call(
                    "PATCH",
                    kind.path(namespace, name, subresource),
                    query={"fieldManager": names.FIELD_MANAGER},
                    body=patch,
                    content_type="application/merge-patch+json",
                ),
            )
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def merge_status(
        self, kind: Kind, namespace: str | None, name: str, status: Object, *, uid: str, first: bool = False
    ) -> Object | None:
        """Put these fields into the status of exactly the object with this uid; None when it is gone, or is another by now.

        By JSON patch (RFC 6902), whose ``test`` of the uid is part of the write: the API server ignores the metadata of a
        merge patch of a status. ``first`` says that there is no status yet; it may be wrong.
        """
        try:
            return await self._patch_status(kind, namespace, name, status_patch(status, uid=uid, first=first))
        except ClusterError as error:
            if error.status == 404:
                return None
            if error.status != 422:
                raise
        # Another object of this name, or a status where none was expected, or none where one was: this makes one and tells.
        present = await self.merge(kind, namespace, name, {"status": {}}, subresource="status")
        if present is None or present["metadata"]["uid"] != uid:
            return None
        return await self._patch_status(kind, namespace, name, status_patch(status, uid=uid))

    async def _patch_status(self, kind: Kind, namespace: str | None, name: str, patch: list[Object]) -> Object:
        return cast(
            "Object",
            await self.call(
                "PATCH",
                kind.path(namespace, name, "status"),
                query={"fieldManager": names.FIELD_MANAGER},
                body=patch,
                content_type="application/json-patch+json",
            ),
        )

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str) -> None:
        """Delete exactly the object with this uid; that it is gone, or is another by now, is fine."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        try:
            await self.call("DELETE", kind.path(namespace, name), body={**body, "propagationPolicy": "Background"})
        except ClusterError as error:
            if error.status not in (404, 409):
                raise

    async def serves(self, kind: Kind) -> bool:
        """Whether the API server knows this kind (its CustomResourceDefinition is there and established)."""
        try:
            found = await self.call("GET", f"/apis/{kind.group}/{kind.version}" if kind.group else "/api/v1")
        except ClusterError as error:
            if error.status == 404:
                return False
            raise
        return any(resource.get("name") == kind.plural for resource in found.get("resources", ()))
