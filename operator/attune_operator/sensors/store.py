"""What was seen of Sensors and of what belongs to them: from watch events, from complete lists, and from our own writes.

Watch events are hints (after a 410 no DELETED comes), lists are the truth, and whatever is newer wins. The store only saves
requests: nothing is made because it is missing here without asking Kubernetes first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from attune_contract import names
from attune_contract.identity import SensorRef
from attune_operator.resources.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    POD,
    SECRET,
    SENSOR,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
    Object,
)
from attune_operator.runtime.client import Body, WatchEventType

#: Kinds of which a Sensor has one object, named after it.
CHILDREN: Final = (SERVICE_ACCOUNT, SECRET, CONFIG_MAP, NETWORK_POLICY, SERVICE, DEPLOYMENT)
#: What tells the objects of Sensors from others, on the server's side.
SELECTOR: Final = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY},{names.SENSOR_LABEL}"
#: Deleted Sensors that are remembered. A list takes seconds; nobody deletes so many meanwhile.
_REMEMBERED: Final = 10_000


def owner_of(body: Body) -> SensorRef | None:
    """The Sensor that an object belongs to, by its label; None when it belongs to none."""
    metadata = body["metadata"]
    sensor = (metadata.get("labels") or {}).get(names.SENSOR_LABEL)
    return SensorRef(metadata.get("namespace", ""), sensor) if sensor else None


def child_name(kind: Kind, ref: SensorRef) -> str:
    """What the Sensor's object of this kind is called."""
    return names.sensor_service_name(ref.name) if kind == SERVICE else names.sensor_object_name(ref.name)


def _version(body: Body) -> int:
    """Newer objects have higher ones (comparable since Kubernetes 1.35, and in fact always were)."""
    try:
        return int(body["metadata"].get("resourceVersion", "0"))
    except ValueError:
        return 0


class _Shelf:
    """Objects of one kind by namespace and name, each with the moment (a count) at which it was put there.

    With ``buries``, an object that was deleted does not come back with a list that was begun before. Only for kinds that are
    watched without a selector: there DELETED means that it is gone, and not just that a label is.
    """

    def __init__(self, *, buries: bool = False) -> None:
        self.items: dict[tuple[str, str], tuple[Object, int]] = {}
        self._buries = buries
        self._buried: OrderedDict[str, None] = OrderedDict()

    def get(self, key: tuple[str, str]) -> Object | None:
        found = self.items.get(key)
        return found[0] if found else None

    def put(self, body: Object, moment: int) -> bool:
        metadata = body["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        if metadata.get("uid") in self._buried:
            return False
        old = self.get(key)
        if old is not None:
            same = old["metadata"].get("uid") == metadata.get("uid")
            if same and _version(old) > _version(body):
                return False
            if same and _version(old) == _version(body):
                self.items[key] = (old, moment)
                return False
        self.items[key] = (body, moment)
        return True

    def remove(self, body: Body) -> bool:
        metadata = body["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        if self._buries and metadata.get("uid"):
            self._buried[metadata["uid"]] = None
            if len(self._buried) > _REMEMBERED:
                self._buried.popitem(last=False)
        old = self.get(key)
        if old is None or old["metadata"].get("uid") != metadata.get("uid"):
            return False
        del self.items[key]
        return True


class Store:
    """Sensors, their objects and their pods."""

    def __init__(self) -> None:
        self._shelves: dict[Kind, _Shelf] = {kind: _Shelf(buries=kind is SENSOR) for kind in (SENSOR, POD, *CHILDREN)}
        self._pods: dict[SensorRef, dict[str, Object]] = {}
        self._moment = 0

    @property
    def moment(self) -> int:
        """A count that rises with everything that is put; remember it before a list is asked for."""
        return self._moment

    def sensor(self, ref: SensorRef) -> Object | None:
        """The Sensor."""
        return self._shelves[SENSOR].get((ref.namespace, ref.name))

    def sensors(self) -> list[SensorRef]:
        """All Sensors."""
        return [SensorRef(*key) for key in self._shelves[SENSOR].items]

    def child(self, kind: Kind, ref: SensorRef, *, name: str | None = None) -> Object | None:
        """The Sensor's object of this kind; the one that is named after it unless another name is given."""
        return self._shelves[kind].get((ref.namespace, name or child_name(kind, ref)))

    def pods(self, ref: SensorRef) -> list[Object]:
        """The Sensor's pods."""
        return list(self._pods.get(ref, {}).values())

    def put(self, kind: Kind, body: Body) -> bool:
        """An object was seen; returns whether that was news."""
        self._moment += 1
        stored = dict(body)
        if kind is POD:
            self._put_pod(stored)
        return self._shelves[kind].put(stored, self._moment)

    def remove(self, kind: Kind, body: Body) -> bool:
        """An object was deleted; returns whether it was there."""
        self._moment += 1
        if kind is POD and (ref := owner_of(body)) is not None:
            pods = self._pods.get(ref, {})
            pods.pop(body["metadata"]["name"], None)
            if not pods:
                self._pods.pop(ref, None)
        return self._shelves[kind].remove(body)

    def observe(self, kind: Kind, event: WatchEventType, body: Body) -> bool:
        """A watch event came; returns whether it was news."""
        return self.remove(kind, body) if event == "DELETED" else self.put(kind, body)

    def replace(self, kind: Kind, bodies: Iterable[Mapping[str, object]], *, since: int) -> list[Object]:
        """A complete list came, asked for at :attr:`moment` ``since``; returns what is gone.

        What was put after that is left alone: the list may not know it yet.
        """
        listed = set()
        for body in bodies:
            self.put(kind, body)
            metadata = body["metadata"]
            assert isinstance(metadata, Mapping)  # noqa: S101 - for the type checker
            listed.add((metadata.get("namespace", ""), metadata["name"]))
        gone = [
            body for key, (body, moment) in self._shelves[kind].items.items() if key not in listed and moment <= since
        ]
        for body in gone:
            self.remove(kind, body)
        return gone

    def _put_pod(self, body: Object) -> None:
        if (ref := owner_of(body)) is None:
            return
        pods = self._pods.setdefault(ref, {})
        old = pods.get(body["metadata"]["name"])
        if old is None or _version(old) <= _version(body) or old["metadata"].get("uid") != body["metadata"].get("uid"):
            pods[body["metadata"]["name"]] = body
