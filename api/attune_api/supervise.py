"""Background tasks that cannot die silently."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Supervisor:
    """Runs tasks that are meant to run for as long as the process does.

    A task that ends by itself is a fault: it is logged with its reason and stays in :attr:`dead`, which makes ``/health``
    fail, so that kubelet starts the process anew. Tasks are expected to deal with the faults they can foresee (a database
    or NATS that is away) by waiting and trying again; what ends them is a fault of the program.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = False
        self.dead: dict[str, str] = {}

    def start(self, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run ``coroutine`` until :meth:`stop`, under ``name`` in logs and in ``/health``."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks[name] = task
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = task.get_name()
        error = None if task.cancelled() else task.exception()
        if self._stopping:
            return
        self.dead[name] = repr(error) if error else "it ended"
        log.critical("background_task_died", task=name, exc_info=error)

    async def stop(self, name: str) -> None:
        """Cancel one task and wait for its end. Without effect when it does not run."""
        task = self._tasks.pop(name, None)
        if task is None:
            return
        task.remove_done_callback(self._ended)
        task.cancel()
        await asyncio.wait([task])

    async def stop_all(self) -> None:
        """Cancel every task, in the reverse order of their start, and wait for each."""
        self._stopping = True
        for name in reversed(list(self._tasks)):
            await self.stop(name)
