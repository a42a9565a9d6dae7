"""Serves timer rules: each becomes a timer of the one clock, and each occurrence an event."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from attune_sensor import EventReport, Rule, SensorContext, event_id
from attune_timer import instants
from attune_timer.clock import ClockThread
from attune_timer.garbage import LongLived
from attune_timer.missed import Missed
from attune_timer.parameters import timer_of
from attune_timer.schedule import Occurrence
from attune_timer.timer_heap import Timer

#: With so many events not delivered yet, missed occurrences wait: they must not push newer events out of the spool.
_ROOM: Final = 5000


class TimerHandler:
    """A :class:`attune_sensor.RuleHandler` for timers.

    A rule whose missed occurrences are to be fired is armed when the API has said which of its events is stored last, so
    that events come in order. While the API is away nothing is lost by that: what falls due meanwhile is fired then.

    Args:
        context: how events are reported.
        wall: the wall clock, in microseconds since 1970.
    """

    def __init__(self, context: SensorContext, *, wall: Callable[[], int] = instants.now) -> None:
        self._context = context
        self._wall = wall
        self._timers: dict[str, Timer] = {}
        self._catching_up: dict[Timer, int] = {}  # and since when
        self._long_lived = LongLived()
        self._catch_up_wanted = asyncio.Event()
        self._catch_up: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock = ClockThread(fire=self._fire, log=context.log, wall=wall, room=lambda: context.undelivered < _ROOM)
        context.add_live_check("clock", self._clock.problem)
        context.add_live_check("catch-up", self._catch_up_problem)

    async def start(self, rule: Rule) -> None:
        """Arm the rule's timer.

        Raises:
            InvalidRule: its parameters cannot be used.
        """
        timer = timer_of(rule)
        if self._catch_up is None:
            self._loop = asyncio.get_running_loop()
            self._clock.start()
            self._catch_up = asyncio.create_task(self._run_catch_up(), name="catch-up")
        self._disarm(rule.uid)
        self._timers[rule.uid] = timer
        now = self._wall()
        if timer.missed.missed is not Missed.SKIP and timer.schedule.latest(after=rule.since_us, until=now) is not None:
            self._catching_up[timer] = now
            self._catch_up_wanted.set()
        else:
            self._arm(timer)

    async def update(self, old: Rule, new: Rule) -> None:
        """Arm the timer anew; in between nothing fires.

        Raises:
            InvalidRule: the new parameters cannot be used.
        """
        await self.start(new)

    async def stop(self, rule: Rule) -> None:
        """Disarm the rule's timer."""
        self._disarm(rule.uid)

    async def close(self) -> None:
        """End the clock."""
        if self._catch_up is not None:
            self._catch_up.cancel()
            await asyncio.wait({self._catch_up})
        self._clock.close()
        self._timers.clear()
        self._catching_up.clear()

    def _arm(self, timer: Timer, *, since: int | None = None, last: int | None = None) -> None:
        self._clock.add(timer, since=since, last=last)
        self._long_lived.one_more()
        if timer.next is None:
            self._context.completed(timer.rule)

    def _disarm(self, uid: str) -> None:
        timer = self._timers.pop(uid, None)
        if timer is not None and self._catching_up.pop(timer, None) is None:
            self._clock.remove(timer)

    async def _run_catch_up(self) -> None:
        """Arm the timers that wait for the API's word, until cancelled."""
        while True:
            await self._catch_up_wanted.wait()
            self._catch_up_wanted.clear()
            waiting = list(self._catching_up)
            last = await self._context.last_events([timer.rule.uid for timer in waiting])
            for number, timer in enumerate(waiting):
                since = self._catching_up.pop(timer, None)
                if since is None:
                    continue  # it was disarmed meanwhile
                event = last.get(timer.rule.uid)
                self._arm(timer, since=since, last=None if event is None else instants.from_datetime(event.occurred_at))
                if number % 100 == 99:
                    await asyncio.sleep(0)

    def _catch_up_problem(self) -> str | None:
        task = self._catch_up
        if task is None or not task.done() or task.cancelled():
            return None
        return f"the catch-up of missed occurrences has ended: {task.exception()!r}"

    def _fire(self, timer: Timer, occurrence: Occurrence) -> None:
        """Report the occurrence; in the clock's thread."""
        self._context.emit_from_thread(event_of(timer.rule, occurrence, fired_at=self._wall()))
        if timer.next is None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._ended, timer)

    def _ended(self, timer: Timer) -> None:
        if self._timers.get(timer.rule.uid) is timer and timer.next is None:
            self._context.completed(timer.rule)


def event_of(rule: Rule, occurrence: Occurrence, *, fired_at: int) -> EventReport:
    """The event of one occurrence. It occurred when it was scheduled; how late it was shows in the payload.

    Args:
        rule: the rule.
        occurrence: the occurrence.
        fired_at: when the timer came to it, in microseconds since 1970.
    """
    name = instants.text(occurrence.at)
    state = rule.state
    payload: dict[str, Any] = {"scheduled_at": name, "fired_at": instants.text(fired_at), "rule": rule.ref}
    if occurrence.k is not None:
        payload["k"] = occurrence.k
    return EventReport(
        id=event_id(state.uid, name),
        trigger_type=state.trigger_type,
        rule_uid=state.uid,
        rule_namespace=state.namespace,
        rule_name=state.name,
        occurred_at=instants.to_datetime(occurrence.at),
        payload=payload,
    )
