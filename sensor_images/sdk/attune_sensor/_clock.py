"""The time as a sensor's functions see it, so that a test can set it (:class:`attune_sensor.testing.FakeClock`)."""

import asyncio
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A wall clock, and how to wait by it."""

    def now(self) -> datetime:
        """The time, with a zone."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)
