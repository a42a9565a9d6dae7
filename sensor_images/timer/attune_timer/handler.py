"""Serves timer rules: each becomes a timer of the one clock, and each occurrence an event."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from attune_sensor import EventReport, Rule, SensorContext, event_id, scheduled
from attune_timer import instants
from attune_timer.clock import ClockThread
from attune_timer.parameters import schedule_of
from attune_timer.schedule import Occurrence
from attune_timer.timer_heap import Timer


class TimerHandler:
    """A :class:`attune_sensor.RuleHandler` for timers.

    Args:
        context: how events are reported.
        wall: the wall clock, in microseconds since 1970.
    """

    def __init__(self, context: SensorContext, *, wall: Callable[[], int] = instants.now) -> None:
        self._context = context
        self._wall = wall
        self._timers: dict[str, Timer] = {}
        self._clock = ClockThread(fire=self._fire, log=context.log, wall=wall)
        self._running = False
        context.add_live_check("clock", self._clock.problem)

    async def start(self, rule: Rule) -> None:
        """Arm the rule's timer.

        Raises:
            InvalidRule: its parameters cannot be used.
        """
        timer = Timer(rule=rule, schedule=schedule_of(rule))
        if not self._running:
            self._running = True
            self._clock.start()
        self._disarm(rule.uid)
        self._timers[rule.uid] = timer
        self._clock.add(timer)
        if timer.next is None:
            self._context.completed(rule)

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
        self._clock.close()
        self._timers.clear()

    def _disarm(self, uid: str) -> None:
        timer = self._timers.pop(uid, None)
        if timer is not None:
            self._clock.remove(timer)

    def _fire(self, timer: Timer, occurrence: Occurrence) -> None:
        self._context.emit_nowait(event_of(timer.rule, occurrence, fired_at=instants.to_datetime(self._wall())))
        if timer.next is None:
            self._context.completed(timer.rule)


def event_of(rule: Rule, occurrence: Occurrence, *, fired_at: datetime) -> EventReport:
    """The event of one occurrence. It occurred when it was scheduled; how late it was shows in the payload."""
    moment = instants.to_datetime(occurrence.at)
    name = scheduled(moment)
    payload: dict[str, Any] = {"scheduled_at": name, "fired_at": scheduled(fired_at), "rule": rule.ref}
    if occurrence.k is not None:
        payload["k"] = occurrence.k
    return EventReport(
        id=event_id(rule.uid, name),
        trigger_type=rule.trigger_type,
        rule_uid=rule.uid,
        rule_namespace=rule.state.namespace,
        rule_name=rule.state.name,
        occurred_at=moment,
        payload=payload,
    )
