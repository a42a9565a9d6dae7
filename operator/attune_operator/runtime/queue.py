"""Whose turn it is: a set of keys, each worked on by one worker at a time (the work queue of client-go, for asyncio).

A key that is added while it waits is still one entry; one that is added while it is worked on comes again afterwards. So the
queue is never longer than there are keys, and no change is lost. What has happened, or has come due, goes before what is merely
looked at again.
"""

import asyncio
import random
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_BACKOFF_BASE: Final = 0.25
_BACKOFF_CAP: Final = 60.0
#: A key may come so often at once, and then so often a second: work that brings about its own repetition stays cheap.
_BURST: Final = 50.0
_RATE: Final = 2.0


def backoff(failures: int, *, random_: Callable[[], float] = random.random) -> float:
    """Seconds to wait after so many failures in a row: doubling, at most a minute, half of it jitter."""
    full = min(_BACKOFF_CAP, _BACKOFF_BASE * 2.0 ** min(failures, 16))
    return full * (0.5 + random_() / 2)


class WorkQueue(Generic[Key]):
    """Keys that wait. All calls are made in one event loop."""

    def __init__(self, *, random_: Callable[[], float] = random.random) -> None:
        self._random = random_
        self._urgent: dict[Key, None] = {}
        self._waiting: dict[Key, None] = {}
        self._working: set[Key] = set()
        self._again: dict[Key, bool] = {}
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, tuple[float, asyncio.TimerHandle]] = {}
        self._turns: dict[Key, tuple[float, float]] = {}
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._waiting)

    def add(self, key: Key, *, urgent: bool = True) -> None:
        """Have ``key`` worked on as soon as possible; when it is not urgent, after everything that is."""
        if key in self._working:
            self._again[key] = urgent or self._again.get(key, False)
            return
        if urgent:
            self._waiting.pop(key, None)
            self._urgent[key] = None
        elif key not in self._urgent:
            self._waiting[key] = None
        self._filled.set()

    def add_after(self, key: Key, delay: float) -> None:
        """Have ``key`` worked on in ``delay`` seconds; of several times the earliest holds."""
        loop = asyncio.get_running_loop()
        due = loop.time() + max(0.0, delay)
        if (timer := self._timers.get(key)) is not None:
            if timer[0] <= due:
                return
            timer[1].cancel()
        self._timers[key] = (due, loop.call_at(due, self._fire, key))

    def _fire(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def get(self) -> Key:
        """Take the key that has waited longest; :meth:`done` or :meth:`failed` must follow.

        A key that has come too often waits (half a second, mostly). Other tasks run in between in any case.
        """
        await asyncio.sleep(0)
        while True:
            while not len(self):
                self._filled.clear()
                await self._filled.wait()
            lane = self._urgent or self._waiting
            key = next(iter(lane))
            del lane[key]
            if (wait := self._too_early(key)) <= 0:
                break
            self.add_after(key, wait)
        self._working.add(key)
        # What it was waiting for happens now.
        if (timer := self._timers.pop(key, None)) is not None:
            timer[1].cancel()
        return key

    def _too_early(self, key: Key) -> float:
        """Seconds until it is the key's turn (0: it is now, and counts as one)."""
        now = asyncio.get_running_loop().time()
        left, since = self._turns.get(key, (_BURST, now))
        left = min(_BURST, left + (now - since) * _RATE)
        if left >= 1:
            self._turns[key] = (left - 1, now)
            return 0.0
        self._turns[key] = (left, now)
        return (1 - left) / _RATE

    def done(self, key: Key, *, after: float | None = None) -> None:
        """The work went well. ``after``: seconds until it is to be looked at again anyhow."""
        self._failures.pop(key, None)
        self._finish(key)
        if after is not None:
            self.add_after(key, after)

    def failed(self, key: Key) -> float:
        """The work failed: it comes again after a while; returns the seconds.

        A change that comes in meanwhile does not wait.
        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = backoff(failures, random_=self._random)
        self._finish(key)
        self.add_after(key, delay)
        return delay

    def _finish(self, key: Key) -> None:
        self._working.discard(key)
        if key in self._again:
            self.add(key, urgent=self._again.pop(key))

    def forget(self, key: Key) -> None:
        """The key is no more: its timer and its failures go."""
        self._failures.pop(key, None)
        self._turns.pop(key, None)
        if (timer := self._timers.pop(key, None)) is not None:
            timer[1].cancel()
