"""How many Rules each Sensor serves, runs and refused, counted as statuses change."""

from collections import Counter
from dataclasses import dataclass, field

from attune_contract.identity import SensorRef
from attune_contract.names import ActiveReason
from attune_operator.rules import rule_metrics as metrics


@dataclass(frozen=True, slots=True)
class Standing:
    """What counts about one Rule: who serves it (None: nobody) and the reason of its condition Active."""

    sensor: SensorRef | None
    reason: str


@dataclass(slots=True)
class SensorTally:
    """One Sensor's numbers, the Rules bound to it, and when its latest event occurred."""

    bound: set[str] = field(default_factory=set)
    active: int = 0
    rejected: int = 0
    last_event_time: str = ""


class Tally:
    """The numbers of all Sensors. Changes are returned as the refs whose numbers are others now."""

    def __init__(self) -> None:
        self._standings: dict[str, Standing] = {}
        self._sensors: dict[SensorRef, SensorTally] = {}
        self._reasons: Counter[str] = Counter()

    def of(self, ref: SensorRef) -> SensorTally:
        """One Sensor's numbers."""
        return self._sensors.get(ref) or SensorTally()

    def standing(self, uid: str) -> Standing | None:
        """What was counted of a Rule."""
        return self._standings.get(uid)

    def count(self, uid: str, standing: Standing | None) -> set[SensorRef]:
        """Count a Rule as it stands now; None: it is gone."""
        before = self._standings.get(uid)
        if before == standing:
            return set()
        changed = set()
        if before is not None:
            self._reasons[before.reason] -= 1
            metrics.RULES.labels(before.reason).set(self._reasons[before.reason])
            changed |= self._add(uid, before, -1)
        if standing is None:
            self._standings.pop(uid, None)
        else:
            self._standings[uid] = standing
            self._reasons[standing.reason] += 1
            metrics.RULES.labels(standing.reason).set(self._reasons[standing.reason])
            changed |= self._add(uid, standing, 1)
        return changed

    def _add(self, uid: str, standing: Standing, amount: int) -> set[SensorRef]:
        if standing.sensor is None:
            return set()
        tally = self._sensors.setdefault(standing.sensor, SensorTally())
        if amount > 0:
            tally.bound.add(uid)
        else:
            tally.bound.discard(uid)
        tally.active += amount * (standing.reason == ActiveReason.ACTIVE)
        tally.rejected += amount * (standing.reason == ActiveReason.REJECTED)
        return {standing.sensor}

    def see_event(self, ref: SensorRef, time: str) -> bool:
        """An event of a Sensor occurred (RFC 3339, UTC); returns whether it is the latest."""
        tally = self._sensors.setdefault(ref, SensorTally())
        if time <= tally.last_event_time:
            return False
        tally.last_event_time = time
        return True

    def forget(self, ref: SensorRef) -> None:
        """The Sensor is gone. Rules that are still counted for it keep its numbers until they are counted anew."""
        tally = self._sensors.get(ref)
        if tally is not None and not tally.bound:
            del self._sensors[ref]
