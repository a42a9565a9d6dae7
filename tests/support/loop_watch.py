"""How long callbacks hold an event loop: the processor's time of each, so that a busy machine changes nothing."""

import asyncio
import contextlib
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class LongestStep:
    """The callback that held the loop longest.

    Attributes:
        seconds: processor time of it, without that of the garbage collector.
        wall: seconds that passed in the longest of all, which a busy machine and the collector make longer.
        collector: seconds of the longest collection. It looks at the test's own objects as well: where these are what
            others keep (a cluster in memory), it says nothing about the program.
    """

    seconds: float = 0.0
    what: str = ""
    steps: int = 0
    excused: bool = False
    wall: float = 0.0
    collector: float = 0.0

    def __str__(self) -> str:
        """The figures, for the page of results."""
        return (
            f"{self.steps} steps, longest {self.seconds * 1000:.1f} ms of the processor ({self.wall * 1000:.0f} ms passed), "
            f"longest collection of garbage {self.collector * 1000:.1f} ms"
        )

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
    collecting = _Collecting(longest)
    gc.callbacks.append(collecting)
    # Tasks in Python instead of C: their steps say which task they belong to.
    asyncio.get_running_loop().set_task_factory(_python_task)
    run = asyncio.events.Handle._run

    def measured(handle: Any) -> None:
        longest.excused, collecting.seconds = False, 0.0
        passed, began = time.monotonic(), time.thread_time()
        try:
            run(handle)
        finally:
            seconds = time.thread_time() - began - collecting.seconds
            longest.steps += 1
            passed = time.monotonic() - passed
            if not longest.excused and (seconds > longest.seconds or passed > longest.wall):
                what = repr(getattr(handle._callback, "__self__", handle))[:2000]
                if ignoring not in what:
                    longest.wall = max(longest.wall, passed)
                    if seconds > longest.seconds:
                        longest.seconds, longest.what = seconds, what

    asyncio.events.Handle._run = measured  # type: ignore[method-assign, assignment]
    try:
        yield longest
    finally:
        asyncio.get_running_loop().set_task_factory(None)
        asyncio.events.Handle._run = run  # type: ignore[method-assign]
        gc.callbacks.remove(collecting)


class _Collecting:
    """Called by the garbage collector: seconds of the processor that it has taken since somebody set them to 0."""

    def __init__(self, longest: LongestStep) -> None:
        self.seconds = 0.0
        self._longest = longest
        self._began = 0.0

    def __call__(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
            return
        seconds = time.thread_time() - self._began
        self.seconds += seconds
        self._longest.collector = max(self._longest.collector, seconds)


def _python_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> "asyncio.Task[Any]":
    task: asyncio.Task[Any] = asyncio.tasks._PyTask(coroutine, loop=loop, **options)  # type: ignore[attr-defined]
    return task
