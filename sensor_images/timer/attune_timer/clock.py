"""The clock thread: sleeps until the next timer is due and hands it to the event loop.

asyncio rounds its own timers to a millisecond; a thread that sleeps to the due time does better, and the loop's other work
does not delay it. Timers are in wall time, which can be set; so it never sleeps for longer than a second without looking at the
wall clock again.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from attune_timer import instants
from attune_timer.schedule import Occurrence
from attune_timer.timer_heap import Timer, TimerHeap

#: The longest sleep (seconds) without looking at the wall clock.
_LONGEST_SLEEP: Final = 1.0
#: Occurrences that are handed over at once.
_BATCH: Final = 1000
#: Missed occurrences that are handed over at once; what is due now comes in between.
_BEHIND_BATCH: Final = 20
#: How long (seconds) the thread waits before it looks again whether missed occurrences can be fired.
_BEHIND_WAIT: Final = 0.02
#: Occurrences that wait for the loop, above which the thread waits too: the loop is stuck.
_BACKLOG: Final = 100_000
#: A thread that did not look at the clock for so long (seconds) is stuck.
_STUCK_AFTER: Final = 15.0

#: Takes a timer and its occurrence.
Fire = Callable[[Timer, Occurrence], None]


class ClockThread:
    """Watches timers.

    Args:
        fire: called in the event loop for each occurrence.
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
        self._due: deque[tuple[Timer, Occurrence]] = deque()
        self._scheduled = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looked = time.monotonic()

    def start(self) -> None:
        """Start the thread; call it in the event loop that is to fire."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)
        self._thread.start()

    def add(self, timer: Timer, *, since: int | None = None, last: int | None = None) -> None:
        """Watch a timer; see :meth:`attune_timer.timer_heap.TimerHeap.add`. What is due already is fired at once."""
        with self._condition:
            self._heap.add(timer, now=self._wall(), since=since, last=last)
            self._condition.notify()

    def remove(self, timer: Timer) -> None:
        """Stop watching a timer. Nothing of it fires after this."""
        with self._condition:
            self._heap.remove(timer)

    def close(self) -> None:
        """End the thread; nothing fires after this."""
        with self._condition:
            self._closed = True
            self._due.clear()
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
        try:
            with self._condition:
                while not self._closed:
                    self._looked = time.monotonic()
                    self._turn()
        except Exception:
            self._log.exception("clock_thread_died")  # and /live says so, so that the pod is restarted

    def _turn(self) -> None:
        if len(self._due) >= _BACKLOG:
            self._condition.wait(_LONGEST_SLEEP)
            return
        due = self._heap.pop_due(now=self._wall(), limit=_BATCH)
        if due:
            self._hand_over(due)
            return
        sleep = _LONGEST_SLEEP
        if self._heap.behind:
            sleep = _BEHIND_WAIT
            if not self._due and self._room():
                self._hand_over(self._heap.pop_behind(now=self._wall(), limit=_BEHIND_BATCH))
        at = self._heap.due_at()
        if at is not None:
            sleep = min(sleep, (at - self._wall()) / 1e6)
        if sleep > 0:
            self._condition.wait(sleep)

    def _hand_over(self, due: list[tuple[Timer, Occurrence]]) -> None:
        self._due.extend(due)
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            with contextlib.suppress(RuntimeError):  # the loop was closed; so will be this
                self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        """In the loop: fire what the thread handed over, and let others run between batches."""
        with self._condition:
            batch = [self._due.popleft() for _ in range(min(len(self._due), _BATCH))]
            self._scheduled = bool(self._due)
            if self._scheduled and self._loop is not None:
                self._loop.call_soon(self._take)
            elif batch:
                self._condition.notify()
        for timer, occurrence in batch:
            # It may have been stopped since the thread took it from the heap.
            if timer.active:
                self._fire(timer, occurrence)
