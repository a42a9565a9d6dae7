"""Moves events from memory to the API, or to the disk while the API is away: in order, none silently lost.

From the first event on disk, all take that way until it is empty, so that order is kept. One request is under way at a
time.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Final

from attune_sensor._api_client import MAX_EVENTS, MAX_EVENTS_BYTES, Unavailable
from attune_sensor._confirmations import Disposition, confirm, is_pending
from attune_sensor._delivery import Delivered, Delivery
from attune_sensor._event_queue import EventQueue
from attune_sensor._grouping import group_size
from attune_sensor._held_back import HeldBack
from attune_sensor._spool import Position
from attune_sensor._spool_thread import SpoolThread

#: With more than this in memory, events move to the spool even while the API answers.
_SPILL_BYTES: Final = 8 * 1024 * 1024
_SPILL_CHUNK: Final = 2000
#: Seconds that a confirmation waits for the API; then the event is written to disk.
_PATIENCE: Final = 1.0


class Forwarder:
    """Delivers what waits in memory, in the spool and of namespaces over their quotas, one batch at a time.

    Args:
        queue: what waits in memory.
        spool: where events wait on disk; None keeps them in memory only.
        held_back: those of namespaces that are over their quotas.
        delivery: what posts batches.
        drop_oldest: whether the oldest events on disk go when there is no room for newer ones.
        on_room: called when there may be room in memory again.
        on_dropped: called with how many events were dropped, and where.
    """

    def __init__(
        self,
        *,
        queue: EventQueue,
        spool: SpoolThread | None,
        held_back: HeldBack,
        delivery: Delivery,
        drop_oldest: bool,
        on_room: Callable[[], None],
        on_dropped: Callable[[int, str], None],
    ) -> None:
        self._queue = queue
        self._spool = spool
        self._held_back = held_back
        self._delivery = delivery
        self._drop_oldest = drop_oldest
        self._has_room = on_room
        self._dropped = on_dropped
        self._from_spool: tuple[list[bytes], Position] | None = None  # read there, and parted from what is kept already
        self._others_turn = True  # while namespaces over their quotas are tried again
        self._took = 0.0  # seconds that the last request took
        self._under_way: list[bytes] = []  # taken from the queue, not answered yet
        self._spilling: list[bytes] = []  # taken from the queue, not on the disk yet

    @property
    def spooled(self) -> int:
        """Events on disk, those of namespaces over their quotas left out."""
        return self._spool.count if self._spool is not None else 0

    @property
    def taken(self) -> int:
        """Events that are in memory and not in the queue."""
        return len(self._under_way) + len(self._spilling)

    def put_back(self) -> None:
        """Put what was taken from the queue back to its front. For the end, when no other method runs."""
        self._queue.put_back(self._spilling)
        self._spilling = []
        self._queue.put_back(self._under_way)
        self._under_way = []

    async def step(self) -> Unavailable | None:
        """Deliver one batch; what could not be delivered is where it was, or in the spool."""
        namespace = self._held_back.due()
        if namespace is not None and not (self._others_turn and (self._queue or self.spooled)):
            self._others_turn = True
            return await self._step_held_back(namespace)
        self._others_turn = False
        if self._spool is not None and (self.spooled or self._queue.bytes > _SPILL_BYTES):
            await self.spill()
            if self.spooled:
                return await self._step_from_spool(self._spool)
        began = time.monotonic()
        reporters_wait = bool(self._queue) and is_pending(self._queue.first)
        most = group_size(len(self._queue), reporters_wait=reporters_wait, took=self._took)
        self._under_way = self._queue.take_batch(most=most, size=MAX_EVENTS_BYTES)
        self._under_way = await self._held_back.part(self._under_way)
        delivered = await self._post(self._under_way)
        self._took = time.monotonic() - began
        await self._held_back.hold(delivered.deferred)
        self._under_way = delivered.rest
        failure = delivered.failure
        if failure is not None:
            self._queue.put_back(self._under_way)
            self._under_way = []
            await self.spill()
        self._has_room()
        return failure

    async def spill(self) -> None:
        """Move what waits in memory to the end of the spool. When the disk fails it stays in memory."""
        spool = self._spool
        if spool is None:
            return
        while self._queue:
            # Taken out first: while the disk works, the front of the queue may be dropped to make room.
            self._spilling = self._queue.take_batch(most=_SPILL_CHUNK, size=sys.maxsize)
            written = await self._append(spool, self._spilling)
            del self._spilling[: written or 0]
            left = bool(self._spilling)
            self._queue.put_back(self._spilling)
            self._spilling = []
            if written is None or (left and not await self._make_room_in(spool)):
                return
        self._has_room()

    async def _step_from_spool(self, spool: SpoolThread) -> Unavailable | None:
        if self._from_spool is not None:
            records, position = self._from_spool
        else:
            # Records are joined by commas, which count as well.
            found = await spool.peek(max_records=MAX_EVENTS, max_bytes=MAX_EVENTS_BYTES - MAX_EVENTS)
            if found is None:
                return None
            records, position = found
            free = await self._held_back.part(records)
            if len(free) < len(records):
                self._from_spool = free, position
            records = free
        delivered = await self._post(records)
        if delivered.failure is None:
            await self._held_back.hold(delivered.deferred)
            self._from_spool = None
            await spool.advance(position)
            self._has_room()
        return delivered.failure

    async def _step_held_back(self, namespace: str) -> Unavailable | None:
        """Try again what waits of a namespace that was over its quota."""
        most = MAX_EVENTS_BYTES - MAX_EVENTS
        records, position = await self._held_back.peek(namespace, max_records=MAX_EVENTS, max_bytes=most)
        if not records:
            return None
        delivered = await self._post(records)
        if delivered.deferred:
            await self._held_back.hold(delivered.deferred, held=namespace)
        elif delivered.failure is None:
            await self._held_back.advance(namespace, position)
        return delivered.failure

    async def _post(self, records: list[bytes]) -> Delivered:
        """Deliver records.

        Confirmations that wait for too long come from the disk.
        """
        # Delivered here and not in a task of its own, so that the next request leaves at once, before the reporters of
        # these events are answered. The API would wait for that.
        delivered = asyncio.Event()
        securing: list[asyncio.Task[None]] = []

        def begin_securing() -> None:
            securing.append(asyncio.create_task(self._keep_secure(records, delivered), name="securing"))

        patience = asyncio.get_running_loop().call_later(_PATIENCE, begin_securing)
        try:
            return await self._delivery.deliver(records)
        finally:
            patience.cancel()
            delivered.set()
            for task in securing:
                await task

    async def _keep_secure(self, records: list[bytes], delivered: asyncio.Event) -> None:
        while not delivered.is_set():
            await self._secure(records)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await delivered.wait()

    async def _secure(self, records: list[bytes]) -> None:
        """Write pending confirmations to disk: copies of what is in flight, and all that queues behind it."""
        if self._spool is None:
            return
        if waiting := [record for record in records if is_pending(record)]:
            await self._append(self._spool, waiting)
        if any(map(is_pending, self._queue)):
            await self.spill()

    async def _append(self, spool: SpoolThread, records: list[bytes]) -> int | None:
        """Write records to the spool and confirm them; returns as :meth:`SpoolThread.append`."""
        written = await spool.append(records, durable=any(map(is_pending, records)))
        for record in records[: written or 0]:
            confirm(record, Disposition.SPOOLED)
        return written

    async def _make_room_in(self, spool: SpoolThread) -> bool:
        """The spool is full. Returns whether it is worth trying again."""
        if self._drop_oldest:
            lost = await spool.drop_oldest()
            self._dropped(lost, "spool")
            return lost > 0
        # Under drop-newest and block, memory fills up next, and there the rule is applied to newcomers.
        return False
