"""All timers by when they are due: pure state, the clock is passed in."""

import heapq
from typing import Final

from attune_sensor import Rule
from attune_timer.schedule import Occurrence, Schedule

#: How late (microseconds) an occurrence may still be fired. What is older was missed.
GRACE: Final = 30_000_000
#: A wall clock that goes back by less than this (microseconds) was adjusted, not set.
_ADJUSTMENT: Final = 500_000
_MIN_GARBAGE: Final = 1024


class Timer:
    """One rule's timer."""

    __slots__ = ("active", "next", "rule", "schedule")

    def __init__(self, *, rule: Rule, schedule: Schedule) -> None:
        self.rule = rule
        self.schedule = schedule
        self.next: Occurrence | None = None
        self.active = False

    def __repr__(self) -> str:
        return f"<Timer {self.rule.ref}>"


class TimerHeap:
    """Timers, the earliest first. One heap serves them all; no timer has a task."""

    def __init__(self, *, grace: int = GRACE) -> None:
        self._grace = grace
        self._heap: list[tuple[int, int, Timer]] = []
        self._number = 0  # tells entries of the same instant apart
        self._active: set[Timer] = set()
        self._last_now: int | None = None

    def __len__(self) -> int:
        return len(self._active)

    def add(self, timer: Timer, *, now: int) -> Occurrence | None:
        """Begin to watch a timer.

        Returns:
            The latest occurrence that is already due, if it is not older than the grace and the rule was in force then: it
            fell due while the message was under way, or while nobody was running.
        """
        timer.active = True
        self._active.add(timer)
        timer.next = timer.schedule.next(now)
        self._push(timer)
        return timer.schedule.latest(after=max(timer.rule.since_us, now - self._grace), until=now)

    def remove(self, timer: Timer) -> None:
        """Stop watching a timer. Nothing of it fires after this."""
        if timer.active:
            timer.active = False
            self._active.discard(timer)
            # Its entry stays until it comes up, or until such entries are the greater part.
            if len(self._heap) - len(self._active) > max(_MIN_GARBAGE, len(self._active)):
                self._heap = [entry for entry in self._heap if entry[2].active]
                heapq.heapify(self._heap)

    def due_at(self) -> int | None:
        """When the next timer is due; None when there is none."""
        while self._heap and not self._heap[0][2].active:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, *, now: int, limit: int) -> list[tuple[Timer, Occurrence]]:
        """What is due now, at most ``limit`` occurrences, earliest first.

        What is later than the grace was missed (a suspended machine, a clock set forward): of it, only the latest occurrence
        is fired, and only if it is within the grace. After the clock was set back, everything is computed anew, so that no
        timer waits for the time that was to come; occurrences that were fired already have the same ids.
        """
        if self._last_now is not None and now < self._last_now - _ADJUSTMENT:
            self._realign(now)
        self._last_now = now
        due: list[tuple[Timer, Occurrence]] = []
        while len(due) < limit:
            earliest = self.due_at()
            if earliest is None or earliest > now:
                break
            timer = self._heap[0][2]
            occurrence = timer.next
            if earliest < now - self._grace:
                occurrence = timer.schedule.latest(after=now - self._grace, until=now)
            if occurrence is not None:
                due.append((timer, occurrence))
            timer.next = timer.schedule.next(occurrence.at if occurrence is not None else now)
            heapq.heappop(self._heap)
            self._push(timer)
        return due

    def _push(self, timer: Timer) -> None:
        if timer.next is not None:
            self._number += 1
            heapq.heappush(self._heap, (timer.next.at, self._number, timer))

    def _realign(self, now: int) -> None:
        self._heap = []
        for timer in self._active:
            timer.next = timer.schedule.next(now)
            self._push(timer)
