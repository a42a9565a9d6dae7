"""What the Sensor side sees of each Sensor's Rules, and what it showed us of the Sensor's pods."""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from attune_contract.identity import SensorRef
from attune_contract.messages import SensorHealth
from attune_operator.rules.cache import RuleCache
from attune_operator.rules.counters import Counters
from attune_operator.rules.entry import RuleCount, RuleEntry
from attune_operator.rules.health import SensorHealthCache
from attune_operator.rules.records import parse_time
from attune_operator.runtime.queue import PriorityQueue
from attune_operator.runtime.views import HealthView, RuleSummary, SensorRuntime, SummaryListener

_log = structlog.stdlib.get_logger(__name__)

SYNCED: Final = "Synced"
NATS_UNAVAILABLE: Final = "NatsUnavailable"
PUBLISH_FAILED: Final = "PublishFailed"
PENDING: Final = "Pending"
#: Seconds between notices of a Sensor of which only the latest event changed.
_EVENT_NOTICES: Final = 30.0
#: Seconds between checks of which sensors are silent.
_HEALTH_CHECKS: Final = 2.0
_NEVER: Final = -1e9


class Summaries:
    """Numbers, pods and health by Sensor, and whether the rule stream is in sync.

    Args:
        cache: what is known of each Rule and of the stream.
        queues: while Rules wait in one of these, the stream does not count as in sync.
        listener: called with the Sensors whose :meth:`summary` may have changed.
        interval: seconds between two calls of ``listener`` for one Sensor.
    """

    def __init__(
        self,
        *,
        cache: RuleCache,
        queues: Iterable[PriorityQueue[str]],
        listener: SummaryListener,
        interval: float,
    ) -> None:
        self._cache = cache
        self._queues = tuple(queues)
        self._listener = listener
        self._interval = interval
        self._counters = Counters()
        self._runtimes: dict[SensorRef, SensorRuntime] = {}
        self._reports = SensorHealthCache()
        self._health: dict[SensorRef, HealthView] = {}
        self._health_checked = _NEVER
        self._synced = False
        self._connected_at = 0
        self._refused = 0
        self._changed: set[SensorRef] = set()
        self._with_events: set[SensorRef] = set()
        self._events_notified = _NEVER

    # -- pods

    def see_runtime(self, ref: SensorRef, runtime: SensorRuntime) -> bool:
        """Remember the state of a Sensor's pods; returns whether its Rules' conditions may change by it."""
        before = self._runtimes.get(ref)
        self._runtimes[ref] = runtime
        if before is None or (before.ready_replicas > 0) != (runtime.ready_replicas > 0):
            return True
        return runtime.ready_replicas < 1 and before.message != runtime.message

    def runtime(self, ref: SensorRef) -> SensorRuntime | None:
        """The state of a Sensor's pods; None while it is not known."""
        return self._runtimes.get(ref)

    # -- numbers

    def count(self, entry: RuleEntry, count: RuleCount | None) -> None:
        """Count a Rule as it is now; None: it is gone."""
        self.changed(self._counters.count(entry, count))

    def bound(self, ref: SensorRef) -> list[str]:
        """The uids of the Rules that are bound to a Sensor."""
        return list(self._counters.of(ref).bound)

    def see_event(self, ref: SensorRef, time: str) -> None:
        """An event of a Sensor occurred at this time."""
        if self._counters.see_event(ref, time):
            self._with_events.add(ref)

    def forget(self, ref: SensorRef) -> None:
        """The Sensor is gone."""
        self._runtimes.pop(ref, None)
        self._health.pop(ref, None)
        self._counters.forget(ref)

    # -- health

    def put_health(self, binding: str, health: SensorHealth) -> None:
        """A sensor reported its health."""
        if self._reports.put(binding, health, now=asyncio.get_running_loop().time()):
            self._health_checked = _NEVER

    def departed(self) -> list[tuple[str, str]]:
        """Forget the reports of pods that are gone; returns them as (binding, instance)."""
        living = {
            ref.token: runtime.instances if (runtime := self._runtimes.get(ref)) is not None else None
            for ref in self._cache.sensors
        }
        return self._reports.departed(living=living, now=asyncio.get_running_loop().time())

    def _judge_health(self, now: float) -> None:
        self._health_checked = now
        if not self._synced:
            return  # without a connection there are no reports, and before the first comparison no Rule is bound
        for ref in self._cache.sensors:
            health = self._reports.judge(
                ref, runtime=self._runtimes.get(ref), bound=len(self._counters.of(ref).bound), now=now
            )
            if self._health.get(ref) != health:
                self._health[ref] = health
                self.changed({ref})

    # -- the rule stream

    def connected(self) -> None:
        """The rule stream can be used; the comparison begins."""
        self._synced = False
        self._connected_at = self._cache.tick
        self._reports.begin(now=asyncio.get_running_loop().time())
        self.changed(self._cache.sensors)

    def disconnected(self) -> None:
        """The rule stream cannot be used."""
        self._synced = False
        self.changed(self._cache.sensors)

    def changed(self, refs: Iterable[SensorRef]) -> None:
        """The summaries of these Sensors may have changed."""
        self._changed.update(refs)

    def summary(self, ref: SensorRef) -> RuleSummary:
        """What is known about a Sensor's Rules now."""
        numbers = self._counters.of(ref)
        synced, reason, message = self._sync(ref, len(numbers.bound))
        return RuleSummary(
            bound=len(numbers.bound),
            active=numbers.active,
            rejected=numbers.rejected,
            synced=synced,
            reason=reason,
            message=message,
            last_event_time=parse_time(numbers.last_event_time) if numbers.last_event_time else None,
            health=self._known_health(ref),
        )

    def _known_health(self, ref: SensorRef) -> HealthView | None:
        """The health as reported; without NATS nobody reports, and it is not known what the sensor reaches."""
        outage = self._cache.stream.outage
        if self._cache.stream.connected or not outage or ref not in self._health:
            return self._health.get(ref)
        return HealthView(
            reason=NATS_UNAVAILABLE,
            message=f"It is not known what the sensor reaches, because the operator cannot reach NATS: {outage}",
        )

    def _sync(self, ref: SensorRef, bound: int) -> tuple[bool | None, str, str]:
        stream = self._cache.stream
        if not stream.connected and stream.outage:
            return False, NATS_UNAVAILABLE, stream.outage
        if not stream.connected or not self._synced:
            return None, PENDING, "The rules are being compared with the stream."
        refused = [
            entry.refusal
            for uid in stream.refused
            if (entry := self._cache.get(uid)) is not None and entry.count is not None and entry.count.sensor == ref
        ]
        if refused:
            return False, PUBLISH_FAILED, f"NATS refuses {len(refused)} of {bound} rules: {refused[0]}."
        return True, SYNCED, f"The rule stream holds the {bound} rules that are bound to this Sensor."

    async def run(self) -> None:
        """Notify the listener of changes until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            self._notice_progress()
            now = asyncio.get_running_loop().time()
            if now - self._health_checked > _HEALTH_CHECKS:
                self._judge_health(now)
            if now - self._events_notified > _EVENT_NOTICES and self._with_events:
                self._events_notified = now
                self.changed(self._with_events)
                self._with_events.clear()
            changed, self._changed = self._changed, set()
            for ref in changed:
                try:
                    self._listener(ref)
                except Exception:
                    _log.exception("summary_listener_failed", sensor=str(ref))

    def _notice_progress(self) -> None:
        stream = self._cache.stream
        if not stream.connected:
            return
        # What the stream had is compared only when a list that began after reading it has come.
        compared = self._cache.listed > self._connected_at and not stream.contested
        if not self._synced and compared and not stream.in_flight and not any(self._queues):
            self._synced = True
            self.changed(self._cache.sensors)
        if self._refused or stream.refused:
            self._refused = len(stream.refused)
            self.changed(self._cache.sensors)
