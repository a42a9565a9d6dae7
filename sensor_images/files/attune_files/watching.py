"""Hears from the kernel that something in a folder has changed. It is a hint when to look; what there is, the look says."""

import asyncio
from typing import Any, Final

from watchfiles import awatch

from attune_kit.backoff import Backoff
from attune_kit.supervisor import end

#: Milliseconds that changes are collected.
_COLLECT: Final = 200
_STEP: Final = 50
_RETRY: Final = Backoff(initial=0.2, maximum=30.0)


class Watch:
    """Watches one folder.

    Args:
        path: the folder.
        deep: whether folders below it are watched.
        log: a structlog logger.

    Attributes:
        changed: set when something has changed; clear it before looking.
    """

    def __init__(self, path: str, *, deep: bool, log: Any) -> None:
        self.changed = asyncio.Event()
        self._path = path
        self._deep = deep
        self._log = log
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin. What is changed from here on is heard of."""
        self._task = asyncio.create_task(self._run(), name=f"watch {self._path}")
        await asyncio.sleep(0)  # its first step asks the kernel

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            await end(self._task)

    async def _run(self) -> None:
        retries = _RETRY.start()
        while True:
            self.changed.set()  # what has changed while nobody watched
            try:
                async for _ in awatch(
                    self._path,
                    watch_filter=None,
                    recursive=self._deep,
                    debounce=_COLLECT,
                    step=_STEP,
                    rust_timeout=1000,
                ):
                    self.changed.set()
                    retries.reset()
            except Exception as error:
                # A name that is no UTF-8, or no more watches. The folder is looked at from time to time in any case.
                self._log.info("folder_not_watched", path=self._path, error=repr(error))
            await asyncio.sleep(retries.next_delay())
