"""The watched namespaces of a cluster: lists, status patches and Events."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import structlog

from attune_operator.resources.kinds import NAMESPACE, RULE, SENSOR, Kind, Object
from attune_operator.runtime.client import Body, Client, ClusterError, Known, Listed, Read
from attune_operator.runtime.events import EventRecorder, EventSink, ObjectEvent

_log = structlog.stdlib.get_logger(__name__)

_FORBIDDEN: Final = 403


class RuleCluster(EventSink, Protocol):
    """What the Rule side needs of Kubernetes.

    A list is complete (all pages, all watched namespaces) or the call raises: an incomplete list must never be taken for
    the current state.
    """

    async def list_rules(self, read: Callable[[Body], Read | None], *, known: Known) -> Listed[Read]:
        """List every Rule in the watched namespaces. ``read`` parses those that are not ``known``; None leaves one out.

        There may be 100,000, and hardly one has changed since the last list. Reading only those keeps idle Rules cheap.
        """
        ...

    async def list_sensors(self) -> list[dict[str, Any]]:
        """List every Sensor in the watched namespaces."""
        ...

    async def list_namespaces(self) -> list[dict[str, Any]]:
        """List every watched namespace. Selectors match their labels."""
        ...

    async def patch_rule_status(
        self, namespace: str, name: str, status: dict[str, Any], *, uid: str, first: bool = False
    ) -> None:
        """Put the fields of ``status`` into the status of the Rule with exactly this uid.

        It is no error if that Rule is gone, or another one has its name by now. ``first``: the Rule is thought to have no
        status yet.

        Raises:
            ClusterError: Kubernetes refused or could not be reached; try again later.
        """


class KubeCluster:
    """Lists, status patches and Events. ``namespaces`` are those that are watched; empty means all."""

    def __init__(self, client: Client, *, recorder: EventRecorder, namespaces: Sequence[str] = ()) -> None:
        self.client = client
        self._recorder = recorder
        self.namespaces = tuple(namespaces)

    async def list_all(self, kind: Kind, *, labels: str = "") -> list[Object]:
        """Every object of ``kind`` in the watched namespaces; complete, or it raises."""
        if not self.namespaces:
            return await self.client.list_objects(kind, labels=labels)
        lists = await asyncio.gather(*(self.client.list_objects(kind, name, labels=labels) for name in self.namespaces))
        return [item for items in lists for item in items]

    async def list_rules(self, read: Callable[[Body], Read | None], *, known: Known) -> Listed[Read]:
        """Every Rule in the watched namespaces, by ``read``, unless it is ``known``."""
        if not self.namespaces:
            return await self.client.list_changed(RULE, read=read, known=known)
        lists = await asyncio.gather(
            *(self.client.list_changed(RULE, name, read=read, known=known) for name in self.namespaces)
        )
        return Listed(
            read=[rule for found in lists for rule in found.read],
            unchanged=[uid for found in lists for uid in found.unchanged],
        )

    async def list_sensors(self) -> list[dict[str, Any]]:
        """Every Sensor in the watched namespaces."""
        return await self.list_all(SENSOR)

    async def list_namespaces(self) -> list[dict[str, Any]]:
        """Every watched namespace. One that does not exist (yet) is left out."""
        if not self.namespaces:
            return await self.client.list_objects(NAMESPACE)
        found = await asyncio.gather(*(self._namespace(name) for name in self.namespaces))
        return [item for item in found if item is not None]

    async def _namespace(self, name: str) -> Object | None:
        try:
            return await self.client.get(NAMESPACE, None, name)
        except ClusterError as error:
            if error.status != _FORBIDDEN:
                raise
            # Where the operator may not read namespaces it knows the one label that each of them has.
            _log.debug("namespace_not_readable", namespace=name)
            labels = {"kubernetes.io/metadata.name": name}
            return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}

    async def patch_rule_status(
        self, namespace: str, name: str, status: dict[str, Any], *, uid: str, first: bool = False
    ) -> None:
        """Put fields into the status of exactly this Rule. That it is gone, or is another by now, is no error."""
        await self.client.merge_status(RULE, namespace, name, status, uid=uid, first=first)

    def record(self, event: ObjectEvent) -> None:
        """Hand an Event over."""
        self._recorder.record(event)
