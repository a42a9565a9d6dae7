"""The watched namespaces of a cluster: lists, status patches and Events."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import structlog

from attune_operator.resources.kinds import NAMESPACE, RULE, SENSOR, WATCHED, Kind, Object
from attune_operator.runtime.client import Body, Client, ClusterError, Known, Listed, Read
from attune_operator.runtime.events import EventRecorder, EventSink, ObjectEvent
from attune_operator.runtime.ownership import Ownership

_log = structlog.stdlib.get_logger(__name__)

_FORBIDDEN: Final = 403

_Found = TypeVar("_Found")


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
    """Lists, status patches and Events.

    Args:
        client: single calls.
        recorder: takes Events.
        namespaces: those that are watched; empty means all.
        sensor_namespaces: those of them where Sensors run; empty means all that are watched.
        ownership: whose they are. Sensors and Rules of other installations' namespaces are in no list.
    """

    def __init__(
        self,
        client: Client,
        *,
        recorder: EventRecorder,
        namespaces: Sequence[str] = (),
        sensor_namespaces: Sequence[str] = (),
        ownership: Ownership | None = None,
    ) -> None:
        self.client = client
        self._recorder = recorder
        self.namespaces = tuple(namespaces)
        self._sensor_namespaces = tuple(sensor_namespaces)
        self._ownership = ownership
        self._missing: set[str] = set()
        self._denied: set[tuple[str, Kind]] = set()

    async def list_all(self, kind: Kind, *, labels: str = "") -> list[Object]:
        """Every object of ``kind`` in the watched namespaces; complete, or it raises.

        Objects of Sensors are listed where Sensors run. A namespace where the operator may not do that is left out, so that it
        stops no other one; what the operator then needs to know there it asks for, and the Sensor's conditions say what is
        refused.
        """
        where = (self._sensor_namespaces if kind in WATCHED else ()) or self.namespaces
        found = await (self._list_in(where, kind, labels) if where else self.client.list_objects(kind, labels=labels))
        if self._ownership is None or kind is not SENSOR:
            return found
        await self._ownership.settle({body["metadata"]["namespace"] for body in found})
        return [body for body in found if self._ownership.known_ours(body["metadata"]["namespace"])]

    async def _list_in(self, namespaces: Sequence[str], kind: Kind, labels: str) -> list[Object]:
        nothing: list[Object] = []
        lists = await asyncio.gather(
            *(
                self._in(name, kind, partial(self.client.list_objects, kind, name, labels=labels), nothing)
                for name in namespaces
            )
        )
        return [item for items in lists for item in items]

    async def list_rules(self, read: Callable[[Body], Read | None], *, known: Known) -> Listed[Read]:
        """Every Rule in the watched namespaces, by ``read``, unless it is ``known``."""
        if self._ownership is None:
            return await self._list_rules(read, known)
        while True:
            unsettled: set[str] = set()
            listed = await self._list_rules(_of_ours(read, self._ownership, unsettled), known)
            if not unsettled:
                return listed
            # Namespaces of which no Rule or Sensor was seen before; seldom more than once in an operator's life.
            await self._ownership.settle(unsettled)

    async def _list_rules(self, read: Callable[[Body], Read | None], known: Known) -> Listed[Read]:
        if not self.namespaces:
            return await self.client.list_changed(RULE, read=read, known=known)
        nothing: Listed[Read] = Listed(read=[], unchanged=[])
        lists = await asyncio.gather(
            *(
                self._in(name, RULE, partial(self.client.list_changed, RULE, name, read=read, known=known), nothing)
                for name in self.namespaces
            )
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

    async def _in(
        self, namespace: str, kind: Kind, listing: Callable[[], Awaitable[_Found]], nothing: _Found
    ) -> _Found:
        """What a list of one namespace gives; nothing if the namespace does not exist, and so may not be listed.

        Nothing, too, of objects of Sensors if the operator has no right to the list.
        """
        optional = kind in WATCHED
        try:
            found = await listing()
        except ClusterError as error:
            if error.status != _FORBIDDEN or not (await self._is_missing(namespace) or optional):
                raise
            if optional and namespace not in self._missing and (namespace, kind) not in self._denied:
                self._denied.add((namespace, kind))
                _log.warning("sensor_objects_not_listed", namespace=namespace, resource=kind.plural, error=str(error))
            return nothing
        self._denied.discard((namespace, kind))
        return found

    async def _is_missing(self, name: str) -> bool:
        try:
            return await self._namespace(name) is None
        except ClusterError:
            return False

    async def _namespace(self, name: str) -> Object | None:
        try:
            found = await self.client.get(NAMESPACE, None, name)
            self._note_missing(name, missing=found is None)
            return found
        except ClusterError as error:
            if error.status != _FORBIDDEN:
                raise
            # Where the operator may not read namespaces it knows the one label that each of them has.
            _log.debug("namespace_not_readable", namespace=name)
            labels = {"kubernetes.io/metadata.name": name}
            return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}

    def _note_missing(self, name: str, *, missing: bool) -> None:
        if missing and name not in self._missing:
            self._missing.add(name)
            _log.warning(
                "watched_namespace_missing",
                namespace=name,
                message=f"{'watch' if name in self.namespaces else 'sensor'}Namespaces names {name}, which does not exist. "
                "Create it, or take it out of the list.",
            )
        elif not missing:
            self._missing.discard(name)

    async def patch_rule_status(
        self, namespace: str, name: str, status: dict[str, Any], *, uid: str, first: bool = False
    ) -> None:
        """Put fields into the status of exactly this Rule. That it is gone, or is another by now, is no error."""
        await self.client.merge_status(RULE, namespace, name, status, uid=uid, first=first)

    def record(self, event: ObjectEvent) -> None:
        """Hand an Event over."""
        self._recorder.record(event)


def _of_ours(
    read: Callable[[Body], Read | None], ownership: Ownership, unsettled: set[str]
) -> Callable[[Body], Read | None]:
    """Read only what is in namespaces of ours. Namespaces whose holder is not known are put into ``unsettled``."""

    def reading(body: Body) -> Read | None:
        namespace = str(body["metadata"]["namespace"])
        if ownership.known_ours(namespace):
            return read(body)
        if not ownership.knows(namespace):
            unsettled.add(namespace)
        return None

    return reading
