"""Which Rules have a place at their Sensor, where quotas limit how many it serves (docs/tenancy.md, "Quotas"). Pure.

Older Rules keep their places: nobody loses one because another tenant creates Rules, and of equally old ones the uid decides.
A place that becomes free goes to the oldest Rule without one. First each namespace has its limit, then the Sensor: what is
above a namespace's limit takes no place from others.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from attune_contract.identity import SensorRef
from attune_contract.quotas import Quotas

_Key = tuple[float, str]


@dataclass(frozen=True, slots=True)
class Seat:
    """What decides about a Rule's place.

    Attributes:
        sensor: the Sensor that it is bound to.
        namespace: the Rule's.
        created_at: when it was created.
        process: whether the Sensor runs a process for each Rule.
    """

    sensor: SensorRef
    namespace: str
    created_at: datetime
    process: bool = False


@dataclass(slots=True)
class _OfSensor:
    process: bool
    by_namespace: dict[str, list[_Key]] = field(default_factory=dict)
    within: list[_Key] = field(default_factory=list)  # those that their namespaces' limits let through


class Places:
    """The Rules of all Sensors in the order of their age. Without limits it remembers nothing.

    Args:
        quotas: the limits.
    """

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self.active: Final = quotas.limits_rules
        self._sensors: dict[SensorRef, _OfSensor] = {}
        self._seats: dict[str, Seat] = {}

    def put(self, uid: str, seat: Seat | None) -> set[str]:
        """A Rule is bound as ``seat`` says; None: to no Sensor, or it is gone.

        Returns:
            Other Rules that got a place by this, or lost theirs.
        """
        before = self._seats.get(uid)
        if not self.active:
            return set()
        changed: set[str] = set()
        if before is not None and before != seat:
            changed |= self._remove(uid, before)
            del self._seats[uid]
        if seat is not None:
            changed |= self._process(seat)
            if before != seat:
                self._seats[uid] = seat
                changed |= self._add(uid, seat)
        changed.discard(uid)
        return changed

    def refusal(self, uid: str) -> str | None:
        """Why the Rule has no place, as a sentence; None if it has one."""
        seat = self._seats.get(uid)
        if seat is None:
            return None
        of_sensor, key = self._sensors[seat.sensor], _key(uid, seat)
        limit = self._quotas.rules_per_sensor_of(seat.namespace)
        if limit and bisect_left(of_sensor.by_namespace[seat.namespace], key) >= limit:
            what = f"serves at most {_rules(limit)} of the namespace {seat.namespace}"
            return _sentence(seat.sensor, what, "rulesPerSensor")
        total, value = self._total(of_sensor)
        if total and bisect_left(of_sensor.within, key) >= total:
            process = value == "processesPerSensor"
            what = (
                f"runs at most {total} processes, one for each Rule" if process else f"serves at most {_rules(total)}"
            )
            return _sentence(seat.sensor, what, value)
        return None

    @property
    def refused(self) -> int:
        """How many Rules have no place."""
        return len(self._seats) - sum(
            min(len(each.within), self._total(each)[0] or len(each.within)) for each in self._sensors.values()
        )

    def _total(self, of_sensor: _OfSensor) -> tuple[int, str]:
        """The Sensor's own limit, and the value that says it; 0: none."""
        limits = [(self._quotas.rules_per_sensor_total, "rulesPerSensorTotal")]
        if of_sensor.process:
            limits.append((self._quotas.processes_per_sensor, "processesPerSensor"))
        return min((each for each in limits if each[0]), default=(0, ""))

    def _process(self, seat: Seat) -> set[str]:
        """The Sensor runs a process for each Rule from now on, or no longer."""
        of_sensor = self._sensors.setdefault(seat.sensor, _OfSensor(process=seat.process))
        if of_sensor.process == seat.process:
            return set()
        before = self._total(of_sensor)[0] or len(of_sensor.within)
        of_sensor.process = seat.process
        after = self._total(of_sensor)[0] or len(of_sensor.within)
        return {uid for _, uid in of_sensor.within[min(before, after) : max(before, after)]}

    def _add(self, uid: str, seat: Seat) -> set[str]:
        of_sensor, key = self._sensors[seat.sensor], _key(uid, seat)
        keys = of_sensor.by_namespace.setdefault(seat.namespace, [])
        insort(keys, key)
        limit = self._quotas.rules_per_sensor_of(seat.namespace)
        if not limit or len(keys) <= limit:
            return self._let_in(of_sensor, key)
        if bisect_left(keys, key) >= limit:
            return set()
        out = keys[limit]
        return {out[1]} | self._leave(of_sensor, out) | self._let_in(of_sensor, key)

    def _remove(self, uid: str, seat: Seat) -> set[str]:
        of_sensor, key = self._sensors[seat.sensor], _key(uid, seat)
        keys = of_sensor.by_namespace[seat.namespace]
        place = bisect_left(keys, key)
        del keys[place]
        if not keys:
            del of_sensor.by_namespace[seat.namespace]
        limit = self._quotas.rules_per_sensor_of(seat.namespace)
        changed: set[str] = set()
        if not limit or place < limit:
            changed |= self._leave(of_sensor, key)
            if limit and len(keys) >= limit:
                changed |= {keys[limit - 1][1]} | self._let_in(of_sensor, keys[limit - 1])
        if not of_sensor.by_namespace:
            del self._sensors[seat.sensor]
        return changed

    def _let_in(self, of_sensor: _OfSensor, key: _Key) -> set[str]:
        insort(of_sensor.within, key)
        total = self._total(of_sensor)[0]
        if total and len(of_sensor.within) > total and bisect_left(of_sensor.within, key) < total:
            return {of_sensor.within[total][1]}
        return set()

    def _leave(self, of_sensor: _OfSensor, key: _Key) -> set[str]:
        place = bisect_left(of_sensor.within, key)
        del of_sensor.within[place]
        total = self._total(of_sensor)[0]
        if total and place < total <= len(of_sensor.within):
            return {of_sensor.within[total - 1][1]}
        return set()


def _key(uid: str, seat: Seat) -> _Key:
    return seat.created_at.timestamp(), uid


def _rules(number: int) -> str:
    return "1 Rule" if number == 1 else f"{number} Rules"


def _sentence(sensor: SensorRef, what: str, value: str) -> str:
    return (
        f"The Sensor {sensor} {what}, and older ones have all places. The rule takes a place by itself when one is free: "
        f"delete an older one, or let an administrator raise the chart value quotas.{value} (docs/tenancy.md)."
    )
