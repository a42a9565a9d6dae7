"""Background tasks that cannot die unseen.

Each is expected to run until it is cancelled. When one ends by itself, with an error or without, that is said in the log, the
liveness probe fails, and the whole process ends with it, for Kubernetes to start it afresh: every part rebuilds its state
from Kubernetes and NATS anyway, and a half-dead operator is worse than a restarted one.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from attune_operator.runtime.probes import Probes

_log = structlog.stdlib.get_logger(__name__)


class TaskDiedError(RuntimeError):
    """A supervised task ended by itself."""


class Supervisor:
    """Runs named tasks until :meth:`stop`; :meth:`failed` returns when one of them ended before."""

    def __init__(self, *, health: Probes) -> None:
        self._health = health
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._failure: asyncio.Future[TaskDiedError] = asyncio.get_running_loop().create_future()
        self._stopping = False

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` as a task called ``name``."""
        task = asyncio.create_task(work, name=name)
        self._tasks[task] = name
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = self._tasks.pop(task)
        error = None if task.cancelled() else task.exception()
        if self._stopping:
            if error is not None:
                _log.warning("task_failed_while_stopping", task=name, exc_info=error)
            return
        _log.critical("task_died", task=name, exc_info=error)
        self._health.died(name)
        if not self._failure.done():
            died = TaskDiedError(f"{name} ended by itself")
            died.__cause__ = error
            self._failure.set_result(died)

    async def failed(self) -> TaskDiedError:
        """Wait until a task ended that should not have."""
        return await asyncio.shield(self._failure)

    async def stop(self, *, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - it bounds the wait, not the caller
        """Cancel every task and wait for them, at most ``timeout`` seconds."""
        self._stopping = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=timeout)
            for task in pending:
                _log.error("task_would_not_stop", task=task.get_name())
        if not self._failure.done():
            self._failure.cancel()
