"""Takes events from their reporters and has them delivered: at once when it can, later when it must.

An event that comes while no request is under way leaves at once, and those that come meanwhile leave together with the
next request (:mod:`attune_sensor._grouping`). Where they go is :mod:`attune_sensor._forwarder`'s.
"""

import asyncio
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from attune_contract.events import EventReport
from attune_kit.backoff import Backoff
from attune_kit.outage import Outage
from attune_kit.supervisor import end
from attune_sensor._admission import Admission
from attune_sensor._api_client import MAX_EVENTS_BYTES, Unavailable
from attune_sensor._arrivals import Arrivals
from attune_sensor._confirmations import (
    NO_ROOM,
    Answers,
    Confirmation,
    Course,
    Disposition,
    PendingConfirmation,
    confirm,
    is_pending,
)
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

_STOPPING: Final = "the sensor is stopping and accepts no more events"

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
        self._retry = retry
        self._chance = chance
        self._queue = EventQueue(limit=memory_bytes)
        self._admission = Admission(queue=self._queue, when_full=when_full, metrics=metrics, log=log)
        self._forwarder = Forwarder(
            queue=self._queue,
            spool=self._spool,
            held_back=self._held_back,
            delivery=Delivery(api=api, metrics=metrics, log=log, each=log_each, outcomes=outcomes),
            drop_oldest=when_full is WhenFull.DROP_OLDEST,
            on_room=self._note_room,
            on_dropped=self._admission.dropped,
        )
        self._arrivals = Arrivals()
        self._began = 0.0  # when the last request began
        self._closing = False
        self._ends = 0.0  # while closing: when there is no more time
        self._api_outage = Outage(log=log, name="api")
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
        body = self.encode(event)
        self._emitted.inc()
        self._arrivals.note()
        return self._admission.put_nowait(body)

    async def emit(self, event: EventReport) -> bool:
        """Take an event for delivery. Under ``block`` this waits until there is room for it.

        Returns and raises as :meth:`emit_nowait`.
        """
        body = self.encode(event)
        self._emitted.inc()
        return await self._admit(body)

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
        record, confirmation = PendingConfirmation.of(self.encode(event))
        self._emitted.inc()
        if not await self._admit(record):
            confirm(record, Disposition.DROPPED, NO_ROOM.reason)
        return confirmation

    def encode(self, event: EventReport, *, here: bool = True) -> bytes:
        """The event as JSON, with its span, for :meth:`submit_all`.

        Args:
            event: the event.
            here: this is the event loop's thread.

        Raises:
            TypeError: the payload has something that JSON does not know.
            ValueError: the event is larger than what the API takes, or the emitter is closed.
        """
        if self._closing:
            raise StoppingError(_STOPPING)
        if self._spans is not None:
            event = self._spans(event)
        body = _ENCODER.encode(event)
        if len(body) > MAX_EVENTS_BYTES:
            why = f"the event has {len(body)} bytes; the API takes at most {MAX_EVENTS_BYTES}"
            if self._outcomes is not None and here:
                self._outcomes.refused(event.rule_uid, why)
            raise ValueError(why)
        return body

    def submit_all(self, bodies: Sequence[bytes], course: Course, *, at_least: int) -> Answers:
        """Take events for delivery, as :meth:`encode` made them; returns what will hold their dispositions.

        Those for which there is no room are ``DROPPED``, whatever becomes of other reporters' events then: this reporter has
        to report them again, and so holds its own sender back.

        Args:
            bodies: the events, in their order.
            at_least: so many of them are taken in any case when no others wait, however large they are.
            course: what they belong to. As soon as one of it has to be reported again (it is ``DEFERRED`` or ``DROPPED``),
                those behind it are ``DROPPED``, so that they are not stored before it.

        Raises:
            StoppingError: the emitter is closed.
        """
        if self._closing:
            raise StoppingError(_STOPPING)
        self._emitted.inc(len(bodies))
        answers = Answers(bodies, course)
        if not (course.closed or course.broken) and self._queue.fits(sum(map(len, bodies))):
            self._queue.put_all(answers.records)
            self._arrivals.note()
            return answers
        taken = at_least if not self._queue else 0
        for place, record in enumerate(answers.records):
            course.closed = course.closed or not (place < taken or self._queue.fits(len(record)))
            if course.closed or course.broken:
                record.confirmation.set_result(NO_ROOM)
            else:
                self._queue.put(record)
        self._arrivals.note()
        return answers

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
        body = self.encode(event, here=False)
        if self._arrivals.put_from_thread(body):
            return True
        self._emitted.inc()
        self._metrics.events.labels("dropped").inc()
        return False

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
        return self._api_outage.problem or self._admission.outage.problem

    def faults(self) -> dict[str, str]:
        """What prevents delivery now, by part, in words that do not change while it lasts."""
        found = {"api": self._api_outage.fault, "events": self._admission.outage.fault}
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
        self._arrivals.attach()
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
                await self._arrivals.sleep(next_due)
                self._arrivals.forget()
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
        self._arrivals.note()
        self._admission.close()
        await asyncio.wait({run}, timeout=grace_seconds)
        await end(run)
        self._forwarder.put_back()
        self._queue.put_back(await self._held_back.close())
        self._take_inbound()
        if self._queue and self._spool is not None:
            await self._forwarder.spill()
        left = self._queue.take_batch(most=sys.maxsize, size=sys.maxsize)
        lost = len(left)
        for record in left:
            confirm(record, Disposition.DROPPED, "the sensor stopped before it could be delivered")
        if lost:
            self._metrics.events.labels("dropped").inc(lost)
            self._log.error("events_lost", events=lost, reason="they could not be delivered before the sensor stopped")
        if self._spool is not None:
            await self._spool.close()
        return lost

    # The queue in memory.

    @property
    def _held(self) -> int:
        """Events in memory."""
        return len(self._arrivals) + len(self._queue) + self._forwarder.taken

    async def _admit(self, body: bytes) -> bool:
        admitted = await self._admission.put(body)
        self._arrivals.note()
        return admitted

    def _take_inbound(self) -> None:
        """Take over what other threads reported."""
        taken = self._arrivals.take()
        self._emitted.inc(len(taken))
        self._admission.put_all(taken)

    def _note_room(self) -> None:
        self._admission.note_room(spooled=self._forwarder.spooled)

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

    async def _wait_out(self, seconds: float) -> None:
        """Wait before the next try. Events that come meanwhile go to the spool."""
        if self._closing:
            seconds = min(seconds, 1.0)
        was_closing = self._closing
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._arrivals.forget()
            self._take_inbound()
            await self._forwarder.spill()
            if self._closing and not was_closing:
                return
            if self._queue and self._spool is not None:
                # The disk is full, or the spool. Do not try again for each event.
                await asyncio.sleep(min(1.0, left))
                continue
            await self._arrivals.sleep(left)
