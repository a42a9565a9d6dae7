"""Writes Rules' statuses: each as it should be when its turn comes, at a bounded rate, again until it succeeds.

It keeps a set of Rules, not of versions: what is written is rendered at the last moment, so a Rule that changed five times is
written once. What a person waits for goes before what comes in bulk. Errors slow everything down, for when Kubernetes has
trouble with one write it has trouble with the others.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from attune_operator.rules import rule_metrics as metrics
from attune_operator.rules.backoff import Backoff
from attune_operator.runtime.client import ClusterError

log = structlog.stdlib.get_logger(__name__)

#: Of so many writes one is from the bulk, even when urgent ones never end.
_BULK_SHARE: Final = 4
_ATTEMPT_TIMEOUT: Final = 20.0
#: Seconds between looks at whether it is calm.
_CALM_LOOK: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusWrite:
    """One write: the Rule, the merge patch, and what to remember when it succeeded."""

    namespace: str
    name: str
    patch: dict[str, Any]
    done: Callable[[], None]


#: Gives what is to be written for a Rule now; None: nothing (any more).
Render = Callable[[str], StatusWrite | None]
Patch = Callable[[str, str, dict[str, Any]], Awaitable[None]]


class DueQueue:
    """Rules by the time from which they may be written. A Rule counts once, at its earliest time."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._due)

    def add(self, uid: str, due: float) -> None:
        """Let the Rule be due then, or earlier if it is already."""
        if uid in self._due and self._due[uid] <= due:
            return
        self._due[uid] = due
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, uid))

    def discard(self, uid: str) -> None:
        """Take the Rule out."""
        self._due.pop(uid, None)

    def next_due(self) -> float | None:
        """When the next one is due; None when there is none."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now: float) -> str | None:
        """Take one that is due; None when there is none."""
        due = self.next_due()
        if due is None or due > now:
            return None
        uid = heapq.heappop(self._heap)[2]
        del self._due[uid]
        return uid


class StatusWriter:
    """Writes with ``concurrency`` calls at a time and at most ``rate`` calls a second, after ``settle`` seconds.

    The bulk waits while things are not ``calm``: then something more important is under way.
    """

    def __init__(
        self,
        *,
        render: Render,
        patch: Patch,
        rate: float = 200.0,
        concurrency: int = 8,
        settle: float = 0.03,
        calm: Callable[[], bool] = lambda: True,
    ) -> None:
        self._render = render
        self._patch = patch
        self._interval = 1.0 / rate
        self._concurrency = concurrency
        self._settle = settle
        self._calm = calm
        self._urgent = DueQueue()
        self._bulk = DueQueue()
        self._turn = 0
        self._writing: set[str] = set()
        self._again: dict[str, bool] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._wake = asyncio.Event()
        self._next_slot = 0.0
        self._failing = False

    def __len__(self) -> int:
        return len(self._urgent) + len(self._bulk) + len(self._writing)

    def submit(self, uid: str, *, urgent: bool) -> None:
        """Something may have to be written for the Rule."""
        if uid in self._writing:
            self._again[uid] = urgent or self._again.get(uid, False)
            return
        if uid in self._backoffs:
            return  # it waits for its next attempt, which writes what is right then
        self._enqueue(uid, urgent=urgent, delay=self._settle)

    def is_writing(self, uid: str) -> bool:
        """Whether a write for the Rule is under way, so that what Kubernetes says is about to change."""
        return uid in self._writing

    def _enqueue(self, uid: str, *, urgent: bool, delay: float) -> None:
        due = asyncio.get_running_loop().time() + delay
        if urgent:
            self._bulk.discard(uid)
        (self._urgent if urgent else self._bulk).add(uid, due)
        metrics.STATUS_WAITING.set(len(self))
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            uid = await self._take()
            self._writing.add(uid)
            try:
                await self._pace()
                write = self._render(uid)
                if write is None:
                    self._backoffs.pop(uid, None)
                else:
                    await self._attempt(uid, write)
            finally:
                self._writing.discard(uid)
            if (urgent := self._again.pop(uid, None)) is not None and uid not in self._backoffs:
                self._enqueue(uid, urgent=urgent, delay=self._settle)

    async def _attempt(self, uid: str, write: StatusWrite) -> None:
        try:
            async with asyncio.timeout(_ATTEMPT_TIMEOUT):
                await self._patch(write.namespace, write.name, write.patch)
        except Exception as error:
            metrics.STATUS_WRITES.labels("failed").inc()
            if not self._failing:
                self._failing = True
                log.warning(
                    "rule_status_not_written",
                    rule=f"{write.namespace}/{write.name}",
                    error=str(error) or type(error).__name__,
                    exc_info=not isinstance(error, ClusterError | TimeoutError | OSError),
                )
            delay = self._backoffs.setdefault(uid, Backoff()).next()
            self._enqueue(uid, urgent=False, delay=delay)
            await asyncio.sleep(min(delay, 5.0))  # this worker too: the others find out by themselves
            return
        if self._failing:
            self._failing = False
            log.info("rule_status_written_again", waiting=len(self))
        metrics.STATUS_WRITES.labels("written").inc()
        self._backoffs.pop(uid, None)
        write.done()

    async def _take(self) -> str:
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            self._turn += 1
            calm = self._calm()
            order = [self._urgent, self._bulk] if self._turn % _BULK_SHARE else [self._bulk, self._urgent]
            if not calm:
                order.remove(self._bulk)
            for queue in order:
                if (uid := queue.pop(now)) is not None:
                    metrics.STATUS_WAITING.set(len(self))
                    return uid
            due = min((due for queue in order if (due := queue.next_due()) is not None), default=None)
            if not calm and len(self._bulk):
                due = min(now + _CALM_LOOK, due or now + _CALM_LOOK)
            self._wake.clear()
            try:
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        slot = max(now, self._next_slot)
        self._next_slot = slot + self._interval
        if slot > now:
            await asyncio.sleep(slot - now)
