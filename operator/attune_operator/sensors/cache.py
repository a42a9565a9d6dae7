"""What was seen of Sensors and of what belongs to them: from watch events, from complete lists, and from our own writes.

The cache only saves requests: nothing is created because it is missing here without asking Kubernetes first.
"""

from collections.abc import Iterable
from typing import Final

from attune_contract import names
from attune_contract.identity import SensorRef
from attune_operator.resources.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    POD,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SENSOR,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
    Object,
)
from attune_operator.runtime.cache import ObjectCache, Seen
from attune_operator.runtime.client import Body, WatchEventType

#: Kinds of which a Sensor has one object, named after it.
CHILDREN: Final = (SERVICE_ACCOUNT, SECRET, CONFIG_MAP, NETWORK_POLICY, SERVICE, POD_DISRUPTION_BUDGET, DEPLOYMENT)
#: Selects the objects of Sensors.
SELECTOR: Final = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY},{names.SENSOR_LABEL}"


def owner_of(body: Body) -> SensorRef | None:
    """The Sensor that an object belongs to, by its label; None when it belongs to none."""
    metadata = body["metadata"]
    sensor = (metadata.get("labels") or {}).get(names.SENSOR_LABEL)
    return SensorRef(metadata.get("namespace", ""), sensor) if sensor else None


def child_name(kind: Kind, ref: SensorRef) -> str:
    """The name of the Sensor's object of this kind."""
    return names.sensor_service_name(ref.name) if kind == SERVICE else names.sensor_object_name(ref.name)


def _version(body: Body) -> int:
    """The resourceVersion as a number: newer objects have higher ones (guaranteed since Kubernetes 1.35, true before)."""
    try:
        return int(body["metadata"].get("resourceVersion", "0"))
    except ValueError:
        return 0


_Key = tuple[str, str]


def _seen(body: Body) -> Seen[_Key, Object]:
    metadata = body["metadata"]
    key = (metadata.get("namespace", ""), metadata["name"])
    return Seen(key, metadata.get("uid", ""), dict(body), _version(body))


class SensorCache:
    """Sensors, their objects and their pods."""

    def __init__(self) -> None:
        # Only Sensors are watched without a selector.
        self._kinds: dict[Kind, ObjectCache[_Key, Object]] = {
            kind: ObjectCache(final=kind is SENSOR) for kind in (SENSOR, POD, *CHILDREN)
        }
        self._pods: dict[SensorRef, set[_Key]] = {}

    def sensor(self, ref: SensorRef) -> Object | None:
        """The Sensor."""
        return self._kinds[SENSOR].get((ref.namespace, ref.name))

    def sensors(self) -> list[SensorRef]:
        """All Sensors."""
        return [SensorRef(*key) for key in self._kinds[SENSOR]]

    def uid(self, ref: SensorRef) -> str:
        """The Sensor's uid; empty if there is no such Sensor."""
        return self._kinds[SENSOR].uid((ref.namespace, ref.name))

    def child(self, kind: Kind, ref: SensorRef, *, name: str | None = None) -> Object | None:
        """The Sensor's object of this kind; the one that is named after it unless another name is given."""
        return self._kinds[kind].get((ref.namespace, name or child_name(kind, ref)))

    def pods(self, ref: SensorRef) -> list[Object]:
        """The Sensor's pods."""
        found = (self._kinds[POD].get(key) for key in self._pods.get(ref, ()))
        return [pod for pod in found if pod is not None]

    def put(self, kind: Kind, body: Body) -> bool:
        """An object was seen; returns whether it changed."""
        seen = _seen(body)
        if kind is POD and (ref := owner_of(body)) is not None:
            self._pods.setdefault(ref, set()).add(seen.key)
        return self._kinds[kind].put(seen)

    def remove(self, kind: Kind, body: Body) -> bool:
        """An object was deleted; returns whether it was there."""
        seen = _seen(body)
        removed = self._kinds[kind].remove(seen.key, uid=seen.uid) is not None
        if kind is POD and removed:
            self._forget_pod(body)
        return removed

    def observe(self, kind: Kind, event: WatchEventType, body: Body) -> bool:
        """A watch event came; returns whether it changed anything."""
        return self.remove(kind, body) if event == "DELETED" else self.put(kind, body)

    def begin_list(self, kind: Kind) -> int:
        """A list of this kind begins; give the returned tick to :meth:`replace`."""
        return self._kinds[kind].clock.begin()

    def replace(self, kind: Kind, bodies: Iterable[Body], *, began: int) -> list[Object]:
        """A complete list came; returns what is gone. What was seen since it began stays."""
        listed = list(bodies)
        if kind is POD:
            for body in listed:
                if (ref := owner_of(body)) is not None:
                    self._pods.setdefault(ref, set()).add(_seen(body).key)
        cache = self._kinds[kind]
        _, gone = cache.replace(map(_seen, listed), began=began)
        cache.clock.complete(began)
        if kind is POD:
            for _, body in gone:
                self._forget_pod(body)
        return [body for _, body in gone]

    def _forget_pod(self, body: Body) -> None:
        if (ref := owner_of(body)) is not None and (keys := self._pods.get(ref)) is not None:
            keys.discard(_seen(body).key)
            if not keys:
                del self._pods[ref]
