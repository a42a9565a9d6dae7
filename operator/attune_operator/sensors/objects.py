"""Brings one object of a Sensor to its desired state: creates, updates, repairs, and refuses what belongs to others."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import structlog

from attune_contract import names
from attune_contract.resources import Sensor
from attune_operator.resources import common, companions, difference
from attune_operator.resources.common import APPLIED, Environment, ObjectNames
from attune_operator.resources.kinds import CONFIG_MAP, DEPLOYMENT, SECRET, SERVICE, Kind, Object
from attune_operator.runtime import metrics
from attune_operator.runtime.client import Client, ClusterError
from attune_operator.sensors import insistence
from attune_operator.sensors.cache import SensorCache, child_name
from attune_operator.sensors.insistence import History

_log = structlog.stdlib.get_logger(__name__)

Change = Literal["Created", "Updated", "Repaired", "Removed"]
_REMEMBERED: Final = 10_000
_CONFLICT: Final = 409
_ATTEMPTS: Final = 5


class NameTakenError(Exception):
    """An object of the needed name belongs to somebody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The object as it is now, and what was done to it (None: nothing was)."""

    object: Object | None
    change: Change | None
    detail: str = ""
    contested: str = ""  #: who keeps changing it, as a sentence
    again_in: float = 0.0  #: the seconds after which it is repaired; 0: nothing is to be repaired


def _owner(found: Object) -> dict[str, Any] | None:
    owners = found["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def claim(found: Object, sensor: Sensor) -> Literal["ours", "stale"]:
    """Whose an object of our name is: ``ours``, or ``stale``: left over from a deleted Sensor of the same name.

    Raises:
        NameTakenError: it is somebody else's.
    """
    owner = _owner(found)
    if owner is None:
        # What lost its owner (kubectl delete --cascade=orphan) is adopted again; what never had our label is not ours.
        if (found["metadata"].get("labels") or {}).get(names.MANAGED_BY_LABEL) == names.MANAGED_BY:
            return "ours"
    elif owner.get("uid") == sensor.metadata.uid:
        return "ours"
    elif owner.get("kind") == "Sensor" and owner.get("name") == sensor.metadata.name:
        return "stale"
    kind, name = found.get("kind", "object"), found["metadata"]["name"]
    raise NameTakenError(
        f"A {kind} named {name} exists already and does not belong to this Sensor. Delete or rename it, or rename the Sensor."
    )


class Objects:
    """Writes Sensors' objects, and remembers what it wrote."""

    def __init__(self, client: Client, *, cache: SensorCache, now: Callable[[], datetime]) -> None:
        self._client = client
        self._cache = cache
        self._now = now
        # What others keep changing, by uid.
        self._histories: dict[str, History] = {}
        # Objects that Kubernetes keeps in another form than they were applied in: (kind, uid) → what was written, and which
        # state of the object resulted. They are as desired for as long as neither changes.
        self._normalised: dict[tuple[str, str], tuple[str, str]] = {}

    async def find(self, kind: Kind, sensor: Sensor, *, name: str | None = None) -> Object | None:
        """Return the object as last seen; if it was not seen, ask Kubernetes. Without ``name``, the one that is named
        after the Sensor.
        """
        found = self._cache.child(kind, sensor.ref, name=name)
        if found is None:
            name = name or child_name(kind, sensor.ref)
            found = await self._client.get(kind, sensor.metadata.namespace, name)
        return found

    async def named(self, sensor: Sensor, around: Environment) -> ObjectNames:
        """Return the names of the Sensor's objects: the usual ones, except where another Sensor was first to have it. An object
        that is there is never renamed.
        """
        usual, spec = common.usual_names(sensor), sensor.spec
        has_config = bool(companions.config_files(sensor, around))
        return ObjectNames(
            config=await self._name(CONFIG_MAP, sensor, usual.config) if has_config else usual.config,
            scripts=await self._name(CONFIG_MAP, sensor, usual.scripts) if spec.scripts else usual.scripts,
            service=await self._name(SERVICE, sensor, usual.service) if spec.ports else usual.service,
        )

    async def _name(self, kind: Kind, sensor: Sensor, usual: str) -> str:
        other = names.other_object_name(sensor.metadata.name, usual)
        if (found := await self.find(kind, sensor, name=usual)) is not None:
            owner = _owner(found) or {}
            others = owner.get("kind") == "Sensor" and owner.get("name") != sensor.metadata.name
            return other if others else usual
        kept = self._cache.child(kind, sensor.ref, name=other)
        ours = kept is not None and (_owner(kept) or {}).get("uid") == sensor.metadata.uid
        return other if ours else usual

    async def ensure(self, kind: Kind, sensor: Sensor, desired: Object, *, renewed: bool = False) -> Outcome:
        """Bring the object to its desired state; do nothing if it has it. ``renewed``: its content is new on purpose.

        Raises:
            NameTakenError: the object belongs to somebody else.
            ClusterError: Kubernetes could not be reached or refused.
        """
        found = await self.find(kind, sensor, name=desired["metadata"]["name"])
        if found is not None and (
            claim(found, sensor) == "stale" or found.get("immutable") or found["metadata"].get("deletionTimestamp")
        ):
            # It cannot be changed, or will be gone in a moment: delete it and create a new one.
            metadata = found["metadata"]
            await self._client.delete(kind, metadata["namespace"], metadata["name"], uid=metadata["uid"])
            self._cache.remove(kind, found)
            found = None
        if kind is DEPLOYMENT:
            desired = difference.scaled(found, desired)
        uid = found["metadata"]["uid"] if found is not None else ""
        history = self._histories.get(uid)
        if found is not None and self._is_as_desired(found, desired):
            if history is not None and insistence.calm(history, now=self._now()):
                del self._histories[uid]
                history = None
            return Outcome(object=found, change=None, contested=_contested(kind, history))
        if found is not None and kind is not SECRET and not renewed and _applied(found) == _applied(desired):
            if (seconds := insistence.wait(history, now=self._now())) > 0:
                return Outcome(object=found, change=None, contested=_contested(kind, history), again_in=seconds)
            history = insistence.repaired(
                history,
                by=difference.foreign_managers(found),
                fields=difference.foreign_fields(found),
                now=self._now(),
            )
            self._histories[uid] = history
            while len(self._histories) > _REMEMBERED:
                del self._histories[next(iter(self._histories))]
        written = await self._write(kind, desired)
        self._remember(written, desired)
        self._cache.put(kind, written)
        change, detail = _describe(found, desired, renewed=renewed)
        metrics.WRITES.labels(kind.kind, change.lower()).inc()
        _log.info(
            "object_written", kind=kind.kind, sensor=str(sensor.ref), change=change, detail=detail,
            name=desired["metadata"]["name"],
        )  # fmt: skip
        return Outcome(object=written, change=change, detail=detail, contested=_contested(kind, history))

    async def _write(self, kind: Kind, desired: Object) -> Object:
        for _ in range(_ATTEMPTS):
            written = await self._client.apply(kind, desired)
            if not difference.foreign_managers(written):
                return written
            # Applying restores our fields. Fields that others added stay, unless the whole object is replaced.
            try:
                return await self._client.replace(kind, difference.without_foreign_fields(written, desired))
            except ClusterError as error:
                # Its controller wrote the status in the meantime.
                if error.status != _CONFLICT:
                    raise
        name = desired["metadata"]["name"]
        raise ClusterError(f"the {kind.kind} {name} changed during every attempt to repair it", status=_CONFLICT)

    def _state(self, found: Object) -> str:
        metadata = found["metadata"]
        return str(metadata.get("generation") or metadata.get("resourceVersion"))

    def _is_as_desired(self, found: Object, desired: Object) -> bool:
        if difference.is_applied(found, desired):
            return True
        normalised = self._normalised.get((found.get("kind", ""), found["metadata"]["uid"]))
        return normalised == (_applied(desired), self._state(found)) and _applied(found) == _applied(desired)

    def _remember(self, written: Object, desired: Object) -> None:
        key = (written.get("kind", ""), written["metadata"]["uid"])
        self._normalised.pop(key, None)
        if _applied(desired) and not difference.is_applied(written, desired):
            _log.info("object_kept_in_another_form", kind=key[0], name=written["metadata"]["name"])
            self._normalised[key] = (_applied(desired), self._state(written))
            while len(self._normalised) > _REMEMBERED:
                del self._normalised[next(iter(self._normalised))]

    async def remove(self, kind: Kind, sensor: Sensor, *, name: str | None = None) -> Outcome:
        """Delete the object if it is ours. Without ``name``, the one that is named after the Sensor."""
        found = self._cache.child(kind, sensor.ref, name=name)
        owner = _owner(found) if found is not None else None
        if found is None or owner is None or owner.get("uid") != sensor.metadata.uid:
            return Outcome(object=None, change=None)
        metadata = found["metadata"]
        await self._client.delete(kind, metadata["namespace"], metadata["name"], uid=metadata["uid"])
        self._cache.remove(kind, found)
        metrics.WRITES.labels(kind.kind, "removed").inc()
        return Outcome(object=None, change="Removed", detail="the Sensor no longer needs it")


def _contested(kind: Kind, history: History | None) -> str:
    return "" if history is None else insistence.sentence(kind.kind, history) or ""


def _applied(found: Object) -> str:
    return str((found["metadata"].get("annotations") or {}).get(APPLIED, ""))


def _describe(found: Object | None, desired: Object, *, renewed: bool) -> tuple[Change, str]:
    if found is None:
        return "Created", ""
    if renewed or _applied(found) != _applied(desired):
        return "Updated", ""
    others = difference.foreign_managers(found)
    return "Repaired", f"it was changed by {', '.join(others)}" if others else "it was changed"
