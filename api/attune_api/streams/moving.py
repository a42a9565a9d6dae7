"""The outbox's position in its table, written a little behind what JetStream acknowledged.

A write of the position is a transaction like one that stores events, with its own sync of the disk, and on SQLite one waits for
the other. So it is written a few times a second at most. What was acknowledged behind it is published again when the program
is killed in between, and JetStream drops it.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from attune_api.storage.faults import OUTAGES
from attune_kit.supervisor import end

#: Seconds that acknowledgements are gathered for one write.
_EVERY: Final = 0.05
#: Seconds for the last write.
_LAST: Final = 2.0


class MovingPosition:
    """A position that is written when it moves.

    Args:
        start: what the table has.
        write: writes it.
    """

    def __init__(self, start: int, *, write: Callable[[int], Awaitable[None]]) -> None:
        self.value = start
        self._written = start
        self._write = write
        self._moved = asyncio.Event()

    def move(self, position: int) -> None:
        """Everything up to ``position`` is acknowledged."""
        self.value = position
        self._moved.set()

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncGenerator["asyncio.Task[None]"]:
        """Write it while the context lasts, and once more at its end. The task is done when it could not be written."""
        writing = asyncio.create_task(self._write_for_ever(), name="outbox position")
        try:
            yield writing
        finally:
            await end(writing)
            with contextlib.suppress(*OUTAGES):
                async with asyncio.timeout(_LAST):
                    await self._write_moved()

    async def _write_for_ever(self) -> None:
        while True:
            await self._moved.wait()
            await asyncio.sleep(_EVERY)
            await self._write_moved()

    async def _write_moved(self) -> None:
        self._moved.clear()
        if (position := self.value) != self._written:
            await self._write(position)
            self._written = position
