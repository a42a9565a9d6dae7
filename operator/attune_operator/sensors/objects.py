"""Brings one object of a Sensor to what it should be: creates, updates, repairs, and refuses to take what is another's."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog

from attune_contract import names
from attune_contract.resources import Sensor
from attune_operator.resources import difference
from attune_operator.resources.common import APPLIED
from attune_operator.resources.kinds import Kind, Object
from attune_operator.runtime import metrics
from attune_operator.runtime.client import Client, ClusterError
from attune_operator.sensors.cache import SensorCache, child_name

_log = structlog.stdlib.get_logger(__name__)

Change = Literal["Created", "Updated", "Repaired", "Removed"]
_REMEMBERED: Final = 10_000
_CONFLICT: Final = 409
_ATTEMPTS: Final = 5


class NameTakenError(Exception):
    """An object of the name that is needed belongs to somebody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The object as it is now, and what was done to it (None: nothing)."""

    object: Object | None
    change: Change | None
    detail: str = ""


def _owner(found: Object) -> dict[str, Any] | None:
    owners = found["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def claim(found: Object, sensor: Sensor) -> Literal["ours", "stale"]:
    """Whose an object of our name is: ``ours``, or ``stale``: left of a Sensor of this name that was deleted.

    Raises:
        NameTakenError: it is somebody else's.
    """
    owner = _owner(found)
    if owner is None:
        # What lost its owner (kubectl delete --cascade=orphan) is taken up again; what never had our label is not ours.
        if (found["metadata"].get("labels") or {}).get(names.MANAGED_BY_LABEL) == names.MANAGED_BY:
            return "ours"
    elif owner.get("uid") == sensor.metadata.uid:
        return "ours"
    elif owner.get("kind") == "Sensor" and owner.get("name") == sensor.metadata.name:
        return "stale"
    kind, name = found.get("kind", "object"), found["metadata"]["name"]
    raise NameTakenError(
        f"A {kind} named {name} is there already and does not belong to this Sensor; delete or rename it, or rename the Sensor."
    )


class Objects:
    """Writes a Sensor's objects through one client, and remembers what it wrote."""

    def __init__(self, client: Client, *, cache: SensorCache) -> None:
        self._client = client
        self._cache = cache
        # Objects that Kubernetes keeps in another form than they were applied in: (kind, uid) → what was written, and which
        # state of the object came of it. They are as wanted for as long as neither changes.
        self._settled: dict[tuple[str, str], tuple[str, str]] = {}

    async def find(self, kind: Kind, sensor: Sensor, *, name: str | None = None) -> Object | None:
        """The object as last seen; where nothing was seen, Kubernetes is asked. Without ``name``, the one that is named
        after the Sensor.
        """
        found = self._cache.child(kind, sensor.ref, name=name)
        if found is None:
            name = name or child_name(kind, sensor.ref)
            found = await self._client.get(kind, sensor.metadata.namespace, name)
        return found

    async def ensure(self, kind: Kind, sensor: Sensor, wanted: Object, *, renewed: bool = False) -> Outcome:
        """Make the object what is wanted, and do nothing when it is. ``renewed``: its content is new on purpose.

        Raises:
            NameTakenError: there is one that belongs to somebody else.
            ClusterError: Kubernetes could not be reached or refused.
        """
        found = await self.find(kind, sensor, name=wanted["metadata"]["name"])
        if found is not None and (
            claim(found, sensor) == "stale" or found.get("immutable") or found["metadata"].get("deletionTimestamp")
        ):
            # It cannot be changed, or will be gone in a moment: away with it, and a new one in its place.
            metadata = found["metadata"]
            await self._client.delete(kind, metadata["namespace"], metadata["name"], uid=metadata["uid"])
            self._cache.remove(kind, found)
            found = None
        if found is not None and self._is_settled(found, wanted):
            return Outcome(object=found, change=None)
        written = await self._write(kind, wanted)
        self._remember(written, wanted)
        self._cache.put(kind, written)
        change, detail = _describe(found, wanted, renewed=renewed)
        metrics.WRITES.labels(kind.kind, change.lower()).inc()
        _log.info(
            "object_written", kind=kind.kind, sensor=str(sensor.ref), change=change, detail=detail,
            name=wanted["metadata"]["name"],
        )  # fmt: skip
        return Outcome(object=written, change=change, detail=detail)

    async def _write(self, kind: Kind, wanted: Object) -> Object:
        for _ in range(_ATTEMPTS):
            written = await self._client.apply(kind, wanted)
            if not difference.strangers(written):
                return written
            # Applying gives back what is ours. What others added stays, unless the whole object is put.
            try:
                return await self._client.replace(kind, difference.without_strangers(written, wanted))
            except ClusterError as error:
                # Its controller wrote the status meanwhile.
                if error.status != _CONFLICT:
                    raise
        name = wanted["metadata"]["name"]
        raise ClusterError(f"the {kind.kind} {name} changed under every attempt to put it right", status=_CONFLICT)

    def _state(self, found: Object) -> str:
        metadata = found["metadata"]
        return str(metadata.get("generation") or metadata.get("resourceVersion"))

    def _is_settled(self, found: Object, wanted: Object) -> bool:
        if difference.as_wanted(found, wanted):
            return True
        settled = self._settled.get((found.get("kind", ""), found["metadata"]["uid"]))
        return settled == (_applied(wanted), self._state(found)) and _applied(found) == _applied(wanted)

    def _remember(self, written: Object, wanted: Object) -> None:
        key = (written.get("kind", ""), written["metadata"]["uid"])
        self._settled.pop(key, None)
        if _applied(wanted) and not difference.as_wanted(written, wanted):
            _log.info("object_kept_in_another_form", kind=key[0], name=written["metadata"]["name"])
            self._settled[key] = (_applied(wanted), self._state(written))
            while len(self._settled) > _REMEMBERED:
                del self._settled[next(iter(self._settled))]

    async def remove(self, kind: Kind, sensor: Sensor, *, name: str | None = None) -> Outcome:
        """Delete the object if it is ours; one that was never there, or is another's, is none of our business. Without
        ``name``, the one that is named after the Sensor.
        """
        found = self._cache.child(kind, sensor.ref, name=name)
        owner = _owner(found) if found is not None else None
        if found is None or owner is None or owner.get("uid") != sensor.metadata.uid:
            return Outcome(object=None, change=None)
        metadata = found["metadata"]
        await self._client.delete(kind, metadata["namespace"], metadata["name"], uid=metadata["uid"])
        self._cache.remove(kind, found)
        metrics.WRITES.labels(kind.kind, "removed").inc()
        return Outcome(object=None, change="Removed", detail="the Sensor does not need it any more")


def _applied(found: Object) -> str:
    return str((found["metadata"].get("annotations") or {}).get(APPLIED, ""))


def _describe(found: Object | None, wanted: Object, *, renewed: bool) -> tuple[Change, str]:
    if found is None:
        return "Created", ""
    if renewed or _applied(found) != _applied(wanted):
        return "Updated", ""
    others = difference.strangers(found)
    return "Repaired", f"it had been changed by {', '.join(others)}" if others else "it had been changed"
