"""All timers by when they are due: pure state, the clock is passed in."""

import heapq
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from attune_sensor import Rule
from attune_timer.jitter import delay
from attune_timer.missed import Missed, MissedPolicy
from attune_timer.schedule import Occurrence, Schedule

#: How late (microseconds) an occurrence may still be fired. What is older was missed.
GRACE: Final = 30_000_000
#: The same when the sensor comes back: it may have been away for the grace, and needs time to start and to read its rules.
GRACE_AT_START: Final = GRACE + 15_000_000
#: A wall clock that goes back by less than this (microseconds) was adjusted, not set.
_ADJUSTMENT: Final = 500_000
_MIN_GARBAGE: Final = 1024
_SKIP: Final = MissedPolicy()


class Timer:
    """One rule's timer.

    Args:
        rule: the rule.
        schedule: when it fires.
        missed: what is fired of what was missed.
        jitter: the longest delay behind the schedule, in microseconds; at most what lies between two occurrences.
        data: what the rule's author wants in each event.
    """

    __slots__ = ("active", "data", "due", "jitter", "missed", "next", "rule", "schedule")

    def __init__(
        self,
        *,
        rule: Rule,
        schedule: Schedule,
        missed: MissedPolicy = _SKIP,
        jitter: int = 0,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        self.rule = rule
        self.data = data
        self.schedule = schedule
        self.missed = missed
        self.jitter = jitter
        self.next: Occurrence | None = None
        self.due = 0  #: when ``next`` is to fire: its scheduled instant and the jitter
        self.active = False

    def __repr__(self) -> str:
        return f"<Timer {self.rule.ref}>"

    def plan(self, occurrence: Occurrence | None) -> None:
        """Have this occurrence fire next."""
        self.next = occurrence
        if occurrence is not None:
            self.due = self.delayed(occurrence) if self.jitter else occurrence.at

    def delayed(self, occurrence: Occurrence) -> int:
        """When an occurrence is to fire: its scheduled instant and the jitter."""
        return occurrence.at + (delay(key=self.rule.uid, at=occurrence.at, most=self.jitter) if self.jitter else 0)


class TimerHeap:
    """Timers, the earliest first. One heap serves them all; no timer has a task.

    Timers that have missed occurrences to fire are apart, so that what is due now need not wait for what was due long ago.
    """

    def __init__(self, *, grace: int = GRACE) -> None:
        self._grace = grace
        self._heap: list[tuple[int, int, Timer]] = []
        self._behind: deque[Timer] = deque()
        self._number = 0  # tells entries of the same instant apart
        self._active: set[Timer] = set()
        self._last_now: int | None = None

    def __len__(self) -> int:
        return len(self._active)

    @property
    def behind(self) -> bool:
        """Whether there are timers with missed occurrences to fire."""
        return bool(self._behind)

    def add(self, timer: Timer, *, now: int, since: int | None = None, last: int | None = None) -> None:
        """Begin to watch a timer. What is due already comes with the next :meth:`pop_due` or :meth:`pop_behind`.

        Args:
            timer: the timer.
            now: the wall clock.
            since: when the sensor began to serve the rule, if that was before now. What fell due in between was not missed.
            last: the last occurrence of which an event is stored.
        """
        since = now if since is None else since
        self.add_from(timer, first_missed(timer, since=since, last=last), now=now, since=since)

    def add_from(self, timer: Timer, first: Occurrence | None, *, now: int, since: int) -> None:
        """Begin to watch a timer, from the occurrence on that :func:`first_missed` found."""
        timer.active = True
        self._active.add(timer)
        self._place(timer, first or timer.schedule.next(since), now=now)

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
        """When the next timer is due; None when there is none. Those that are behind are not counted."""
        while self._heap and not self._heap[0][2].active:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, *, now: int, limit: int) -> list[tuple[Timer, Occurrence]]:
        """What is due now, at most ``limit`` occurrences, earliest first.

        What is later than the grace was missed (a suspended machine, a clock set forward), and the rule's policy decides about
        it. After the clock was set back, everything is computed again, so that no timer waits for the time that was to come;
        occurrences that were fired already have the same ids.
        """
        if self._last_now is not None and now < self._last_now - _ADJUSTMENT:
            self._realign(now)
        self._last_now = now
        due: list[tuple[Timer, Occurrence]] = []
        heap = self._heap
        while heap and len(due) < limit:
            at, _, timer = heap[0]
            if at > now:
                break
            occurrence = timer.next
            if not timer.active or occurrence is None:
                heapq.heappop(heap)
                continue
            if at < now - self._grace:
                heapq.heappop(heap)
                missed = timer.missed.first(
                    timer.schedule, after=occurrence.at - 1, until=now, now=now, grace=self._grace, jitter=timer.jitter
                )
                if (
                    missed is not None
                    and timer.missed.missed is Missed.SKIP
                    and timer.delayed(missed) < now - self._grace
                ):
                    missed = None  # only with jitter: its delayed time is long over
                self._place(timer, missed or timer.schedule.next(now), now=now)
                continue
            due.append((timer, occurrence))
            timer.plan(timer.schedule.next(occurrence.at))
            if timer.next is None:
                heapq.heappop(heap)
            else:
                self._number += 1
                heapq.heapreplace(heap, (timer.due, self._number, timer))
        return due

    def pop_behind(self, *, now: int, limit: int) -> list[tuple[Timer, Occurrence]]:
        """Missed occurrences of one timer, at most ``limit``, oldest first. The next call has another timer's."""
        due: list[tuple[Timer, Occurrence]] = []
        while self._behind and not due:
            timer = self._behind.popleft()
            if not timer.active:
                continue
            while timer.next is not None and timer.due <= now:
                if len(due) == limit:
                    self._behind.append(timer)
                    return due
                due.append((timer, timer.next))
                timer.plan(timer.schedule.next(timer.next.at))
            self._push(timer)
        return due

    def _place(self, timer: Timer, occurrence: Occurrence | None, *, now: int) -> None:
        timer.plan(occurrence)
        if timer.next is not None and timer.due < now - self._grace:
            self._behind.append(timer)
        else:
            self._push(timer)

    def _push(self, timer: Timer) -> None:
        if timer.next is not None:
            self._number += 1
            heapq.heappush(self._heap, (timer.due, self._number, timer))

    def _realign(self, now: int) -> None:
        behind = {timer for timer in self._behind if timer.active and timer.due <= now}
        self._behind = deque(timer for timer in self._behind if timer in behind)
        self._heap = []
        for timer in self._active - behind:
            # With jitter, one that was scheduled before now may still have to come.
            delayed = timer.schedule.latest(after=now - timer.jitter, until=now) if timer.jitter else None
            timer.plan(delayed)
            if delayed is None or timer.due <= now:
                timer.plan(timer.schedule.next(now))
            self._push(timer)


def first_missed(timer: Timer, *, since: int, last: int | None) -> Occurrence | None:
    """The first occurrence to fire of those that a starting sensor has missed; None when there is none. It may take 0.1 seconds
    of processor time where a rule wants thousands of them.

    Args:
        timer: the timer.
        since: when the sensor began to serve the rule.
        last: the last occurrence of which an event is stored.
    """
    after = timer.rule.since_us if last is None else max(timer.rule.since_us, last)
    return timer.missed.first_at_start(
        timer.schedule, after=after, since=since, grace=GRACE_AT_START, jitter=timer.jitter
    )
