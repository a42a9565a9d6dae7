"""One durable consumer of one stream."""

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error, NoRespondersError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from attune_kit.nats.client import unsubscribe
from attune_kit.nats.connection import NatsConnection, NatsEndpoint, NatsUnavailableError, describe, open_connection
from attune_nats.parameters import Subscription
from attune_nats.payload import Content
from attune_sensor import Message, SourceError

#: Seconds after which the server delivers again what nobody acknowledged, or said to be at work on. The SDK says so every
#: two seconds.
ACK_WAIT: Final = 6.0
_BATCH: Final = 256
_BATCH_BYTES: Final = 4 * 1024 * 1024
#: Seconds that a pull waits for messages, and that its end may take longer.
_EXPIRES: Final = 2.0
_GRACE: Final = 8.0
#: How often (seconds) to see whether messages of a consumer's last reader are still pending.
_LOOK: Final = 0.5
#: What ends a pull and is no fault (NATS ADR-37).
_ENDS: Final = ("404", "408")


class NatsStream:
    """A :class:`attune_sensor.Source`.

    Args:
        endpoint: where NATS is.
        domain: the JetStream domain.
        subscription: what is read.
        after: the sequence after which a consumer begins that is not there; None: as the subscription says.
    """

    def __init__(
        self, endpoint: NatsEndpoint, *, domain: str | None, subscription: Subscription, after: int | None
    ) -> None:
        self._endpoint = endpoint
        self._api = f"$JS.{domain}.API" if domain else "$JS.API"
        self._wanted = subscription
        #: The last message that was read.
        self.last = after
        self._exit = contextlib.AsyncExitStack()
        self._connection: NatsConnection | None = None
        self._inbox = ""
        self._created = ""
        self._ordered_at = 0.0  # when all that somebody else has read and left is delivered again
        self._waiting: collections.deque[Msg] = collections.deque()  # at most one batch
        self._arrived = asyncio.Event()
        self._asked = 0  # messages that the pull under way may still bring

    async def open(self) -> None:
        """Connect, and make the consumer unless it is there.

        Raises:
            SourceError: the stream cannot be read.
        """
        try:
            self._connection = await self._exit.enter_async_context(open_connection(self._endpoint))
        except NatsUnavailableError as error:
            raise SourceError(str(error)) from error
        async with self._told():
            jetstream = self._connection.jetstream_at(self._api)
            self._created = str((await jetstream.stream_info(self._wanted.stream)).created)
            info = await self._consumer(jetstream)
            self._check(info.config)
            if info.num_ack_pending:
                self._ordered_at = time.monotonic() + (info.config.ack_wait or ACK_WAIT) + 1.0
            self._inbox = self._connection.client.new_inbox()
            subscription = await self._connection.client.subscribe(self._inbox, cb=self._receive)
            self._exit.push_async_callback(unsubscribe, subscription)

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
        """Acknowledge, and see that the server has it.

        Raises:
            SourceError: the connection was lost.
        """
        async with self._told():
            for message in messages:
                await message.handle.ack()
            await self._open_connection.client.flush()

    async def hold(self, messages: Sequence[Message]) -> None:
        """Say that somebody works on these.

        Raises:
            SourceError: the connection was lost.
        """
        async with self._told():
            for message in messages:
                await message.handle.in_progress()
            # Those that have arrived and were not read yet, too: the server delivers again in the order of the last word.
            for message in list(self._waiting):
                if message.reply:
                    await message.in_progress()

    async def close(self) -> None:
        """Disconnect. The server delivers again what was not acknowledged."""
        await self._exit.aclose()

    # -- the consumer ------------------------------------------------------------------------------------------------------

    async def _consumer(self, jetstream: Any) -> Any:
        try:
            return await jetstream.consumer_info(self._wanted.stream, self._wanted.consumer)
        except NotFoundError:
            return await jetstream.add_consumer(self._wanted.stream, self._config())

    def _config(self) -> ConsumerConfig:
        start: dict[str, Any] = {"deliver_policy": DeliverPolicy.ALL}
        if self.last is not None:  # the consumer was deleted while it was read
            start = {"deliver_policy": DeliverPolicy.BY_START_SEQUENCE, "opt_start_seq": self.last + 1}
        elif self._wanted.start == "new":
            start = {"deliver_policy": DeliverPolicy.NEW}
        return ConsumerConfig(
            durable_name=self._wanted.consumer,
            description="Attune: a Sensor reads this stream",
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT,
            max_ack_pending=4 * _BATCH,
            filter_subject=self._wanted.subject,
            **start,
        )

    def _check(self, found: ConsumerConfig) -> None:
        problem = None
        if found.deliver_subject:
            problem = "it pushes, and the sensor pulls"
        elif found.ack_policy != AckPolicy.EXPLICIT:
            problem = f"its ack policy is {found.ack_policy}, not explicit"
        elif self._wanted.subject is not None and found.filter_subject != self._wanted.subject:
            problem = f"its subject is {found.filter_subject}, not {self._wanted.subject}"
        if problem is not None:
            raise SourceError(f"the consumer {self._wanted.consumer} is there and cannot be used: {problem}")

    async def _others_pending(self) -> bool:
        async with self._told():
            jetstream = self._open_connection.jetstream_at(self._api)
            info = await jetstream.consumer_info(self._wanted.stream, self._wanted.consumer)
            return bool(info.num_ack_pending)

    # -- messages ----------------------------------------------------------------------------------------------------------

    async def _next(self, *, wait: bool) -> Sequence[Message]:
        if time.monotonic() < self._ordered_at and await self._others_pending():
            # New messages would come before those that were read by somebody who is gone.
            await asyncio.sleep(_LOOK)
            return []
        self._ordered_at = 0.0
        if not self._waiting:
            await self._ask()
            if wait:
                await self._wait()
        if self._open_connection.closed:
            raise SourceError(self._open_connection.reason)
        taken: list[Message] = []
        while self._waiting:
            message = self._waiting.popleft()
            if message.reply:
                self._asked -= 1
                taken.append(self._message(message))
            else:
                self._status(message.headers or {})
        await self._ask()  # they come while those that are here are stored
        taken.sort(key=lambda message: int(message.content.sequence))
        if taken:
            self.last = max(self.last or 0, taken[-1].content.sequence)
        return taken

    async def _ask(self) -> None:
        """Ask for messages, unless a pull is under way."""
        if self._asked > 0:
            return
        self._asked = _BATCH
        request = {"batch": _BATCH, "expires": int(_EXPIRES * 1e9), "max_bytes": _BATCH_BYTES}
        subject = f"{self._api}.CONSUMER.MSG.NEXT.{self._wanted.stream}.{self._wanted.consumer}"
        async with self._told():
            await self._open_connection.client.publish(subject, msgspec.json.encode(request), reply=self._inbox)

    async def _wait(self) -> None:
        """Wait for something to arrive."""
        connection = self._open_connection
        self._arrived.clear()
        if self._waiting:
            return
        arrived = asyncio.ensure_future(self._arrived.wait())
        either: set[asyncio.Future[Any]] = {arrived, connection.ended}
        try:
            done, _ = await asyncio.wait(either, timeout=_EXPIRES + _GRACE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            arrived.cancel()
        if not done:
            raise SourceError(f"the consumer {self._wanted.consumer} of {self._wanted.stream} is silent")
        if connection.closed:
            raise SourceError(connection.reason)

    async def _receive(self, message: Msg) -> None:
        self._waiting.append(message)
        self._arrived.set()

    def _status(self, headers: dict[str, str]) -> None:
        status, text = headers.get("Status", ""), headers.get("Description", "")
        if status == "100":
            return
        self._asked = 0
        if status in _ENDS or "maxbytes" in text.lower() or "batch completed" in text.lower():
            return
        raise SourceError(f"NATS ended the reading of {self._wanted.stream}: {text or status}")

    def _message(self, message: Msg) -> Message:
        metadata = message.metadata
        sequence = metadata.sequence.stream
        headers = message.headers or {}
        content = Content(
            server=self._wanted.server,
            stream=self._wanted.stream,
            subject=message.subject,
            sequence=sequence,
            headers=headers,
            data=message.data,
        )
        return Message(
            partition="",
            # A stream that is deleted and created again counts from 1.
            occurrence=f"{self._wanted.server}/{self._wanted.stream}/{self._created}/{sequence}",
            content=content,
            size=len(message.data) + sum(len(name) + len(value) for name, value in headers.items()),
            occurred_at=metadata.timestamp,
            handle=message,
            traceparent=headers.get("traceparent", ""),
            tracestate=headers.get("tracestate", ""),
        )

    @property
    def _open_connection(self) -> NatsConnection:
        assert self._connection is not None  # noqa: S101 - it is open
        return self._connection

    @contextlib.asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        """Say what went wrong as a :class:`SourceError`."""
        try:
            yield
        except NotFoundError as error:
            raise SourceError(f"the stream {self._wanted.stream} is not there: {describe(error)}") from error
        except NoRespondersError as error:
            raise SourceError(describe(error)) from error
        except (APIError, Error, OSError) as error:
            raise SourceError(f"NATS at {self._endpoint.shown}: {describe(error)}") from error
