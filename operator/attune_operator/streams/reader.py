"""Reads a stream by an own push consumer: first the snapshot, then what comes after it.

Every reader has a consumer of a fresh name, so that nothing of an earlier one is in its way, and counts what arrives: a
gap in the consumer's sequence, a heartbeat that knows of more than came, or silence means that the reader does not have
what the stream holds. It says so and ends; it never goes on as if nothing had happened.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import nats.errors
from nats.aio.msg import Msg
from nats.js import api

from attune_operator.streams.connection import NatsConnection

_CONTROL_STATUS: Final = "100"
#: A server that forgot to say goodbye keeps a consumer this long, in seconds.
_INACTIVE_THRESHOLD: Final = 60.0
_PENDING_BYTES: Final = 1024**3


class ReaderLost(Exception):  # noqa: N818 - read as a sentence
    """The reader no longer has what the stream holds; take a new snapshot."""


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One message of a stream."""

    subject: str
    sequence: int
    headers: dict[str, str] | None
    data: bytes


#: Takes messages in the stream's order. It must not block and must not raise.
MessageHandler = Callable[[StreamMessage], None]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What JetStream says of a delivered message in its reply subject (ADR-15)."""

    stream_sequence: int
    consumer_sequence: int
    pending: int

    @classmethod
    def parse(cls, reply: str) -> "Delivery":
        """Read ``$JS.ACK.…``, with or without domain.

        Raises:
            ValueError: the subject has another shape.
        """
        tokens = reply.split(".")
        offset = 2 if len(tokens) >= 11 else 0
        if len(tokens) < 9 or tokens[1] != "ACK":
            raise ValueError(f"{reply!r} does not come from JetStream")
        return cls(int(tokens[5 + offset]), int(tokens[6 + offset]), int(tokens[8 + offset]))


class StreamReader:
    """Delivers a stream's messages to ``on_message``.

    Args:
        connection: where to read; the reader ends with it.
        stream, subject: what to read.
        start_sequence: from where; None: the last message of each subject, then everything new.
        headers_only: leave the bodies out.
        heartbeat: seconds between the server's signs of life when there is nothing to deliver.
    """

    def __init__(
        self,
        *,
        connection: NatsConnection,
        stream: str,
        subject: str,
        on_message: MessageHandler,
        start_sequence: int | None = None,
        headers_only: bool = False,
        heartbeat: float = 5.0,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._subject = subject
        self._on_message = on_message
        self._start_sequence = start_sequence
        self._headers_only = headers_only
        self._heartbeat = heartbeat
        self._name = f"attune-operator-{secrets.token_hex(8)}"
        self._subscription: Any = None
        self._lost: asyncio.Future[None] | None = None
        self._received = 0
        self._last_activity = 0.0
        self.caught_up = asyncio.Event()
        """Set when the snapshot was delivered."""
        self.snapshot_size = 0
        self.last_sequence = 0
        """Sequence of the newest message that was delivered."""

    async def start(self) -> None:
        """Make the consumer; delivery begins.

        Raises:
            nats.errors.Error: the server refused or did not answer.
        """
        loop = asyncio.get_running_loop()
        self._lost = loop.create_future()
        self._last_activity = loop.time()
        inbox = self._connection.client.new_inbox()
        self._subscription = await self._connection.client.subscribe(
            inbox, cb=self._receive, pending_msgs_limit=0, pending_bytes_limit=_PENDING_BYTES
        )
        info = await self._connection.jetstream.add_consumer(
            self._stream, config=self._config(inbox), timeout=self._connection.endpoint.request_timeout
        )
        self.snapshot_size = info.num_pending or 0
        if self.snapshot_size == 0:
            self.caught_up.set()

    def _config(self, inbox: str) -> api.ConsumerConfig:
        begin: dict[str, Any] = (
            {"deliver_policy": api.DeliverPolicy.LAST_PER_SUBJECT}
            if self._start_sequence is None
            else {"deliver_policy": api.DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": self._start_sequence}
        )
        return api.ConsumerConfig(
            name=self._name,
            description="attune-operator's view of the stream; made anew for each connection",
            filter_subject=self._subject,
            deliver_subject=inbox,
            ack_policy=api.AckPolicy.NONE,
            max_deliver=1,
            flow_control=True,
            idle_heartbeat=self._heartbeat,
            headers_only=self._headers_only or None,
            inactive_threshold=_INACTIVE_THRESHOLD,
            num_replicas=1,
            mem_storage=True,
            **begin,
        )

    async def run(self) -> None:
        """Watch over the delivery until it fails.

        Raises:
            ReaderLost: what was delivered is no longer what the stream holds.
        """
        if self._lost is None:
            raise RuntimeError("start() comes first")
        loop = asyncio.get_running_loop()
        while True:
            done, _ = await asyncio.wait({self._lost}, timeout=self._heartbeat)
            if done:
                self._lost.result()
            silence = loop.time() - self._last_activity
            if silence > 2.5 * self._heartbeat:
                raise ReaderLost(f"the consumer of {self._stream} has been silent for {silence:.0f} s")

    async def stop(self) -> None:
        """Take the consumer away, as far as the connection still allows it.

        When the task is being cancelled, the server does it by itself after a minute.
        """
        if self._lost is not None and self._lost.done() and not self._lost.cancelled():
            self._lost.exception()  # it was said already, or nobody wants to know any more
        if self._subscription is None or self._connection.closed.is_set():
            return
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            await self._subscription.unsubscribe()
            await self._connection.jetstream.delete_consumer(self._stream, self._name)

    async def _receive(self, message: Msg) -> None:
        self._last_activity = asyncio.get_running_loop().time()
        headers = message.headers
        if headers is not None and not message.data and headers.get("Status") == _CONTROL_STATUS:
            await self._control(message, headers)
            return
        try:
            delivery = Delivery.parse(message.reply)
        except ValueError as error:
            self._fail(str(error))
            return
        if delivery.consumer_sequence != self._received + 1:
            self._fail(f"message {self._received + 1} of the consumer of {self._stream} did not arrive")
            return
        self._received = delivery.consumer_sequence
        self.last_sequence = delivery.stream_sequence
        try:
            self._on_message(StreamMessage(message.subject, delivery.stream_sequence, headers, message.data))
        except Exception as error:
            self._fail(f"a message of {self._stream} could not be handled: {type(error).__name__}: {error}")
            return
        if not self.caught_up.is_set() and (delivery.pending == 0 or self._received >= self.snapshot_size > 0):
            self.caught_up.set()

    async def _control(self, message: Msg, headers: dict[str, str]) -> None:
        """Answer flow control, and compare the heartbeat's count with what came."""
        if message.reply:
            await self._connection.client.publish(message.reply)
            return
        if stalled := headers.get("Nats-Consumer-Stalled"):
            await self._connection.client.publish(stalled)
        delivered = headers.get("Nats-Last-Consumer", "")
        if delivered.isdigit() and int(delivered) != self._received:
            self._fail(f"{delivered} messages of {self._stream} were sent and {self._received} arrived")
        elif delivered.isdigit() and not stalled:
            # Nothing is left to deliver: messages that the snapshot counted were replaced meanwhile.
            self.caught_up.set()

    def _fail(self, reason: str) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(ReaderLost(reason))


async def read_snapshot(
    *,
    connection: NatsConnection,
    stream: str,
    subject: str,
    on_message: MessageHandler,
    timeout: float,  # noqa: ASYNC109 - covers several calls, and the error says what it was about
    start_sequence: int | None = None,
    headers_only: bool = False,
) -> int:
    """Deliver the last message of each subject once (or everything from ``start_sequence``), and return the count.

    Raises:
        ReaderLost: it did not come whole, or not within ``timeout`` seconds.
        nats.errors.Error: the server refused or did not answer.
    """
    count = 0

    def deliver(message: StreamMessage) -> None:
        nonlocal count
        count += 1
        on_message(message)

    reader = StreamReader(
        connection=connection,
        stream=stream,
        subject=subject,
        on_message=deliver,
        start_sequence=start_sequence,
        headers_only=headers_only,
        heartbeat=1.0,
    )
    try:
        await reader.start()
        async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
            watch = group.create_task(reader.run())
            closed = group.create_task(_until_closed(connection))
            await reader.caught_up.wait()
            watch.cancel()
            closed.cancel()
    except ExceptionGroup as group_error:
        raise ReaderLost(str(group_error.exceptions[0])) from group_error
    except TimeoutError as error:
        raise ReaderLost(f"the snapshot of {stream} took longer than {timeout:.0f} s") from error
    finally:
        await reader.stop()
    return count


async def _until_closed(connection: NatsConnection) -> None:
    await connection.wait_closed()
    raise ReaderLost(connection.reason)
