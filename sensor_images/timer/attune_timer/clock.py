"""The clock thread: sleeps until the next timer is due and fires it.

asyncio rounds its own timers to a millisecond, and its loop has other work; a thread that sleeps to the due time, and makes the
event itself, does better. Timers are in wall time, which can be set; so it never sleeps for longer than a second without
looking at the wall clock again.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from attune_timer import instants
from attune_timer.prompt import ask_to_run_at_once
from attune_timer.schedule import Occurrence
from attune_timer.timer_heap import Timer, TimerHeap

#: The longest sleep (seconds) without looking at the wall clock.
_LONGEST_SLEEP: Final = 1.0
#: After a sleep longer than this (seconds) the processor may sleep as well, and wakes late. So the thread rises a little before
#: the time, and stays awake for the rest: to sleep once more would mean to be woken once more.
_DEEP_SLEEP: Final = 0.02
_RISE: Final = 0.001
#: Occurrences that are taken at once. The event loop waits for so many when it adds or removes a timer.
_BATCH: Final = 50
#: Missed occurrences that are taken at once; what is due now comes in between.
_BEHIND_BATCH: Final = 20
#: How long (seconds) the thread waits between missed occurrences, and while there is no room for them.
_BEHIND_WAIT: Final = 0.002
_ROOM_WAIT: Final = 0.05
#: A thread that slept for so long (seconds) was suspended, with the whole process. Before it fires anything, the rules are given
#: the time to change that it takes to hear what happened meanwhile: some may have been switched off long ago.
_SUSPENDED: Final = 5.0
_HEAR_FIRST: Final = 2.0
#: A thread that did not look at the clock for so long (seconds) is stuck.
_STUCK_AFTER: Final = 15.0

#: Takes a timer and its occurrence.
Fire = Callable[[Timer, Occurrence], None]


class ClockThread:
    """Watches timers.

    Args:
        fire: called in the thread for each occurrence; must not wait for anything.
        log: a structlog logger.
        heap: where the timers are.
        wall: the wall clock, in microseconds since 1970.
        room: whether missed occurrences may be fired now; asked by the thread.
    """

    def __init__(
        self,
        *,
        fire: Fire,
        log: Any,
        heap: TimerHeap | None = None,
        wall: Callable[[], int] = instants.now,
        room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._fire = fire
        self._room = room
        self._log = log
        self._heap = heap if heap is not None else TimerHeap()
        self._wall = wall
        self._condition = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._looked = time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        self._looked = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)
        self._thread.start()

    def add(self, timer: Timer, *, since: int | None = None, first: Occurrence | None = None) -> None:
        """Watch a timer; see :meth:`attune_timer.timer_heap.TimerHeap.add_from`. What is due already is fired at once."""
        since = self._wall() if since is None else since
        with self._condition:
            earliest = self._heap.due_at()
            self._heap.add_from(timer, first, now=self._wall(), since=since)
            if earliest is None or self._heap.behind or timer.due < earliest:
                self._condition.notify()

    def remove(self, timer: Timer) -> None:
        """Stop watching a timer. Nothing of it fires after this."""
        with self._condition:
            self._heap.remove(timer)

    def close(self) -> None:
        """End the thread; nothing fires after this."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(5)

    def problem(self) -> str | None:
        """What is wrong with the thread; None while it works (a check for ``/live``)."""
        if self._thread is None or self._closed:
            return None
        if not self._thread.is_alive():
            return "the clock thread has ended"
        silent = time.monotonic() - self._looked
        return f"the clock thread is stuck for {silent:.0f} s" if silent > _STUCK_AFTER else None

    def _run(self) -> None:
        ask_to_run_at_once()
        try:
            while True:
                with self._condition:  # released after each turn, so that timers can be added and removed in between
                    if self._closed:
                        return
                    slept, self._looked = time.monotonic() - self._looked, time.monotonic()
                    if slept > _SUSPENDED:
                        self._hear_first(slept)
                        continue
                    self._turn()
        except Exception:
            self._log.exception("clock_thread_died")  # and /live says so, so that the pod is restarted

    def _hear_first(self, slept: float) -> None:
        """Let the rules change before anything fires."""
        self._log.warning("clock_was_suspended", seconds=round(slept, 1))
        ends = time.monotonic() + _HEAR_FIRST
        while not self._closed and (left := ends - time.monotonic()) > 0:
            self._condition.wait(left)

    def _turn(self) -> None:
        due = self._heap.pop_due(now=self._wall(), limit=_BATCH)
        for timer, occurrence in due:
            self._fire(timer, occurrence)
        if len(due) == _BATCH:
            return
        sleep = _LONGEST_SLEEP
        if self._heap.behind:
            room = self._room()
            sleep = _BEHIND_WAIT if room else _ROOM_WAIT
            if room:
                for timer, occurrence in self._heap.pop_behind(now=self._wall(), limit=_BEHIND_BATCH):
                    self._fire(timer, occurrence)
        at = self._heap.due_at()
        if at is not None:
            left = (at - self._wall()) / 1e6
            if _DEEP_SLEEP < left <= sleep:
                if not self._condition.wait(left - _RISE):
                    self._stay_awake(at)
                return
            sleep = min(sleep, left)
        if sleep > 0:
            self._condition.wait(sleep)

    def _stay_awake(self, at: int) -> None:
        left = (at - self._wall()) / 1e6  # less than before, or much more if the wall clock was set
        if left > 2 * _RISE:
            return
        ends = time.monotonic() + left
        while time.monotonic() < ends:
            pass
