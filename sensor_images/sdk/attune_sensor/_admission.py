"""Which events get into memory when there is little room: the oldest go, or the newest, or reporters wait."""

import asyncio
from collections.abc import Sequence
from typing import Any

from attune_kit.outage import Outage
from attune_sensor._confirmations import Disposition, confirm
from attune_sensor._errors import StoppingError
from attune_sensor._event_queue import EventQueue
from attune_sensor._metrics import Metrics
from attune_sensor._settings import WhenFull


class Admission:
    """The way into the queue in memory.

    Args:
        queue: where events wait.
        when_full: what happens to an event for which there is no room.
        metrics: where dropped events are counted.
        log: a structlog logger.
    """

    def __init__(self, *, queue: EventQueue, when_full: WhenFull, metrics: Metrics, log: Any) -> None:
        self._queue = queue
        self._when_full = when_full
        self._count = metrics.events.labels("dropped")
        self._room = asyncio.Event()
        self._closed = False
        self.outage = Outage(log=log, name="event_queue")

    def put_nowait(self, body: bytes) -> bool:
        """Add an event; returns whether there was room, or was made."""
        if not self._queue.fits(len(body)) and not self._make_room(len(body)):
            return False
        self._queue.put(body)
        return True

    async def put(self, body: bytes) -> bool:
        """Add an event; under ``block`` this waits until there is room. Returns as :meth:`put_nowait`.

        Raises:
            StoppingError: the sensor stopped meanwhile.
        """
        while self._when_full is WhenFull.BLOCK and not self._queue.fits(len(body)):
            self.outage.failed("full", "too many events wait for the API; the sensor waits for room")
            self._room.clear()
            await self._room.wait()
            if self._closed:
                raise StoppingError("the sensor is stopping and accepts no more events")
        return self.put_nowait(body)

    def put_all(self, bodies: Sequence[bytes]) -> None:
        """Add events, those that find room."""
        if self._queue.fits(sum(map(len, bodies))):
            self._queue.put_all(bodies)
            return
        for body in bodies:
            self.put_nowait(body)

    def note_room(self, *, spooled: int) -> None:
        """There may be room again.

        Args:
            spooled: events on disk.
        """
        if self._queue.bytes < self._queue.limit:
            self._room.set()
            if self._queue.bytes < self._queue.limit // 2 and not spooled:
                self.outage.recovered()

    def dropped(self, number: int, where: str) -> None:
        """So many events were dropped for want of room."""
        if number:
            self._count.inc(number)
            self.outage.failed(where, f"events are dropped ({self._when_full}): the {where} for them is full")

    def close(self) -> None:
        """Let nobody wait any more."""
        self._closed = True
        self._room.set()

    def _make_room(self, needed: int) -> bool:
        dropped = 0
        if self._when_full is WhenFull.DROP_OLDEST:
            while self._queue and not self._queue.fits(needed):
                confirm(self._queue.take(), Disposition.DROPPED, "newer events took its room")
                dropped += 1
        fits = self._queue.fits(needed)
        if not fits:
            dropped += 1
        self.dropped(dropped, "memory")
        return fits
