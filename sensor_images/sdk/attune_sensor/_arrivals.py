"""Wakes what delivers events, and takes over those that other threads report."""

import asyncio
import collections
import contextlib
from typing import Final

#: Events of other threads that wait for the event loop, above which it is stuck.
_MAX_INBOUND: Final = 100_000


class Arrivals:
    """What has come since somebody looked.

    All methods but :meth:`put_from_thread` are for the event loop's thread.
    """

    def __init__(self) -> None:
        self._inbound: collections.deque[bytes] = collections.deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sleeping = False
        self._came = asyncio.Event()

    def __len__(self) -> int:
        """Events of other threads that were not taken over yet."""
        return len(self._inbound)

    def attach(self) -> None:
        """Have other threads wake this event loop."""
        self._loop = asyncio.get_running_loop()

    def note(self) -> None:
        """Something came, in the event loop."""
        self._came.set()

    def forget(self) -> None:
        """What came so far is dealt with."""
        self._came.clear()

    def put_from_thread(self, body: bytes) -> bool:
        """Add an event; returns False when too many wait. While a request is under way, the event loop is left alone."""
        if len(self._inbound) >= _MAX_INBOUND:
            return False
        self._inbound.append(body)
        # The loop sets the flag and then looks at the queue once more, so one of the two sees the other.
        if self._sleeping and self._loop is not None:
            self._sleeping = False
            with contextlib.suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._came.set)
        return True

    def take(self) -> list[bytes]:
        """Take over what other threads reported."""
        return [self._inbound.popleft() for _ in range(len(self._inbound))]

    async def sleep(self, seconds: float | None = None) -> None:
        """Wait until something comes, at most so long."""
        self._sleeping = True
        if not self._inbound:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._came.wait()
        self._sleeping = False
