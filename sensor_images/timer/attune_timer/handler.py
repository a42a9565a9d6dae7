"""Serves timer rules: each becomes a timer of the one clock, and each occurrence an event."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from prometheus_client import Gauge

from attune_contract.calendar import zones
from attune_sensor import AckState, EventReport, Rule, SensorContext, event_id
from attune_timer import instants
from attune_timer.catch_up import CatchUp
from attune_timer.clock import ClockThread
from attune_timer.garbage import LongLived
from attune_timer.lateness import Lateness
from attune_timer.missed import Missed
from attune_timer.next_time import SPARSE, remark, worth_saying
from attune_timer.parameters import timer_of
from attune_timer.schedule import Occurrence
from attune_timer.timer_heap import GRACE_AT_START, Timer

#: With so many events not delivered yet, missed occurrences wait: they must not push newer events out of the spool.
_ROOM: Final = 5000
#: So many seconds after the first of many timers fired they say when they are due next, and so many at a time.
_SAY_AFTER: Final = 0.25
_SAID_AT_ONCE: Final = 100
#: A timer that skips what it missed waits so long (seconds) for the API. After that it fires all that is only late: what is
#: stored already is recognised by its id.
_PATIENCE: Final = 3.0
_NOTHING: Final[tuple[Occurrence | None, str]] = (None, "")


class TimerHandler:
    """A :class:`attune_sensor.RuleHandler` for timers.

    A rule that has something to catch up on is armed when the API has said which of its events is stored last, so that events
    come in order. What falls due meanwhile is fired then.

    Args:
        context: how events are reported.
        wall: the wall clock, in microseconds since 1970.
    """

    def __init__(self, context: SensorContext, *, wall: Callable[[], int] = instants.now) -> None:
        self._context = context
        self._wall = wall
        self._timers: dict[str, Timer] = {}
        self._long_lived = LongLived()
        self._lateness = Lateness(context.metrics.registry)
        self._said: dict[str, tuple[Occurrence | None, str]] = {}  # of those that said something
        self._moved: deque[Timer] = deque()  # fired, and due at another time than they said
        self._saying = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock = ClockThread(fire=self._fire, log=context.log, wall=wall, room=lambda: context.undelivered < _ROOM)
        self._late = CatchUp(last_events=context.last_events, arm=self._arm, name="catch-up", patience=_PATIENCE)
        self._missed = CatchUp(last_events=context.last_events, arm=self._arm, name="full catch-up")
        context.versions["tzdata"] = zones.version()
        context.add_live_check("clock", self._clock.problem)
        context.add_live_check("catch-up", lambda: self._late.problem() or self._missed.problem())
        Gauge(
            "attune_timer_tzdata", "1; the label is the version of the time zones", ["version"],
            registry=context.metrics.registry,
        ).labels(zones.version()).set(1)  # fmt: skip

    async def start(self, rule: Rule) -> None:
        """Arm the rule's timer.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        timer = timer_of(rule)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._clock.start()
            self._late.start()
            self._missed.start()
            self._context.log.info("time_zones", version=zones.version())
        self._disarm(rule.uid)
        self._timers[rule.uid] = timer
        now = self._wall()
        skip = timer.missed.missed is Missed.SKIP
        oldest = now - GRACE_AT_START - timer.jitter if skip else rule.since_us
        if timer.schedule.latest(after=max(rule.since_us, oldest), until=now) is None:
            self._arm(timer, now, None)
        else:
            (self._late if skip else self._missed).add(timer, since=now)

    async def update(self, old: Rule, new: Rule) -> None:
        """Arm the timer again; in between nothing fires.

        Raises:
            InvalidRuleError: the new parameters cannot be used.
        """
        await self.start(new)

    async def stop(self, rule: Rule) -> None:
        """Disarm the rule's timer."""
        self._disarm(rule.uid)

    async def close(self) -> None:
        """End the clock."""
        await self._late.close()
        await self._missed.close()
        self._clock.close()
        self._timers.clear()
        self._moved.clear()

    def _arm(self, timer: Timer, since: int, first: Occurrence | None) -> None:
        self._clock.add(timer, since=since, first=first)
        self._long_lived.one_more()
        if timer.next is None:
            self._complete(timer)
        else:
            self._say_next(timer)

    def _say_next(self, timer: Timer) -> None:
        """Say when a timer is due next, if it is worth saying or was said before."""
        uid, now, following = timer.rule.uid, self._wall(), timer.next
        if following is not None and following.at <= now:  # it has missed some, or is delayed
            following = timer.schedule.next(now)
        said = (worth_saying(timer.schedule, following, now=now), remark(following, now=now))
        before = self._said.get(uid, _NOTHING)
        if said == before:
            return
        if said[1] != before[1]:
            self._context.report(timer.rule, AckState.ACTIVE, said[1])
        self._context.next_occurrence(timer.rule, None if said[0] is None else instants.to_datetime(said[0].at))
        if said == _NOTHING:
            del self._said[uid]
        else:
            self._said[uid] = said

    def _say_moved(self) -> None:
        """Some timers have fired; say of a few of them when they are due next, then let others run."""
        for _ in range(min(len(self._moved), _SAID_AT_ONCE)):
            timer = self._moved.popleft()
            if self._timers.get(timer.rule.uid) is timer and timer.next is not None:
                self._say_next(timer)
        self._saying = False
        if self._moved:
            self._say_soon(0.01)

    def _say_soon(self, delay: float) -> None:
        if not self._saying:
            self._saying = True
            asyncio.get_running_loop().call_later(delay, self._say_moved)

    def _disarm(self, uid: str) -> None:
        timer = self._timers.pop(uid, None)
        self._said.pop(uid, None)
        if timer is not None and not self._late.discard(timer) and not self._missed.discard(timer):
            self._clock.remove(timer)

    def _complete(self, timer: Timer) -> None:
        rule = timer.rule
        if timer.schedule.next(rule.since_us) is None:
            why = "It never fires: its time was over when the Rule came into force."
            self._context.report(rule, AckState.COMPLETED, why)
        else:
            self._context.completed(rule)

    def _fire(self, timer: Timer, occurrence: Occurrence) -> None:
        """Report the occurrence; in the clock's thread."""
        self._context.emit_from_thread(event_of(timer.rule, occurrence, fired_at=self._wall(), data=timer.data))
        self._lateness.observe(due=timer.delayed(occurrence), reported=self._wall())
        following = timer.next
        if following is None:
            self._call_soon(self._ended, timer)
        elif following.at - occurrence.at >= SPARSE or timer.rule.uid in self._said:
            self._moved.append(timer)
            if len(self._moved) == 1:
                self._call_soon(self._say_soon, _SAY_AFTER)

    def _call_soon(self, call: Callable[..., None], argument: Any) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(call, argument)

    def _ended(self, timer: Timer) -> None:
        if self._timers.get(timer.rule.uid) is timer and timer.next is None:
            self._complete(timer)


def event_of(
    rule: Rule, occurrence: Occurrence, *, fired_at: int, data: Mapping[str, Any] | None = None
) -> EventReport:
    """The event of one occurrence. It occurred when it was scheduled; how late it was shows in the payload.

    Args:
        rule: the rule.
        occurrence: the occurrence.
        fired_at: when the timer came to it, in microseconds since 1970.
        data: what the rule's author wants in the event.
    """
    name = instants.text(occurrence.at)
    state = rule.state
    payload: dict[str, Any] = {"scheduled_at": name, "fired_at": instants.text(fired_at), "rule": rule.ref}
    if occurrence.k is not None:
        payload["k"] = occurrence.k
    if data is not None:
        payload["data"] = data
    return EventReport(
        id=event_id(state.uid, name),
        trigger_type=state.trigger_type,
        rule_uid=state.uid,
        rule_namespace=state.namespace,
        rule_name=state.name,
        occurred_at=instants.to_datetime(occurrence.at),
        payload=payload,
    )
