"""The one shape of every controller: workers take keys from a queue and reconcile them.

Whatever happens only enqueues a key. What to do is decided in ``reconcile``, from what is known then (level-triggered).
"""

import asyncio
from abc import ABC, abstractmethod
from typing import Final, Generic

from attune_operator.runtime.queue import Key, PriorityQueue

#: Keys that one worker reconciles before it lets other tasks run, and seconds after which it does so earlier.
_BATCH: Final = 32
_SLICE: Final = 0.005


class Controller(ABC, Generic[Key]):
    """Reconciles the keys of ``queue``.

    Args:
        name: of the workers' tasks.
        queue: where keys come from; of one key, one reconcile runs at a time.
        workers: how many keys are reconciled at once.
        timeout: seconds that one reconcile may take; None for no limit.
    """

    def __init__(self, name: str, *, queue: PriorityQueue[Key], workers: int = 1, timeout: float | None = None) -> None:
        self.name = name
        self.queue = queue
        self._workers = workers
        self._timeout = timeout

    @abstractmethod
    async def reconcile(self, key: Key, *, urgent: bool) -> float | None:
        """Bring what ``key`` names to its desired state. Return the seconds until it must be checked again, or None."""

    @abstractmethod
    async def on_error(self, key: Key, error: Exception) -> None:
        """Handle what :meth:`reconcile` raised: call ``queue.failed``, or ``queue.done``."""

    async def run(self) -> None:
        """Work until cancelled. One key that fails does not stop the others."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                group.create_task(self._work(), name=f"{self.name}: worker {number}")

    async def _work(self) -> None:
        count, clock = 0, asyncio.get_running_loop().time
        turn = clock()
        while True:
            key, urgent = self.queue.get_nowait() or await self.queue.get()
            try:
                if self._timeout is None:
                    requeue_after = await self.reconcile(key, urgent=urgent)
                else:
                    async with asyncio.timeout(self._timeout):
                        requeue_after = await self.reconcile(key, urgent=urgent)
            except Exception as error:
                await self.on_error(key, error)
            else:
                self.queue.done(key, requeue_after=requeue_after)
            count += 1
            if count % _BATCH == 0 or clock() - turn > _SLICE:
                await asyncio.sleep(0)
                turn = clock()
