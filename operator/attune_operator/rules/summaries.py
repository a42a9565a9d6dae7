"""What the Sensor side is told of each Sensor's Rules, and what it told us of its pods."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from attune_contract.identity import SensorRef
from attune_contract.messages import SensorHealth
from attune_operator.rules.health import HealthBook
from attune_operator.rules.inventory import Inventory
from attune_operator.rules.projector import Projector
from attune_operator.rules.records import parse_time
from attune_operator.rules.tally import Standing, Tally
from attune_operator.runtime.views import HealthView, RuleSummary, SensorRuntime, SummaryListener

log = structlog.stdlib.get_logger(__name__)

SYNCED: Final = "Synced"
NATS_UNAVAILABLE: Final = "NatsUnavailable"
PUBLISH_FAILED: Final = "PublishFailed"
PENDING: Final = "Pending"
#: Seconds between notices of a Sensor whose latest event alone changed.
_EVENT_NOTICES: Final = 30.0
#: Seconds between looks at who is silent.
_HEALTH_LOOKS: Final = 2.0


class Summaries:
    """Numbers, pods and the state of the rule stream, by Sensor."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        listener: SummaryListener,
        interval: float,
        settled: Callable[[], bool],
    ) -> None:
        self._inventory = inventory
        self._listener = listener
        self._interval = interval
        self._settled = settled
        self._tally = Tally()
        self._runtimes: dict[SensorRef, SensorRuntime] = {}
        self._projector: Projector | None = None
        self._projected = False
        self._outage = ""
        self._connected_at = 0
        self._failing = 0
        self._changed: set[SensorRef] = set()
        self._with_events: set[SensorRef] = set()
        self._events_told = -1e9
        self._book = HealthBook()
        self._health: dict[SensorRef, HealthView] = {}
        self._health_looked = -1e9

    # -- pods

    def see_runtime(self, ref: SensorRef, runtime: SensorRuntime) -> bool:
        """Remember how a Sensor's pods do; returns whether its Rules' conditions may differ by it."""
        before = self._runtimes.get(ref)
        self._runtimes[ref] = runtime
        if before is None or (before.ready_replicas > 0) != (runtime.ready_replicas > 0):
            return True
        return runtime.ready_replicas < 1 and before.message != runtime.message

    def runtime(self, ref: SensorRef) -> SensorRuntime | None:
        """How a Sensor's pods do; None while nobody said."""
        return self._runtimes.get(ref)

    # -- numbers

    def count(self, uid: str, standing: Standing | None) -> None:
        """Count a Rule as it stands now; None: it is gone."""
        self.changed(self._tally.count(uid, standing))

    def bound(self, ref: SensorRef) -> list[str]:
        """The Rules bound to a Sensor."""
        return list(self._tally.of(ref).bound)

    def see_event(self, ref: SensorRef, time: str) -> None:
        """An event of a Sensor occurred then."""
        if self._tally.see_event(ref, time):
            self._with_events.add(ref)

    def forget(self, ref: SensorRef) -> None:
        """The Sensor is gone."""
        self._runtimes.pop(ref, None)
        self._health.pop(ref, None)
        self._tally.forget(ref)

    # -- how they fare by their own word

    def hear(self, binding: str, health: SensorHealth) -> None:
        """A sensor said how it fares."""
        if self._book.hear(binding, health, now=asyncio.get_running_loop().time()):
            self._health_looked = -1e9

    def departed(self) -> list[tuple[str, str]]:
        """Words of pods that are gone, as (binding, instance); nothing more is known of them after this."""
        living = {
            ref.token: runtime.instances if (runtime := self._runtimes.get(ref)) is not None else None
            for ref in self._inventory.sensors
        }
        return self._book.departed(living=living, now=asyncio.get_running_loop().time())

    def _judge_health(self, now: float) -> None:
        self._health_looked = now
        if not self._projected:
            return  # without a connection nobody is heard, and before the first comparison no Rule is bound
        for ref in self._inventory.sensors:
            health = self._book.judge(
                ref, runtime=self._runtimes.get(ref), bound=len(self._tally.of(ref).bound), now=now
            )
            if self._health.get(ref) != health:
                self._health[ref] = health
                self.changed({ref})

    # -- the rule stream

    @property
    def outage(self) -> str:
        """Why the rule stream cannot be used now, as a sentence; empty when it can."""
        return "" if self._projector is not None else self._outage

    def connected(self, projector: Projector) -> None:
        """The rule stream can be used; comparing has begun."""
        self._projector, self._projected, self._outage = projector, False, ""
        self._connected_at = self._inventory.tick
        self._book.begin(now=asyncio.get_running_loop().time())
        self.changed(self._inventory.sensors)

    def disconnected(self, why: str) -> None:
        """The rule stream cannot be used."""
        self._projector, self._projected, self._outage = None, False, why
        self.changed(self._inventory.sensors)

    def changed(self, refs: Iterable[SensorRef]) -> None:
        """The summaries of these Sensors may be others now."""
        self._changed.update(refs)

    def summary(self, ref: SensorRef) -> RuleSummary:
        """What is known about a Sensor's Rules now."""
        tally = self._tally.of(ref)
        synced, reason, message = self._sync(ref, len(tally.bound))
        return RuleSummary(
            bound=len(tally.bound),
            active=tally.active,
            rejected=tally.rejected,
            synced=synced,
            reason=reason,
            message=message,
            last_event_time=parse_time(tally.last_event_time) if tally.last_event_time else None,
            health=self._health.get(ref),
        )

    def _sync(self, ref: SensorRef, bound: int) -> tuple[bool | None, str, str]:
        if self._projector is None and self._outage:
            return False, NATS_UNAVAILABLE, self._outage
        if self._projector is None or not self._projected:
            return None, PENDING, "The rules are being compared with the stream."
        failing = [
            why
            for uid, why in self._projector.failures.items()
            if (standing := self._tally.standing(uid)) is not None and standing.sensor == ref
        ]
        if failing:
            return False, PUBLISH_FAILED, f"NATS refuses {len(failing)} of {bound} rules: {failing[0]}."
        return True, SYNCED, f"The rule stream holds the {bound} rules that are bound to this Sensor."

    async def run(self) -> None:
        """Tell of changes, each Sensor at most once in an interval."""
        while True:
            await asyncio.sleep(self._interval)
            self._notice_progress()
            now = asyncio.get_running_loop().time()
            if now - self._health_looked > _HEALTH_LOOKS:
                self._judge_health(now)
            if now - self._events_told > _EVENT_NOTICES and self._with_events:
                self._events_told = now
                self.changed(self._with_events)
                self._with_events.clear()
            changed, self._changed = self._changed, set()
            for ref in changed:
                try:
                    self._listener(ref)
                except Exception:
                    log.exception("summary_listener_failed", sensor=str(ref))

    def _notice_progress(self) -> None:
        if self._projector is None:
            return
        # What the stream had was compared only when a list that began after reading it has come.
        compared = self._inventory.listed > self._connected_at and not self._projector.contested_rules
        if not self._projected and compared and self._settled() and self._projector.idle:
            self._projected = True
            self.changed(self._inventory.sensors)
        if self._failing or self._projector.failures:
            self._failing = len(self._projector.failures)
            self.changed(self._inventory.sensors)
