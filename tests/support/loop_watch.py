"""How long callbacks hold an event loop: the processor's time of each, so that a busy machine changes nothing."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class LongestStep:
    """The callback that held the loop longest."""

    seconds: float = 0.0
    what: str = ""
    steps: int = 0
    excused: bool = False

    async def excuse(self) -> None:
        """End a step that did work of the test itself: it does not count."""
        self.excused = True
        await asyncio.sleep(0)


@contextlib.contextmanager
def watching_steps(*, ignoring: str = "\0") -> Iterator[LongestStep]:
    """Measure each callback of all loops of this process, in seconds of its thread's processor time.

    Args:
        ignoring: tasks with this in their description are part of the test.
    """
    longest = LongestStep()
    # Tasks in Python instead of C: their steps say which task they belong to.
    asyncio.get_running_loop().set_task_factory(_python_task)
    run = asyncio.events.Handle._run

    def measured(handle: Any) -> None:
        longest.excused = False
        began = time.thread_time()
        try:
            run(handle)
        finally:
            seconds = time.thread_time() - began
            longest.steps += 1
            what = repr(getattr(handle._callback, "__self__", handle))[:2000] if seconds > longest.seconds else ""
            if what and ignoring not in what and not longest.excused:
                longest.seconds, longest.what = seconds, what

    asyncio.events.Handle._run = measured  # type: ignore[method-assign, assignment]
    try:
        yield longest
    finally:
        asyncio.get_running_loop().set_task_factory(None)
        asyncio.events.Handle._run = run  # type: ignore[method-assign]


def _python_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> "asyncio.Task[Any]":
    task: asyncio.Task[Any] = asyncio.tasks._PyTask(coroutine, loop=loop, **options)  # type: ignore[attr-defined]
    return task
