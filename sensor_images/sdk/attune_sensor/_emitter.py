"""Takes events from their reporters and has them delivered: at once when it can, later when it must.

An event that comes while no request is under way leaves at once, and those that come meanwhile leave together with the
next request (:mod:`attune_sensor._grouping`). Where they go is :mod:`attune_sensor._forwarder`'s.
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
from attune_sensor._api_client import MAX_EVENTS_BYTES, Unavailable
from attune_sensor._confirmations import Confirmation, Disposition, PendingConfirmation, confirm, is_pending
from attune_sensor._delivery import Delivery, Poster
from attune_sensor._errors import StoppingError
from attune_sensor._event_queue import EventQueue
from attune_sensor._forwarder import Forwarder
from attune_sensor._grouping import ENOUGH
from attune_sensor._held_back import HeldBack
from attune_sensor._metrics import Metrics
from attune_sensor._outcomes import Outcomes
from attune_sensor._settings import WhenFull
from attune_sensor._spool import Spool
from attune_sensor._spool_thread import SpoolThread

_RETRY: Final = Backoff(initial=0.25, maximum=15.0)
_MEMORY_BYTES: Final = 32 * 1024 * 1024
#: Requests begin at least so many seconds after each other, unless so many events wait. A lone event leaves at once.
_PACE: Final = 0.02
_GATHERED: Final = 200
#: Turns of the event loop without a new event, after which none is expected: a request takes two from socket to queue.
_QUIET_TURNS: Final = 3
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
        self._spool = SpoolThread(spool=spool, metrics=metrics, log=log) if spool is not None else None
        self._metrics = metrics
        self._log = log
        self._when_full = when_full
        self._retry = retry
        self._chance = chance
        self._queue = EventQueue(limit=memory_bytes)
        self._forwarder = Forwarder(
            queue=self._queue,
            spool=self._spool,
            held_back=self._held_back,
            delivery=Delivery(api=api, metrics=metrics, log=log, each=log_each, outcomes=outcomes),
            drop_oldest=when_full is WhenFull.DROP_OLDEST,
            on_room=self._has_room,
            on_dropped=self._dropped,
        )
        self._inbound: collections.deque[bytes] = collections.deque()  # from other threads
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sleeping = False  # until _wake is set
        self._began = 0.0  # when the last request began
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
        return self._held + self._forwarder.spooled + len(self._held_back)

    @property
    def spooled(self) -> int:
        """Events in the spool."""
        return self._forwarder.spooled

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
            if not self._queue and not self._forwarder.spooled and self._held_back.due() is None:
                next_due = self._held_back.next_due()
                if self._closing and (next_due is None or time.monotonic() + next_due > self._ends):
                    return
                await self._sleep(next_due)
                self._wake.clear()
                continue
            await self._pace()
            failure = await self._forwarder.step()
            if failure is None:
                attempt = 0
                self._api_outage.recovered(spooled=self._forwarder.spooled)
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
        self._forwarder.put_back()
        self._queue.put_back(await self._held_back.close())
        self._take_inbound()
        if self._queue and self._spool is not None:
            await self._forwarder.spill()
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
        return len(self._inbound) + len(self._queue) + self._forwarder.taken

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
        if time.monotonic() < deadline and not self._forwarder.spooled and not self._closing:
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

    async def _wait_out(self, seconds: float) -> None:
        """Wait before the next try. Events that come meanwhile go to the spool."""
        if self._closing:
            seconds = min(seconds, 1.0)
        was_closing = self._closing
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._wake.clear()
            self._take_inbound()
            await self._forwarder.spill()
            if self._closing and not was_closing:
                return
            if self._queue and self._spool is not None:
                # The disk is full, or the spool. Do not try again for each event.
                await asyncio.sleep(min(1.0, left))
                continue
            await self._sleep(left)

    def _has_room(self) -> None:
        if self._queue.bytes < self._queue.limit:
            self._room.set()
            if self._queue.bytes < self._queue.limit // 2 and not self._forwarder.spooled:
                self._full_outage.recovered()
