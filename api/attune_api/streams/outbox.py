"""The outbox: events that were accepted leave for JetStream, in order, at least once, with a stable id.

The table ``outbox`` says how far it came. What is after that is published, in the order of ``seq``, each message with
its event's rule and id as ``Nats-Msg-Id`` (:func:`message_id`), by which JetStream drops what it got within its duplicate
window. The position moves only after JetStream has acknowledged, so a crash in between publishes again rather than not at
all.

Order holds even when a message in the middle fails: messages are a chain (:mod:`attune_api.streams.chain`), and the server
refuses whatever follows a gap. What this replica stored itself it need not read (:mod:`attune_api.events.fresh`).

With several replicas on PostgreSQL one of them publishes: the holder of a lease (:mod:`attune_api.storage.leases`). One that
stood still and goes on, while another took over, does no harm, however long that was and wherever it stood still:

- A message names the number that it has to come behind, which is another one as soon as somebody else has published.
- The position is written only while the row has the epoch of the writer's lease.

A replica that begins to publish looks first which of the events behind the position are in the stream already
(:mod:`attune_api.streams.resuming`). So what was published, but not noted, is not published again after the window either.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec
import nats.errors
import structlog
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from attune_api.events.fresh import FreshEvents
from attune_api.events.query.service import Found, walk_on
from attune_api.metrics import Metrics
from attune_api.storage.database import Database
from attune_api.storage.leases import Held, LeaseLostError, Leases
from attune_api.storage.tables import METADATA
from attune_api.streams.chain import Chain, NotPublishedError
from attune_api.streams.moving import MovingPosition
from attune_api.streams.resuming import Published, already_there
from attune_contract.events import Event
from attune_contract.subjects import ALL_EVENTS, EVENTS_STREAM, event_subject
from attune_kit.backoff import Backoff
from attune_kit.nats.connector import NatsConnector
from attune_kit.nats.streams import raise_replicas

log = structlog.get_logger(__name__)

_TABLE: Final = METADATA.tables["outbox"]
NAME: Final = "jetstream"
#: Name of the lease of the replica that publishes.
_LEASE: Final = "outbox"
_RETRY: Final = Backoff(initial=0.2, maximum=1.0)
#: Messages that are sent at once, with one answer. The server begins with them while the next ones are made.
_PART: Final = 100
#: Messages in flight above which no more are looked for. So many, and bytes of their payloads, are read at once.
_CHUNK: Final = 500
_CHUNK_BYTES: Final = 4 * 1024 * 1024
#: Seconds that JetStream has to acknowledge a chunk, and to answer a request. What is sent to a stream that has no leader is not
#: answered later either. So they are a part of how long publishing stands still after a NATS cluster has its quorum again.
#: A chunk that takes longer is not lost: what is stored of it is found in the stream.
_ACK_TIMEOUT: Final = 3.0
_REQUEST_TIMEOUT: Final = 2.0
#: Seconds that a replica which got the lease waits for its connection to NATS.
_CONNECT_TIMEOUT: Final = 2.0
#: Seconds between looks at the table, for what other replicas stored.
_POLL: Final = 1.0
#: Seconds between looks at how long answers take.
_PAUSE: Final = 0.25
#: Seconds in which JetStream recognises an event that is published again.
_DUPLICATE_WINDOW: Final = 120.0
#: Room for headers when a message is compared with the server's largest payload.
_HEADROOM: Final = 4096

#: What the outside can do to us, and what is therefore waited out.
OUTAGES: Final = (nats.errors.Error, SQLAlchemyError, OSError, TimeoutError)


def message_id(event: Event) -> str:
    """By what JetStream tells a repetition: the rule and the id, since the same id in another rule is another event."""
    return f"{event.rule_uid}/{event.id}"


def message(event: Event, *, largest: int) -> tuple[str, bytes, dict[str, str]]:
    """The message of an event: subject, body and headers (CloudEvents 1.0, NATS binding, binary mode).

    The body is the event as ``GET /api/v1/events/{id}`` answers it. One that is too large for the server goes without its
    payload, and with ``ce-dataref`` (CloudEvents extension "Dataref") instead, which says where to get the whole. The trace
    that it belongs to is in the attributes of the extension "Distributed Tracing".

    Args:
        event: the event.
        largest: bytes that the server takes in one message.
    """
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "dev.attune.event",
        "ce-source": f"/attune/sensors/{event.sensor_ref}",
        "ce-id": str(event.id),
        "ce-time": event.occurred_at,
        "ce-subject": f"{event.rule_namespace}/{event.rule_name}",
        "content-type": "application/json",
        "Nats-Msg-Id": message_id(event),
    }
    if event.traceparent:
        headers["ce-traceparent"] = event.traceparent
        if event.tracestate:
            headers["ce-tracestate"] = event.tracestate
    body = msgspec.json.encode(event)
    if len(body) + _HEADROOM > largest:
        headers["ce-dataref"] = f"/api/v1/events/{event.id}?rule_uid={event.rule_uid}"
        body = msgspec.json.encode(
            {k: v for k, v in msgspec.structs.asdict(event).items() if k != "payload" and v != ""}
        )
    return event_subject(event.rule_namespace, event.rule_uid), body, headers


def next_events(connection: Connection, *, beyond: int) -> Found:
    """The next events to publish: those behind a ``seq``, as many as may be in memory and in flight at once.

    The last of them may be what passes the bytes that are allowed.
    """
    return walk_on(connection, beyond=beyond, limit=_CHUNK, most_bytes=_CHUNK_BYTES)


def begin_epoch(connection: Connection, *, epoch: int) -> int:
    """Where to go on; from here on no earlier holder of the lease moves the position.

    Args:
        connection: in a transaction, which the caller commits.
        epoch: of the lease.

    Raises:
        LeaseLostError: there was a later holder already.
    """
    row = _TABLE.c.name == NAME
    begun = update(_TABLE).where(row, _TABLE.c.epoch <= epoch).values(epoch=epoch).returning(_TABLE.c.published)
    position: int | None = connection.execute(begun).scalar_one_or_none()
    if position is not None:
        return position
    if connection.execute(select(_TABLE.c.epoch).where(row)).first() is not None:
        raise LeaseLostError("another replica publishes")
    connection.execute(insert(_TABLE).values(name=NAME, published=0, epoch=epoch))
    return 0


def move_position(connection: Connection, *, position: int, epoch: int) -> None:
    """Everything up to ``position`` has been acknowledged.

    Args:
        connection: in a transaction, which the caller commits.
        position: a ``seq``.
        epoch: of the lease under which it was published.

    Raises:
        LeaseLostError: there was a later holder.
    """
    moved = update(_TABLE).where(_TABLE.c.name == NAME, _TABLE.c.epoch == epoch).values(published=position)
    if not connection.execute(moved).rowcount:
        raise LeaseLostError("another replica publishes")


def _newest(info: StreamInfo) -> int:
    number: int = info.state.last_seq
    return number


class Outbox:
    """Publishes events. :meth:`run` does it until cancelled.

    Args:
        database: where events and the position are.
        leases: of the database.
        connector: the connection to NATS.
        stored: set when there may be something new.
        fresh: what this replica has stored.
        metrics: what is counted.
        max_age: seconds that events stay in the stream, if it has to be created.
        max_bytes: bytes the stream may hold, if it has to be created; the oldest go first, which loses nothing, since the
            stream is a window on the database.
        replicas: how many servers of a NATS cluster store the stream.
    """

    def __init__(
        self,
        *,
        database: Database,
        leases: Leases,
        connector: NatsConnector,
        stored: asyncio.Event,
        fresh: FreshEvents,
        metrics: Metrics,
        max_age: int,
        max_bytes: int,
        replicas: int = 1,
    ) -> None:
        self._replicas = replicas
        self._database = database
        self._leases = leases
        self._connector = connector
        self._woken = stored
        self._look_at = 0.0  # when the table is to be looked at for what other replicas stored (the loop's time)
        self._fresh = fresh
        self._careful = True  # as long as it is not known what became of what was sent before
        self._metrics = metrics
        self._max_age = max_age
        self._max_bytes = max_bytes

    async def run(self) -> None:
        """Publish until cancelled; wait out whatever NATS or the database do."""
        retries = _RETRY.start()

        def progressed() -> None:
            if retries.failures:
                log.info("outbox_recovered", failures=retries.failures)
            retries.reset()

        while True:
            try:
                await self._connector.wait_connected()
                async with self._leases.hold(_LEASE) as held:
                    log.info("outbox_leads", epoch=held.epoch)
                    await self._publish_all(held, progressed)
            except OUTAGES as error:
                if retries.failures == 0:
                    log.warning("outbox_waits", error=type(error).__name__, reason=str(error)[:300])
                await asyncio.sleep(retries.next_delay())

    async def _publish_all(self, held: Held, progressed: Callable[[], None]) -> None:
        async with asyncio.timeout(_CONNECT_TIMEOUT):  # without a connection the lease is better given to somebody else
            connection = await self._connector.wait_connected()
        jetstream = connection.client.jetstream(timeout=_REQUEST_TIMEOUT)
        start = await self._database.write(partial(begin_epoch, epoch=held.epoch))
        newest = await self._ensure_stream(jetstream)
        start = await already_there(
            partial(self._published, jetstream),
            self._database.read,
            next_events,
            position=start,
            newest=newest,
            name=message_id,
        )
        chain = Chain(connection, stream=EVENTS_STREAM, newest=newest, timeout=_ACK_TIMEOUT, answered=self._woken)
        await chain.start()
        position = MovingPosition(start, write=partial(self._move, epoch=held.epoch))
        self._metrics.outbox_position.set(position.value)
        in_flight: deque[int] = deque()  # the seq of each message without an answer
        reached, self._look_at = start, 0.0
        async with position.kept() as writing:
            self._fresh.wanted = True
            try:
                while not writing.done():
                    self._woken.clear()  # before looking: what is stored or answered from here on sets it again
                    acknowledged = self._settle(chain, in_flight, position)
                    events, at_the_end = await self._next(reached, room=_CHUNK - len(in_flight))
                    if acknowledged or not (events or in_flight):
                        progressed()
                    for start in range(0, len(events), _PART):
                        held.check()
                        part = events[start : start + _PART]
                        messages = [message(event, largest=connection.client.max_payload) for event in part]
                        in_flight.extend(event.seq for event in part)
                        reached = part[-1].seq
                        await chain.send(messages, each_answered=self._careful)
                    held.check()
                    if connection.closed:
                        raise NotPublishedError("not connected")
                    if at_the_end:
                        await self._wait(for_answers=bool(in_flight))
                writing.result()
            finally:
                self._fresh.forget()
                self._careful = self._careful or bool(in_flight)

    async def _next(self, reached: int, *, room: int) -> tuple[Sequence[Event], bool]:
        """The next events behind those that were sent, and whether there is no use in looking for more at once.

        The table is read for what this replica stored and ``fresh`` does not have, and for what others stored.
        """
        if room <= 0:
            return (), True
        fresh, more = self._fresh.take(beyond=reached, limit=room)
        if fresh:
            return fresh, not more
        now = asyncio.get_running_loop().time()
        if not more and now < self._look_at:
            return (), True
        self._look_at = now + _POLL
        found = await self._database.read(partial(next_events, beyond=reached))
        return found.events, found.reached is None

    async def _wait(self, *, for_answers: bool) -> None:
        """Wait until something is stored or answered, or it is time to look at the table."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + _PAUSE if for_answers else self._look_at):
                await self._woken.wait()

    def _settle(self, chain: Chain, in_flight: deque[int], position: MovingPosition) -> bool:
        """Move the position behind the events that JetStream has acknowledged; whether there are such events.

        Raises:
            NotPublishedError: not all were published. The next ones are sent with an answer for each, so that it is known how
                far they got.
        """
        sent = chain.settle()
        if sent.acknowledged:
            for _ in range(sent.acknowledged):
                seq = in_flight.popleft()
            position.move(seq)
            self._metrics.outbox_published.inc(sent.acknowledged)
            self._metrics.outbox_position.set(seq)
        if sent.failure is not None:
            raise sent.failure
        if not in_flight and sent.acknowledged:
            self._careful = False
        return sent.acknowledged > 0

    async def _move(self, position: int, *, epoch: int) -> None:
        await self._database.write(partial(move_position, position=position, epoch=epoch))

    @staticmethod
    async def _published(jetstream: JetStreamContext, number: int) -> Published | None:
        """What a message of the stream says of its event; None when it is not there."""
        try:
            found = await jetstream.get_msg(EVENTS_STREAM, number)
        except NotFoundError:
            return None
        return Published(id=(found.headers or {}).get("Nats-Msg-Id", ""), body=found.data or b"")

    async def _ensure_stream(self, jetstream: JetStreamContext) -> int:
        """Create the stream when it is missing. An existing one is left as it is, but for too few replicas.

        Returns:
            the number of its last message, 0 for none.
        """
        try:
            info = await jetstream.stream_info(EVENTS_STREAM)
        except NotFoundError:
            pass
        else:
            await raise_replicas(jetstream, info, replicas=self._replicas)
            return _newest(info)
        config = StreamConfig(
            name=EVENTS_STREAM,
            description="Accepted events, as the API passes them on",
            subjects=[ALL_EVENTS],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=self._max_age,
            max_bytes=self._max_bytes,
            num_replicas=self._replicas,
            duplicate_window=min(_DUPLICATE_WINDOW, self._max_age),
            allow_direct=True,
        )
        try:
            info = await jetstream.add_stream(config)
        except APIError as error:
            raise NotPublishedError(f"cannot create the stream {EVENTS_STREAM}: {error.description}") from None
        log.info("stream_created", stream=EVENTS_STREAM, max_age=self._max_age, max_bytes=self._max_bytes)
        return _newest(info)
