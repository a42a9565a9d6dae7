"""Delivers events to the API: at once when it can, later when it must, each rule's in order, none silently lost.

Events wait in memory; while the API is away they move to the spool, if there is one, and from then on all take that way
until it is empty, so that order is kept. One request is under way at a time: an event that comes while nothing is under
way leaves at once, and those that come meanwhile leave together with the next request
(:mod:`attune_sensor._grouping`).
"""

import asyncio
import collections
import contextlib
import random
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from attune_contract.events import EventReport
from attune_kit.backoff import Backoff
from attune_kit.outage import Outage
from attune_kit.supervisor import end
from attune_sensor._api_client import MAX_EVENTS, MAX_EVENTS_BYTES, Unavailable
from attune_sensor._confirmations import Confirmation, Disposition, PendingConfirmation, confirm, is_pending
from attune_sensor._delivery import Delivered, Delivery, Poster
from attune_sensor._errors import StoppingError
from attune_sensor._event_queue import EventQueue
from attune_sensor._grouping import ENOUGH, group_size
from attune_sensor._held_back import HeldBack
from attune_sensor._metrics import Metrics
from attune_sensor._outcomes import Outcomes
from attune_sensor._settings import WhenFull
from attune_sensor._spool import Position, Spool
from attune_sensor._spool_thread import SpoolThread

_RETRY: Final = Backoff(initial=0.25, maximum=15.0)
_MEMORY_BYTES: Final = 32 * 1024 * 1024
#: With more than this in memory, events move to the spool even while the API answers.
_SPILL_BYTES: Final = 8 * 1024 * 1024
_SPILL_CHUNK: Final = 2000
#: Requests begin at least so many seconds after each other, unless so many events wait. A lone event leaves at once.
_PACE: Final = 0.02
_GATHERED: Final = 200
#: Turns of the event loop without a new event, after which none is expected: a request takes two from socket to queue.
_QUIET_TURNS: Final = 3
#: Seconds that a confirmation waits for the API; then the event is written to disk.
_PATIENCE: Final = 1.0
#: Events of other threads that wait for the event loop, above which it is stuck.
_MAX_INBOUND: Final = 100_000

_ENCODER: Final = msgspec.json.Encoder()


class Emitter:
    """The way of events from the sensor to the API.

    Args:
        api: what posts them.
        spool: where they wait on disk; None keeps them in memory only.
        metrics: where they are counted.
        log: a structlog logger.
        when_full: what happens to an event for which there is no room.
        memory_bytes: bound of what waits in memory.
        chance: random numbers in [0, 1), for jitter.
        log_each: whether each delivered event is logged, at the level DEBUG.
        outcomes: told what becomes of each event.
        spans: makes the span of each event, and puts it into the event; None: there are none.
    """

    def __init__(
        self,
        *,
        api: Poster,
        spool: Spool | None,
        metrics: Metrics,
        log: Any,
        when_full: WhenFull = WhenFull.DROP_OLDEST,
        memory_bytes: int = _MEMORY_BYTES,
        retry: Backoff = _RETRY,
        chance: Callable[[], float] = random.random,
        log_each: bool = False,
        outcomes: Outcomes | None = None,
        spans: Callable[[EventReport], EventReport] | None = None,
    ) -> None:
        self._spans = spans
        self._outcomes = outcomes
        self._held_back = HeldBack(
            directory=None if spool is None else spool.directory,
            drop_oldest=when_full is WhenFull.DROP_OLDEST,
            metrics=metrics,
            log=log,
            outcomes=outcomes,
        )
        self._from_spool: tuple[list[bytes], Position] | None = None  # read there, and parted from what is kept already
        self._others_turn = True  # while namespaces over their quotas are tried again
        self._delivery = Delivery(api=api, metrics=metrics, log=log, each=log_each, outcomes=outcomes)
        self._spool = SpoolThread(spool=spool, metrics=metrics, log=log) if spool is not None else None
        self._metrics = metrics
        self._log = log
        self._when_full = when_full
        self._retry = retry
        self._chance = chance
        self._queue = EventQueue(limit=memory_bytes)
        self._inbound: collections.deque[bytes] = collections.deque()  # from other threads
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sleeping = False  # until _wake is set
        self._began = 0.0  # when the last request began
        self._took = 0.0  # seconds that it took
        self._under_way: list[bytes] = []  # taken from the queue, not answered yet
        self._spilling: list[bytes] = []  # taken from the queue, not on the disk yet
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._closing = False
        self._ends = 0.0  # while closing: when there is no more time
        self._api_outage = Outage(log=log, name="api")
        self._full_outage = Outage(log=log, name="event_queue")
        self._emitted = metrics.events.labels("emitted")
        metrics.queued_events.set_function(lambda: self._held)
        metrics.over_quota_events.set_function(lambda: len(self._held_back))

    # For reporters of events.

    def emit_nowait(self, event: EventReport) -> bool:
        """Take an event for delivery; returns at once.

        Returns:
            Whether there was room. Under ``drop-oldest`` there always is.

        Raises:
            TypeError: the payload has something that JSON does not know.
            ValueError: the event is larger than what the API takes, or the emitter is closed.
        """
        body = self._encode(event)
        if not self._queue.fits(len(body)) and not self._make_room(len(body)):
            return False
        self._queue.put(body)
        self._wake.set()
        return True

    async def emit(self, event: EventReport) -> bool:
        """Take an event for delivery. Under ``block`` this waits until there is room for it.

        Returns and raises as :meth:`emit_nowait`.
        """
        return await self._admit(self._encode(event))

    async def emit_confirmed(self, event: EventReport) -> Confirmation:
        """Take an event for delivery and wait for its disposition: stored, or on disk if the API does not confirm it
        within a second. Without a spool this waits for the API, however long that takes.

        Cancelling the call does not withdraw the event.

        Raises:
            TypeError: the payload has something that JSON does not know.
            ValueError: the event is larger than what the API takes, or the emitter is closed.
        """
        return await (await self.submit(event))

    async def submit(self, event: EventReport) -> "asyncio.Future[Confirmation]":
        """Take an event for delivery; returns what will hold its disposition, as :meth:`emit_confirmed` returns it.

        Events of which each is submitted when the call for the one before has returned stay in that order.

        Raises:
            TypeError: the payload has something that JSON does not know.
            ValueError: the event is larger than what the API takes, or the emitter is closed.
        """
        record = PendingConfirmation.of(self._encode(event))
        if not await self._admit(record):
            confirm(record, Disposition.DROPPED, "too many events wait for the API")
        return record.confirmation

    def emit_from_thread(self, event: EventReport) -> bool:
        """Take an event for delivery; may be called in any thread. While a request is under way, the event loop is left
        alone.

        Returns:
            Whether it was taken: not when the emitter is closed, or the event loop is stuck. When there is no room,
            that is found later, and counted.

        Raises:
            TypeError: the payload has something that JSON does not know.
            ValueError: the event is larger than what the API takes.
        """
        if self._closing:
            return False
        body = self._encode(event, here=False)
        if len(self._inbound) >= _MAX_INBOUND:
            self._emitted.inc()
            self._metrics.events.labels("dropped").inc()
            return False
        self._inbound.append(body)
        # The loop sets the flag and then looks at the queue once more, so one of the two sees the other.
        if self._sleeping and self._loop is not None:
            self._sleeping = False
            with contextlib.suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self._wake.set)
        return True

    @property
    def waiting(self) -> int:
        """Events that are not delivered yet, in memory, in the spool, and of namespaces that are over their quotas."""
        return self._held + self._spooled() + len(self._held_back)

    @property
    def spooled(self) -> int:
        """Events in the spool."""
        return self._spooled()

    @property
    def problem(self) -> str | None:
        """Why events cannot be delivered, or are dropped, now; None while all is well."""
        return self._api_outage.problem or self._full_outage.problem

    def faults(self) -> dict[str, str]:
        """What prevents delivery now, by part, in words that do not change while it lasts."""
        found = {"api": self._api_outage.fault, "events": self._full_outage.fault}
        if self._spool is not None:
            found["spool"] = self._spool.fault
        return {name: text for name, text in found.items() if text is not None}

    # For the runtime.

    @property
    def last_request(self) -> float:
        """When the API was last asked to take events (``time.monotonic``); 0 before."""
        return self._began

    def note_api(self, failure: Unavailable | None) -> None:
        """Note what a probe found: why the API cannot be used, or that it can."""
        if failure is not None:
            self._api_outage.failed(failure.kind, failure.reason)
        elif not self.waiting:  # else the next delivery shows it
            self._api_outage.recovered()

    async def run(self) -> None:
        """Deliver until :meth:`close`."""
        self._loop = asyncio.get_running_loop()
        if self._spool is not None:
            await self._spool.open()
        await self._held_back.open()
        attempt = 0
        while True:
            self._take_inbound()
            if not self._queue and not self._spooled() and self._held_back.due() is None:
                next_due = self._held_back.next_due()
                if self._closing and (next_due is None or time.monotonic() + next_due > self._ends):
                    return
                await self._sleep(next_due)
                self._wake.clear()
                continue
            await self._pace()
            failure = await self._step()
            if failure is None:
                attempt = 0
                self._api_outage.recovered(spooled=self._spooled())
                continue
            attempt += 1
            self._api_outage.failed(failure.kind, failure.reason)
            delay = self._retry.delay(attempt=attempt, chance=self._chance())
            if failure.retry_after is not None:
                delay = max(delay, failure.retry_after * (1 + 0.1 * self._chance()))
            await self._wait_out(delay)

    async def close(self, *, run: "asyncio.Task[None]", grace_seconds: float) -> int:
        """Take no more events, deliver what waits, and stop.

        Args:
            run: the task of :meth:`run`; it has ended when this returns.
            grace_seconds: how long to try. What is left then goes to the spool.

        Returns:
            How many events were lost, because there is no spool or it has no room.
        """
        self._closing = True
        self._ends = time.monotonic() + grace_seconds
        self._wake.set()
        self._room.set()
        await asyncio.wait({run}, timeout=grace_seconds)
        await end(run)
        self._queue.put_back(self._spilling)
        self._spilling = []
        self._queue.put_back(self._under_way)
        self._under_way = []
        self._queue.put_back(await self._held_back.close())
        self._take_inbound()
        if self._queue and self._spool is not None:
            await self._spill()
        lost = len(self._queue)
        for record in self._queue:
            confirm(record, Disposition.DROPPED, "the sensor stopped before it could be delivered")
        if lost:
            self._metrics.events.labels("dropped").inc(lost)
            self._log.error("events_lost", events=lost, reason="they could not be delivered before the sensor stopped")
        if self._spool is not None:
            await self._spool.close()
        return lost

    # The queue in memory.

    def _encode(self, event: EventReport, *, here: bool = True) -> bytes:
        """The event as JSON; ``here``: in the event loop's thread. Those of other threads are counted when it takes them
        over.
        """
        if self._closing:
            raise StoppingError("the sensor is stopping and accepts no more events")
        if self._spans is not None:
            event = self._spans(event)
        body = _ENCODER.encode(event)
        if len(body) > MAX_EVENTS_BYTES:
            why = f"the event has {len(body)} bytes; the API takes at most {MAX_EVENTS_BYTES}"
            if self._outcomes is not None and here:
                self._outcomes.refused(event.rule_uid, why)
            raise ValueError(why)
        if here:
            self._emitted.inc()
        return body

    @property
    def _held(self) -> int:
        """Events in memory."""
        return len(self._inbound) + len(self._queue) + len(self._under_way) + len(self._spilling)

    async def _admit(self, body: bytes) -> bool:
        while not self._queue.fits(len(body)):
            if self._when_full is not WhenFull.BLOCK:
                if not self._make_room(len(body)):
                    return False
                break
            self._full_outage.failed("full", "too many events wait for the API; the sensor waits for room")
            self._room.clear()
            await self._room.wait()
            if self._closing:
                raise StoppingError("the sensor is stopping and accepts no more events")
        self._queue.put(body)
        self._wake.set()
        return True

    def _take_inbound(self) -> None:
        """Take over what other threads reported."""
        inbound = self._inbound
        taken = [inbound.popleft() for _ in range(len(inbound))]
        self._emitted.inc(len(taken))
        if self._queue.fits(sum(map(len, taken))):
            self._queue.put_all(taken)
            return
        for body in taken:
            if self._queue.fits(len(body)) or self._make_room(len(body)):
                self._queue.put(body)

    async def _pace(self) -> None:
        """Under load, let a few events gather: what a request costs is then shared, here and at the API."""
        deadline = self._began + _PACE
        if time.monotonic() < deadline and not self._spooled() and not self._closing:
            if self._queue and is_pending(self._queue.first):
                await self._gather(deadline)
            elif len(self._queue) < _GATHERED:
                await asyncio.sleep(deadline - time.monotonic())
                self._take_inbound()
        self._began = time.monotonic()

    async def _gather(self, deadline: float) -> None:
        """Let the event loop bring what is ready, while it brings something and the group is not large enough."""
        seen = quiet = 0
        while quiet < _QUIET_TURNS and len(self._queue) < ENOUGH and time.monotonic() < deadline:
            quiet = quiet + 1 if len(self._queue) == seen else 0
            seen = len(self._queue)
            await asyncio.sleep(0)

    async def _sleep(self, seconds: float | None = None) -> None:
        """Wait until there is something to do, at most so long."""
        self._sleeping = True
        if not self._inbound:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        self._sleeping = False

    def _make_room(self, needed: int) -> bool:
        dropped = 0
        if self._when_full is WhenFull.DROP_OLDEST:
            while self._queue and not self._queue.fits(needed):
                confirm(self._queue.take(), Disposition.DROPPED, "newer events took its room")
                dropped += 1
        fits = self._queue.fits(needed)
        if not fits:
            dropped += 1
        self._dropped(dropped, "memory")
        return fits

    def _dropped(self, number: int, where: str) -> None:
        if number:
            self._metrics.events.labels("dropped").inc(number)
            self._full_outage.failed(where, f"events are dropped ({self._when_full}): the {where} for them is full")

    # Delivery.

    def _spooled(self) -> int:
        return self._spool.count if self._spool is not None else 0

    async def _step(self) -> Unavailable | None:
        """Deliver one batch; what could not be delivered is where it was, or in the spool."""
        namespace = self._held_back.due()
        if namespace is not None and not (self._others_turn and (self._queue or self._spooled())):
            self._others_turn = True
            return await self._step_held_back(namespace)
        self._others_turn = False
        if self._spool is not None and (self._spooled() or self._queue.bytes > _SPILL_BYTES):
            await self._spill()
            if self._spooled():
                return await self._step_from_spool(self._spool)
        reporters_wait = bool(self._queue) and is_pending(self._queue.first)
        most = group_size(len(self._queue), reporters_wait=reporters_wait, took=self._took)
        self._under_way = self._queue.take_batch(most=most, size=MAX_EVENTS_BYTES)
        self._under_way = await self._held_back.part(self._under_way)
        delivered = await self._post(self._under_way)
        self._took = time.monotonic() - self._began
        await self._held_back.hold(delivered.deferred)
        self._under_way = delivered.rest
        failure = delivered.failure
        if failure is not None:
            self._queue.put_back(self._under_way)
            self._under_way = []
            await self._spill()
        self._has_room()
        return failure

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
            await self._spill()

    async def _append(self, spool: SpoolThread, records: list[bytes]) -> int | None:
        """Write records to the spool and confirm them; returns as :meth:`SpoolThread.append`."""
        written = await spool.append(records, durable=any(map(is_pending, records)))
        for record in records[: written or 0]:
            confirm(record, Disposition.SPOOLED)
        return written

    async def _wait_out(self, seconds: float) -> None:
        """Wait before the next try. Events that come meanwhile go to the spool."""
        if self._closing:
            seconds = min(seconds, 1.0)
        was_closing = self._closing
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._wake.clear()
            self._take_inbound()
            await self._spill()
            if self._closing and not was_closing:
                return
            if self._queue and self._spool is not None:
                # The disk is full, or the spool. Do not try again for each event.
                await asyncio.sleep(min(1.0, left))
                continue
            await self._sleep(left)

    async def _spill(self) -> None:
        """Move what waits in memory to the end of the spool. When the disk fails it stays in memory."""
        spool = self._spool
        if spool is None:
            return
        while self._queue:
            # Taken out first: while the disk works, the front of the queue may be dropped to make room.
            while self._queue and len(self._spilling) < _SPILL_CHUNK:
                self._spilling.append(self._queue.take())
            written = await self._append(spool, self._spilling)
            del self._spilling[: written or 0]
            left = bool(self._spilling)
            self._queue.put_back(self._spilling)
            self._spilling = []
            if written is None or (left and not await self._make_room_in(spool)):
                return
        self._has_room()

    async def _make_room_in(self, spool: SpoolThread) -> bool:
        """The spool is full. Returns whether it is worth trying again."""
        if self._when_full is WhenFull.DROP_OLDEST:
            lost = await spool.drop_oldest()
            self._dropped(lost, "spool")
            return lost > 0
        # Under drop-newest and block, memory fills up next, and there the rule is applied to newcomers.
        return False

    def _has_room(self) -> None:
        if self._queue.bytes < self._queue.limit:
            self._room.set()
            if self._queue.bytes < self._queue.limit // 2 and not self._spooled():
                self._full_outage.recovered()
