"""How many Rules each Sensor serves, runs and refused, counted as statuses change."""

from collections import Counter
from dataclasses import dataclass, field

from attune_contract.identity import SensorRef
from attune_contract.names import ActiveReason
from attune_operator.rules import metrics
from attune_operator.rules.entry import RuleCount, RuleEntry


@dataclass(slots=True)
class SensorCounters:
    """One Sensor's numbers, the Rules bound to it, and when its latest event occurred."""

    bound: set[str] = field(default_factory=set)
    active: int = 0
    rejected: int = 0
    last_event_time: str = ""


class Counters:
    """The numbers of all Sensors. Changes are returned as the refs whose numbers changed."""

    def __init__(self) -> None:
        self._sensors: dict[SensorRef, SensorCounters] = {}
        self._reasons: Counter[str] = Counter()

    def of(self, ref: SensorRef) -> SensorCounters:
        """One Sensor's numbers."""
        return self._sensors.get(ref) or SensorCounters()

    def count(self, entry: RuleEntry, count: RuleCount | None) -> set[SensorRef]:
        """Count a Rule as it is now; None: it is gone."""
        before = entry.count
        if before == count:
            return set()
        entry.count = count
        changed = set()
        if before is not None:
            changed |= self._add(entry.uid, before, -1)
        if count is not None:
            changed |= self._add(entry.uid, count, 1)
        return changed

    def _add(self, uid: str, count: RuleCount, amount: int) -> set[SensorRef]:
        self._reasons[count.reason] += amount
        metrics.RULES.labels(count.reason).set(self._reasons[count.reason])
        if count.sensor is None:
            return set()
        numbers = self._sensors.setdefault(count.sensor, SensorCounters())
        if amount > 0:
            numbers.bound.add(uid)
        else:
            numbers.bound.discard(uid)
        numbers.active += amount * (count.reason in (ActiveReason.ACTIVE, ActiveReason.QUOTA_EXCEEDED))
        numbers.rejected += amount * (count.reason == ActiveReason.REJECTED)
        return {count.sensor}

    def see_event(self, ref: SensorRef, time: str) -> bool:
        """An event of a Sensor occurred (RFC 3339, UTC); returns whether it is the latest."""
        numbers = self._sensors.setdefault(ref, SensorCounters())
        if time <= numbers.last_event_time:
            return False
        numbers.last_event_time = time
        return True

    def forget(self, ref: SensorRef) -> None:
        """The Sensor is gone. Rules that still count for it keep its numbers until they are counted again."""
        numbers = self._sensors.get(ref)
        if numbers is not None and not numbers.bound:
            del self._sensors[ref]
