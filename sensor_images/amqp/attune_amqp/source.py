"""One queue: deliveries in, acknowledgements back, in the order of the queue."""

import asyncio
import collections
import contextlib
import ssl
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import (
    AuthenticationError,
    ChannelNotFoundEntity,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from attune_amqp.config import Server
from attune_amqp.payload import Content, identity_of, occurred_at, occurrence_of, size_of
from attune_sensor import Message, SourceError

#: Seconds that the connection and each request may take.
_CONNECTS: Final = 10.0
_ANSWERS: Final = 10.0
#: Seconds after which either side misses the other. What a sensor that vanished had is delivered again after two of these.
_HEARTBEAT: Final = 20
#: Seconds that a read waits for messages.
_BLOCK: Final = 2.0
_BATCH_BYTES: Final = 4 * 1024 * 1024
#: The properties that events carry; headers are apart from them.
_PROPERTIES: Final = (
    "app_id",
    "content_encoding",
    "content_type",
    "correlation_id",
    "expiration",
    "message_id",
    "priority",
    "reply_to",
    "timestamp",
    "user_id",
)
#: The header that only messages of streams have.
_OF_STREAMS: Final = "x-stream-offset"


class AmqpQueue:
    """A :class:`attune_sensor.Source`.

    Args:
        server: where it is.
        queue: its name.
        password: the password, if one is needed.
        tls: how the connection is encrypted; None: it is not.
        name: what the broker shows as the connection's name.
    """

    def __init__(
        self, server: Server, queue: str, *, password: str | None, tls: ssl.SSLContext | None, name: str
    ) -> None:
        self._server = server
        self._queue = queue
        self._where = f"{server.host}:{server.port}"
        self._tls = tls
        self._url = URL.build(
            scheme="amqps" if server.tls else "amqp",
            user=server.username,
            password=password,
            host=server.host,
            port=server.port,
            path=f"/{server.vhost.replace('/', '%2F')}",
            encoded=False,
            query={"heartbeat": str(_HEARTBEAT), "name": name},
        )
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._waiting: collections.deque[DeliveredMessage] = collections.deque()  # at most what may be under way
        self._arrived = asyncio.Event()
        self._ended: str | None = None
        self._acknowledged = 0  # the last delivery tag of those before which all are acknowledged

    async def open(self) -> None:
        """Connect, and have the broker deliver.

        Raises:
            SourceError: the queue cannot be read.
        """
        async with self._told():
            self._connection = aiormq.Connection(self._url, context=self._tls)
            await self._connect(self._connection)
            self._channel = channel = await self._connection.channel(publisher_confirms=False, timeout=_ANSWERS)
            channel.on_consumer_cancel_callbacks.add(self._cancelled)
            channel.closing.add_done_callback(self._closed)
            await channel.queue_declare(self._queue, passive=True, timeout=_ANSWERS)
            await channel.basic_qos(prefetch_count=self._server.prefetch, timeout=_ANSWERS)
            await channel.basic_consume(self._queue, self._receive, timeout=_ANSWERS)

    async def read(self) -> Sequence[Message]:
        """The next messages.

        Raises:
            SourceError: they cannot be read.
        """
        return await self._next(wait=True)

    async def read_ahead(self) -> Sequence[Message]:
        """The next messages that have arrived.

        Raises:
            SourceError: they cannot be read.
        """
        return await self._next(wait=False)

    async def acknowledge(self, messages: Sequence[Message]) -> None:
        """Acknowledge, and see that the broker has it.

        Raises:
            SourceError: the connection was lost.
        """
        self._check()
        tags = [int(message.handle) for message in messages]
        channel = self._open_channel
        async with self._told():
            if tags == list(range(self._acknowledged + 1, self._acknowledged + 1 + len(tags))):
                await channel.basic_ack(tags[-1], multiple=True)
                self._acknowledged = tags[-1]
            else:
                for tag in tags:
                    await channel.basic_ack(tag, wait=False)
            # There is no answer to an acknowledgement. The broker does one thing after another, so this comes after it.
            await channel.queue_declare(self._queue, passive=True, timeout=_ANSWERS)

    async def hold(self, messages: Sequence[Message]) -> None:
        """See that the connection is there: while it is, nobody else gets these.

        Raises:
            SourceError: it was lost.
        """
        self._check()

    async def close(self) -> None:
        """Disconnect. The broker delivers again what was not acknowledged."""
        if self._connection is not None:
            await self._connection.close()

    # -- the broker --------------------------------------------------------------------------------------------------------

    async def _connect(self, connection: AbstractConnection) -> None:
        try:
            async with asyncio.timeout(_CONNECTS):
                await connection.connect()
        except InvalidFrameError as error:
            raise SourceError(
                f"{self._where} does not open the virtual host {self._server.vhost}: "
                "it is not there, or the user may not use it"
            ) from error

    async def _next(self, *, wait: bool) -> Sequence[Message]:
        self._arrived.clear()
        if wait and not self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BLOCK):
                    await self._arrived.wait()
        self._check()
        taken: list[Message] = []
        size = 0
        while self._waiting and size < _BATCH_BYTES:
            message = self._message(self._waiting.popleft())
            size += message.size
            taken.append(message)
        return taken

    async def _receive(self, delivered: DeliveredMessage) -> None:
        self._waiting.append(delivered)
        self._arrived.set()

    def _cancelled(self, _: Any) -> None:
        self._end(f"the queue {self._queue} was deleted at {self._where}, or moved to another node")

    def _closed(self, closing: "asyncio.Future[Any]") -> None:
        error = None if closing.cancelled() else closing.exception()
        said = "" if error is None or isinstance(error, asyncio.CancelledError) else f": {_said(error)}"
        self._end(f"{self._where} has ended the connection{said}")

    def _end(self, why: str) -> None:
        self._ended = self._ended or why
        self._arrived.set()

    def _check(self) -> None:
        """Raise why nothing is read any more: what has arrived cannot be acknowledged then."""
        if self._ended is not None:
            raise SourceError(self._ended)
        # The client can lose its connection without a word, when one of its own tasks is cancelled.
        if self._connection is None or not self._connection.is_opened or self._open_channel.is_closed:
            raise SourceError(f"{self._where} has ended the connection")

    def _message(self, delivered: DeliveredMessage) -> Message:
        properties = delivered.header.properties
        headers = properties.headers or {}
        if _OF_STREAMS in headers:
            raise SourceError(
                f"{self._queue} of {self._where} is a stream; this sensor reads classic and quorum queues"
            )
        found = {name: getattr(properties, name) for name in _PROPERTIES}
        found["type"] = properties.message_type
        given = {name: value for name, value in found.items() if value not in (None, "")}
        content = Content(
            server=self._server.name,
            queue=self._queue,
            identity=identity_of(headers, given, id_header=self._server.id_header),
            exchange=delivered.exchange or "",
            routing_key=delivered.routing_key or "",
            redelivered=bool(delivered.redelivered),
            properties=given,
            headers=headers,
            body=delivered.body,
        )
        return Message(
            partition="",
            occurrence=occurrence_of(content, delivery=uuid.uuid4().hex),
            content=content,
            size=size_of(content),
            occurred_at=occurred_at(content),
            handle=delivered.delivery_tag,
            traceparent=_text(headers.get("traceparent")),
            tracestate=_text(headers.get("tracestate")),
        )

    @property
    def _open_channel(self) -> AbstractChannel:
        assert self._channel is not None  # noqa: S101 - it is open
        return self._channel

    @contextlib.asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        """Say what went wrong as a :class:`SourceError`."""
        try:
            yield
        except SourceError:
            raise
        except ChannelNotFoundEntity as error:
            raise SourceError(f"the queue {self._queue} is not there: {_said(error)}") from error
        except (AuthenticationError, ProbableAuthenticationError) as error:
            raise SourceError(f"{self._where} does not accept the credentials: {_said(error)}") from error
        except TimeoutError as error:
            raise SourceError(f"{self._where} does not answer") from error
        except Exception as error:  # the client ends what waits for a lost connection with any of them
            raise SourceError(self._ended or f"{self._where}: {_said(error)}") from error


def _said(error: BaseException) -> str:
    """What the broker or the system said."""
    words = [str(word) for word in getattr(error, "args", ()) if isinstance(word, str | int) and str(word)]
    if not words and type(error) is Exception:
        return "the connection was lost"
    return " ".join(words) or type(error).__name__


def _text(value: object) -> str:
    """A header as text; empty when it is none."""
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    return value if isinstance(value, str) else ""
