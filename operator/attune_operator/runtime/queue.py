"""The work queue of a controller: keys to reconcile, each by one worker at a time (client-go's work queue, for asyncio).

A key that is enqueued while it waits stays one entry. A key that is enqueued while it is processed is processed again
afterwards. So the queue is never longer than there are keys, and no change is lost. *Urgent* keys (something happened, or
a time has come) go before *bulk* keys (a periodic check). In each of the two lanes the oldest key goes first.
"""

import asyncio
import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, Generic, TypeVar

from attune_kit.backoff import Backoff

Key = TypeVar("Key", bound=Hashable)

#: Waits after failures, for whatever talks to Kubernetes.
RETRY: Final = Backoff(initial=0.25, maximum=60.0)
#: Places of keys that were taken early, which the heap of delays may hold.
_SLACK: Final = 64


class PriorityQueue(Generic[Key]):
    """Keys that wait. All calls are made in one event loop. ``len()`` counts the keys that can be taken now.

    Args:
        bulk_share: every so many keys one is taken from the bulk, even if urgent keys wait; 0: never.
        yields_to: while keys wait in that queue, this one hands out urgent keys only.
        retry: waits until a key that failed is processed again.
        burst: how often a key may come at once; 0 for no limit. Reconciling that causes its own repetition stays cheap.
        rate: how often a second it may come after that.
        random_: for jitter, from 0 to 1.
    """

    def __init__(
        self,
        *,
        bulk_share: int = 0,
        yields_to: "PriorityQueue[Any] | None" = None,
        retry: Backoff = RETRY,
        burst: float = 0.0,
        rate: float = 1.0,
        random_: Callable[[], float] = random.random,
    ) -> None:
        self._bulk_share = bulk_share
        self._yields_to = yields_to
        self._retry = retry
        self._burst = burst
        self._rate = rate
        self._random = random_
        # OrderedDict and not dict: taking a dict's first key again and again takes longer each time.
        self._urgent: OrderedDict[Key, None] = OrderedDict()
        self._bulk: OrderedDict[Key, None] = OrderedDict()
        self._processing: set[Key] = set()
        self._again: dict[Key, bool] = {}
        self._failures: dict[Key, int] = {}
        self._delayed: dict[Key, tuple[float, bool]] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._turns: dict[Key, tuple[float, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pushed = 0
        self._taken = 0
        self._filled = asyncio.Event()
        self._followers: list[PriorityQueue[Any]] = []
        if yields_to is not None:
            yields_to._followers.append(self)

    def __len__(self) -> int:
        return len(self._urgent) + len(self._bulk)

    @property
    def outstanding(self) -> int:
        """Keys that wait, are delayed or are being processed."""
        return len(self) + len(self._delayed) + len(self._processing)

    def is_waiting(self, key: Key) -> bool:
        """Whether the key can be taken now."""
        return key in self._urgent or key in self._bulk

    def is_processing(self, key: Key) -> bool:
        """Whether a worker has taken the key and not finished."""
        return key in self._processing

    def is_failing(self, key: Key) -> bool:
        """Whether the key failed when it was processed last."""
        return key in self._failures

    # -- filling

    def enqueue(self, key: Key, *, urgent: bool = True, after: float = 0.0) -> None:
        """Have ``key`` processed, in ``after`` seconds at the earliest. Of several delays the shortest holds."""
        if after > 0:
            self._delay(key, after, urgent=urgent)
        elif key in self._processing:
            self._again[key] = urgent or self._again.get(key, False)
        else:
            if urgent:
                self._bulk.pop(key, None)
                self._urgent[key] = None
            elif key not in self._urgent:
                self._bulk[key] = None
            self._filled.set()

    def enqueue_all(self, keys: Iterable[Key], *, urgent: bool = False) -> None:
        """Have every one of ``keys`` processed."""
        for key in keys:
            self.enqueue(key, urgent=urgent)

    def _delay(self, key: Key, after: float, *, urgent: bool) -> None:
        if self.is_waiting(key):
            return  # its turn comes sooner
        due = asyncio.get_running_loop().time() + after
        if (known := self._delayed.get(key)) is not None:
            urgent = urgent or known[1]
            if known[0] <= due:
                self._delayed[key] = (known[0], urgent)
                return
        self._delayed[key] = (due, urgent)
        self._pushed += 1
        heapq.heappush(self._heap, (due, self._pushed, key))
        if len(self._heap) > 2 * len(self._delayed) + _SLACK:
            # Keys that were taken earlier left their places behind, some for hours.
            self._heap = [entry for entry in self._heap if self._delayed.get(entry[2], (None,))[0] == entry[0]]
            heapq.heapify(self._heap)
        self._arm()

    def _arm(self) -> None:
        """Have one timer, for the delayed key that is due first."""
        while self._heap and self._delayed.get(self._heap[0][2], (None,))[0] != self._heap[0][0]:
            heapq.heappop(self._heap)
        if not self._heap:
            return
        due = self._heap[0][0]
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._release)

    def _release(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            known = self._delayed.get(key)
            if known is not None and known[0] == due:
                del self._delayed[key]
                self.enqueue(key, urgent=known[1])
        self._arm()

    # -- taking

    async def get(self) -> tuple[Key, bool]:
        """Take the next key, and whether it is urgent; :meth:`done` or :meth:`failed` must follow."""
        while (taken := self.get_nowait()) is None:
            self._filled.clear()
            await self._filled.wait()
        return taken

    def get_nowait(self) -> tuple[Key, bool] | None:
        """As :meth:`get`; None if there is no key that can be taken now."""
        while (lane := self._next_lane()) is not None:
            key, _ = lane.popitem(last=False)
            urgent = lane is self._urgent
            if (wait := self._too_early(key)) > 0:
                self._delay(key, wait, urgent=urgent)
                continue
            self._taken += 1
            self._processing.add(key)
            self._delayed.pop(key, None)  # what it was waiting for happens now
            if not self:
                for follower in self._followers:
                    follower._filled.set()
            return key, urgent
        return None

    def _next_lane(self) -> OrderedDict[Key, None] | None:
        bulk_first = self._bulk_share and (self._taken + 1) % self._bulk_share == 0
        for lane in (self._bulk, self._urgent) if bulk_first else (self._urgent, self._bulk):
            if lane and (lane is self._urgent or not self._yields_to):
                return lane
        return None

    def _too_early(self, key: Key) -> float:
        """Seconds until the key may come again; 0 if it may now, which counts as one time."""
        if not self._burst:
            return 0.0
        now = asyncio.get_running_loop().time()
        left, since = self._turns.get(key, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        self._turns[key] = (left - 1 if left >= 1 else left, now)
        return 0.0 if left >= 1 else (1 - left) / self._rate

    def done(self, key: Key, *, requeue_after: float | None = None) -> None:
        """Processing succeeded. ``requeue_after``: seconds until the key is processed again in any case."""
        self._failures.pop(key, None)
        self._finish(key)
        if requeue_after is not None:
            self._delay(key, requeue_after, urgent=True)

    def failed(self, key: Key, *, urgent: bool = True, hold: bool = False) -> float:
        """Processing failed: the key is processed again after a wait, whose seconds are returned.

        A change that came in between does not wait, unless ``hold`` is set.
        """
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._retry.delay(attempt=failures, chance=self._random())
        if hold:
            self._again.pop(key, None)
            self._delayed.pop(key, None)
        self._finish(key)
        self._delay(key, delay, urgent=urgent)
        return delay

    def _finish(self, key: Key) -> None:
        self._processing.discard(key)
        if (urgent := self._again.pop(key, None)) is not None:
            self.enqueue(key, urgent=urgent)

    def forget(self, key: Key) -> None:
        """The key is gone: so are its delay, its failures and its turns."""
        self._failures.pop(key, None)
        self._delayed.pop(key, None)
        self._turns.pop(key, None)
