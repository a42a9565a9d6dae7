"""Reads the last message of each subject of a stream, then each new one.

Each reader has a consumer of its own (:mod:`attune_kit.nats.pull_consumer`), so that nothing of an earlier one is in its
way. It counts what arrives: a gap in the consumer's sequence, a heartbeat that knows of more messages than arrived, or
silence means that the reader does not have what the stream holds. Then it ends, and its owner takes a new snapshot.

nats-py's ordered consumer is not used: when a stream was deleted and created again, it resumes at the old sequence and
loses messages without an error (nats-py 2.16).

A reader needs few rights: to create, ask and delete a consumer whose name and filter stand in the requests' subjects, and
an inbox.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import nats.errors
import structlog
from nats.aio.msg import Msg

from attune_kit.nats.client import unsubscribe
from attune_kit.nats.connection import NatsConnection
from attune_kit.nats.pull_consumer import JETSTREAM_API, PullConsumer

_log = structlog.stdlib.get_logger(__name__)

_CONTROL_STATUS: Final = "100"
#: Heartbeats that may be missing.
_SILENT_HEARTBEATS: Final = 2.5
#: Seconds of silence that are allowed, at least, while a snapshot comes. Between two batches of it there are no heartbeats, and
#: there are 100 batches for 100,000 subjects: where processors are busy, one of them comes late.
_SNAPSHOT_SILENCE: Final = 10.0
#: Seconds without a message after which a snapshot that is not complete is given up: heartbeats show that the consumer
#: lives, only messages show that the snapshot makes progress.
_SNAPSHOT_STALL: Final = 30.0
#: Bytes that may wait for a handler; a batch is far smaller.
_PENDING_BYTES: Final = 1024**3


class ReaderLostError(Exception):
    """The reader no longer has what the stream holds; take a new snapshot.

    Attributes:
        reason: one of a few words, for metrics.
    """

    def __init__(self, text: str, *, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


class Delivery(NamedTuple):
    """What JetStream says about a delivered message in its reply subject (NATS ADR-15)."""

    stream_sequence: int
    consumer_sequence: int
    stored_ns: int
    """When the message was stored: nanoseconds since 1970."""
    pending: int

    @classmethod
    def parse(cls, reply: str) -> "Delivery":
        """Read ``$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<sequence>.<consumer's>.<ns>.<pending>``.

        Raises:
            ValueError: the subject has another shape.
        """
        tokens = reply.split(".")
        # With a domain there are two more tokens in front, and a random one may follow.
        first = 5 if len(tokens) == 9 else 7
        if len(tokens) < 9 or tokens[1] != "ACK":
            raise ValueError(f"{reply!r} is not the reply subject of a JetStream delivery")
        return cls(int(tokens[first]), int(tokens[first + 1]), int(tokens[first + 2]), int(tokens[first + 3]))


class StreamMessage(NamedTuple):
    """One message of a stream."""

    subject: str
    sequence: int
    headers: dict[str, str] | None
    data: bytes
    stored_ns: int = 0
    """When the message was stored: nanoseconds since 1970."""


#: Takes messages in the stream's order. It must be fast and not block: 100,000 messages may arrive in a second.
MessageHandler = Callable[[StreamMessage], None]


class LastPerSubjectReader:
    """Delivers a stream's messages to ``on_message``.

    Call :meth:`start`, then :meth:`run` or :meth:`wait`, then :meth:`stop`.

    Args:
        connection: where to read; the reader ends with it.
        stream: the stream.
        subject: filter.
        on_message: called with each message.
        on_caught_up: called once, after the last message of each subject was delivered.
        start_sequence: deliver everything from here on instead of the last message of each subject.
        headers_only: leave the bodies out.
        heartbeat: seconds between the server's signs of life while there is nothing to deliver.
        api: prefix of the JetStream API that reaches the stream.
        consumer_names: the names that this client's consumers may have; unless given, a fresh one is made up.

    Attributes:
        snapshot_size: how many messages the snapshot has, as the server counted them at the start.
        last_sequence: the stream's sequence of the newest message that was delivered.
    """

    def __init__(
        self,
        *,
        connection: NatsConnection,
        stream: str,
        subject: str,
        on_message: MessageHandler,
        on_caught_up: Callable[[], None] = lambda: None,
        start_sequence: int | None = None,
        headers_only: bool = False,
        heartbeat: float = 5.0,
        api: str = JETSTREAM_API,
        consumer_names: Sequence[str] = (),
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._on_message = on_message
        self._on_caught_up = on_caught_up
        self._heartbeat = heartbeat
        self._consumer = PullConsumer(
            connection=connection,
            stream=stream,
            subject=subject,
            api=api,
            names=consumer_names,
            config=_where_to_begin(start_sequence) | ({"headers_only": True} if headers_only else {}),
            heartbeat=heartbeat,
        )
        self._subscription: Any = None
        self._inbox = ""
        loop = asyncio.get_running_loop()
        self._now = loop.time
        self._lost: asyncio.Future[None] = loop.create_future()
        self._complete: asyncio.Future[None] = loop.create_future()
        self._stopped = False
        self._received = 0
        self._last_sign = self._last_message = self._now()
        self.snapshot_size = 0
        self.last_sequence = 0

    @property
    def caught_up(self) -> bool:
        """Whether the last message of each subject was delivered."""
        return self._complete.done()

    async def start(self) -> None:
        """Create the consumer; delivery begins.

        Raises:
            StreamUnavailableError: there is no such stream, or no JetStream, now.
            nats.errors.Error: the connection was lost, or the request was not answered or not allowed.
        """
        client = self._connection.client
        self._inbox = client.new_inbox()
        self._subscription = await client.subscribe(
            self._inbox, cb=self._receive, pending_msgs_limit=0, pending_bytes_limit=_PENDING_BYTES
        )
        await self._consumer.create()
        self._last_sign = self._last_message = self._now()
        self.snapshot_size = self._consumer.pending
        if self.snapshot_size == 0:
            self._caught_up()
        await self._consumer.pull(self._inbox)

    async def run(self) -> None:
        """Watch over the delivery until it fails.

        Raises:
            ReaderLostError: what was delivered is no longer what the stream holds.
        """
        while True:
            await self._watch(None, seconds=3600)

    async def wait(self, seconds: float) -> None:
        """Watch over the delivery for this long.

        Raises:
            ReaderLostError: what was delivered is no longer what the stream holds.
        """
        await self._watch(None, seconds=seconds)

    async def wait_caught_up(self) -> None:
        """Return when the last message of each subject was delivered.

        Raises:
            ReaderLostError: what was delivered is not what the stream holds.
        """
        while not self._complete.done():
            await self._watch(self._complete, seconds=3600)

    async def stop(self) -> None:
        """Stop the delivery, as far as the connection still allows it. What still arrives is ignored."""
        self._stopped = True
        if self._lost.done() and not self._lost.cancelled():
            self._lost.exception()  # it was reported already, or does not matter any more
        if self._subscription is None or self._connection.closed:
            return
        await unsubscribe(self._subscription)
        await self._consumer.delete()

    async def _watch(self, awaited: "asyncio.Future[None] | None", *, seconds: float) -> None:
        ended = self._connection.ended
        futures = {self._lost, ended} | (set() if awaited is None else {awaited})
        until = self._now() + seconds
        while True:
            if self._lost.done():
                self._lost.result()
            if ended.done():
                raise ReaderLostError(self._connection.reason, reason="reconnect")
            now = self._now()
            if (awaited is not None and awaited.done()) or now >= until:
                return
            silent = self._last_sign + silence(heartbeat=self._heartbeat, complete=self._complete.done())
            stalled = float("inf") if self._complete.done() else self._last_message + _SNAPSHOT_STALL
            if now >= silent:
                so_far = "" if self._complete.done() else f", after {self._received} of {self.snapshot_size} messages"
                self._fail(
                    f"the consumer of {self._stream} has been silent for {now - self._last_sign:.1f} s{so_far}",
                    "silent",
                )
            elif now >= stalled:
                self._fail(f"the snapshot of {self._stream} has stalled for {_SNAPSHOT_STALL:.0f} s", "stalled")
            else:
                await asyncio.wait(
                    futures, timeout=min(until, silent, stalled) - now, return_when=asyncio.FIRST_COMPLETED
                )

    async def _receive(self, message: Msg) -> None:
        if self._stopped or self._lost.done():
            return
        now = self._last_sign = self._now()
        headers = message.headers
        if headers is not None and "Status" in headers:
            await self._control(message, headers)
            return
        self._last_message = now
        try:
            delivery = Delivery.parse(message.reply)
        except ValueError as error:
            self._fail(str(error), "malformed")
            return
        received = self._received + 1
        if delivery.consumer_sequence != received:
            self._fail(f"message {received} of the consumer of {self._stream} did not arrive", "gap")
            return
        self._received = received
        sequence = self.last_sequence = delivery.stream_sequence
        try:
            self._on_message(StreamMessage(message.subject, sequence, headers, message.data, delivery.stored_ns))
        except Exception as error:
            self._fail_handler(error)
            return
        if not self._complete.done() and (delivery.pending == 0 or received >= self.snapshot_size > 0):
            self._caught_up()
        if self._consumer.received():
            await self._pull()

    async def _pull(self) -> None:
        # A connection that is lost ends the reader by itself.
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._consumer.pull(self._inbox)

    async def _control(self, message: Msg, headers: dict[str, str]) -> None:
        """Compare a heartbeat's count with what arrived (NATS ADR-9), and ask for the next batch when one is over."""
        if self._consumer.ends_batch(headers):
            await self._pull()
            return
        if headers["Status"] != _CONTROL_STATUS:
            # The consumer was deleted, or the server that led it is going away.
            said = headers.get("Description") or f"status {headers['Status']}"
            self._fail(f"the server ended the consumer of {self._stream}: {said}", "ended")
            return
        delivered = headers.get("Nats-Last-Consumer", "")
        if not delivered.isdigit():
            return
        if int(delivered) != self._received:
            self._fail(f"{delivered} messages of {self._stream} were sent and {self._received} arrived", "gap")
        else:
            # The consumer is idle, so the snapshot is over, even if its last message was deleted or replaced meanwhile.
            self._caught_up()

    def _caught_up(self) -> None:
        if not self._complete.done():
            self._complete.set_result(None)
            try:
                self._on_caught_up()
            except Exception as error:
                self._fail_handler(error)

    def _fail_handler(self, error: Exception) -> None:
        _log.error("stream_handler_failed", stream=self._stream, exc_info=error)
        self._fail(f"a message of {self._stream} could not be handled: {type(error).__name__}: {error}", "handler")

    def _fail(self, text: str, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_exception(ReaderLostError(text, reason=reason))


def silence(*, heartbeat: float, complete: bool) -> float:
    """Seconds without a sign of life after which a consumer counts as lost.

    Args:
        heartbeat: seconds between signs of life while there is nothing to deliver.
        complete: whether the snapshot is; until then it takes longer.
    """
    missing = _SILENT_HEARTBEATS * heartbeat
    return missing if complete else max(missing, _SNAPSHOT_SILENCE)


def _where_to_begin(start_sequence: int | None) -> dict[str, Any]:
    if start_sequence is None:
        return {"deliver_policy": "last_per_subject"}
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": start_sequence}


async def read_snapshot(
    *,
    connection: NatsConnection,
    stream: str,
    subject: str,
    on_message: MessageHandler,
    timeout: float,  # noqa: ASYNC109 - covers several calls, and the error says what it was about
    start_sequence: int | None = None,
    headers_only: bool = False,
    api: str = JETSTREAM_API,
) -> int:
    """Deliver the last message of each subject once (or everything from ``start_sequence`` on), and return the count.

    Raises:
        ReaderLostError: it did not arrive completely, or not within ``timeout`` seconds.
        nats.errors.Error: the server refused or did not answer.
    """
    count = 0

    def deliver(message: StreamMessage) -> None:
        nonlocal count
        count += 1
        on_message(message)

    reader = LastPerSubjectReader(
        connection=connection,
        stream=stream,
        subject=subject,
        on_message=deliver,
        start_sequence=start_sequence,
        headers_only=headers_only,
        heartbeat=1.0,
        api=api,
    )
    try:
        await reader.start()
        async with asyncio.timeout(timeout):
            await reader.wait_caught_up()
    except TimeoutError as error:
        if isinstance(error, nats.errors.Error):
            raise
        raise ReaderLostError(f"the snapshot of {stream} took longer than {timeout:.0f} s", reason="timeout") from error
    finally:
        await reader.stop()
    return count
