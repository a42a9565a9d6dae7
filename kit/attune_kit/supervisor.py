"""Background tasks that cannot die unnoticed, and tasks that end when they are cancelled."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

_log = structlog.stdlib.get_logger(__name__)

#: Seconds that a cancelled task gets to clean up before it is cancelled again.
_PATIENCE: Final = 1.0


async def end(*tasks: "asyncio.Task[Any]", patience: float = _PATIENCE) -> None:
    """Cancel ``tasks`` and wait for their end; what they raise is ignored.

    A task that has not ended after ``patience`` seconds is cancelled again, because a library may have swallowed the
    first cancellation (:mod:`attune_kit.nats.client`).
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=patience)
    await asyncio.gather(*tasks, return_exceptions=True)


class TaskDiedError(RuntimeError):
    """A supervised task ended by itself. ``__cause__`` is what it raised, if it raised anything."""


class Supervisor:
    """Runs tasks that are meant to run until :meth:`stop`.

    Tasks deal with the faults they can foresee (a server that is away) by waiting and trying again. One that ends by
    itself has a defect: it is logged and listed in :attr:`dead`, ``on_died`` is called and :meth:`failed` returns.

    Args:
        on_died: called with the name of a task that ended by itself.

    Attributes:
        dead: why each task that ended by itself did so, by name.
    """

    def __init__(self, *, on_died: Callable[[str], None] | None = None) -> None:
        self._on_died = on_died
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failure: asyncio.Future[TaskDiedError] = asyncio.get_running_loop().create_future()
        self.dead: dict[str, str] = {}

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` as the task ``name``, which must not be running already."""
        task = asyncio.create_task(work, name=name)
        self._tasks[name] = task
        task.add_done_callback(self._ended)

    async def failed(self) -> TaskDiedError:
        """Wait until a task has ended by itself."""
        return await asyncio.shield(self._failure)

    async def stop(self, name: str) -> None:
        """End one task. Without effect when it does not run."""
        if (task := self._tasks.get(name)) is not None:
            task.remove_done_callback(self._ended)
            await end(task)
            self._tasks.pop(name, None)
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.warning("task_failed_while_stopping", task=name, exc_info=error)

    async def stop_all(self, *, within: float | None = None) -> None:
        """End every task, in the reverse order of their start.

        Args:
            within: seconds after which those that have not ended are cancelled together and left behind, which is
            logged;
                None waits for all.
        """
        try:
            async with asyncio.timeout(within):
                for name in reversed(list(self._tasks)):
                    await self.stop(name)
        except TimeoutError:
            _log.error("tasks_did_not_stop", tasks=sorted(self._tasks), seconds=within)
            for task in self._tasks.values():
                task.remove_done_callback(self._ended)
                task.cancel()
        if not self._failure.done():
            self._failure.cancel()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        name = task.get_name()
        self._tasks.pop(name, None)
        error = None if task.cancelled() else task.exception()
        self.dead[name] = repr(error) if error else "it ended"
        _log.critical("task_died", task=name, exc_info=error)
        if self._on_died is not None:
            self._on_died(name)
        if not self._failure.done():
            died = TaskDiedError(f"the task {name} ended by itself")
            died.__cause__ = error
            self._failure.set_result(died)
