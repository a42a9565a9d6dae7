"""One topic filter: messages of a session that outlives the connection, acknowledged when they are stored."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import MQTTMessage

from attune_mqtt.client import SessionClient
from attune_mqtt.config import Server
from attune_mqtt.deliveries import Deliveries
from attune_mqtt.parameters import Subscription
from attune_mqtt.payload import Content, identity_of, occurrence_of, size_of
from attune_sensor import Message, SourceError

#: Seconds that a read waits for messages.
_BLOCK: Final = 2.0
_BATCH_BYTES: Final = 4 * 1024 * 1024
#: Codes of a CONNACK: the name or the password is wrong, or the user may not connect.
_NOT_LET_IN: Final = {"Bad user name or password", "Not authorized"}


class MqttTopic:
    """A :class:`attune_sensor.Source`.

    Args:
        server: where it is.
        subscription: what is read.
        password: the password, if one is needed.
        tls: how the connection is encrypted; None: it is not.
        client_id: the session's name.
        deliveries: names of the session's deliveries; they outlive this connection.
        opened: called with whether the broker knew the session, when it has let us in.
    """

    def __init__(
        self,
        server: Server,
        subscription: Subscription,
        *,
        password: str | None,
        tls: ssl.SSLContext | None,
        client_id: str,
        deliveries: Deliveries,
        opened: Callable[[bool], None],
    ) -> None:
        self._server = server
        self._subscription = subscription
        self._where = f"{server.host}:{server.port}"
        self._client = SessionClient(server, client_id=client_id, password=password, tls=tls)
        self._deliveries = deliveries
        self._opened = opened
        self._taken = 0  # messages that were read and are not acknowledged
        self._last: Message | None = None

    async def open(self) -> None:
        """Connect, and ask for the messages.

        Raises:
            SourceError: they cannot be read.
        """
        async with self._told():
            await self._client.__aenter__()
            resumed = bool(self._client.resumed)
            if not resumed:
                self._deliveries.forget()
            self._opened(resumed)
            await self._client.read_topic(self._subscription.topic, retained=self._subscription.retained)
        self._check()

    async def read(self) -> Sequence[Message]:
        """The next messages: no more than may be under way, whatever the broker has delivered.

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
        """Acknowledge, in the order in which they came.

        Raises:
            SourceError: the connection was lost.
        """
        self._check()
        async with self._told():
            for message in messages:
                for received in message.handle:
                    self._acknowledge(received)
                self._taken -= 1

    async def hold(self, messages: Sequence[Message]) -> None:
        """See that the connection is there: while it is, nobody else gets these.

        Raises:
            SourceError: it was lost.
        """
        self._check()

    async def close(self) -> None:
        """Disconnect. The session stays, and the broker delivers again what was not acknowledged."""
        if self._client.taken_over:
            self._deliveries.forget()
        with contextlib.suppress(aiomqtt.MqttError):
            await self._client.leave()

    # -- messages ----------------------------------------------------------------------------------------------------------

    async def _next(self, *, wait: bool) -> Sequence[Message]:
        client = self._client
        client.arrived.clear()
        if wait and not client.waiting and client.ended is None and client.refused is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BLOCK):
                    await client.arrived.wait()
        self._check()
        taken: list[Message] = []
        size = 0
        async with self._told():
            while client.waiting and self._taken < self._server.prefetch and size < _BATCH_BYTES:
                received = client.take()
                if not self._wanted(received):
                    self._pass_over(received)
                    continue
                self._taken += 1
                message = self._message(received)
                size += message.size
                self._last = message
                taken.append(message)
        return taken

    def _wanted(self, received: MQTTMessage) -> bool:
        return self._subscription.retained or not received.retain

    def _pass_over(self, received: MQTTMessage) -> None:
        """Acknowledge what nobody wants: after what came before it, as MQTT asks for."""
        if self._taken and self._last is not None:
            self._last.handle.append(received)
        else:
            self._acknowledge(received)

    def _acknowledge(self, received: MQTTMessage) -> None:
        self._client.acknowledge(received)
        self._deliveries.acknowledge(received.mid)  # not before: what could not be sent is delivered again

    def _check(self) -> None:
        """Raise why nothing is read any more: what has arrived cannot be acknowledged then."""
        if self._client.taken_over:
            raise SourceError(f"{self._where}: another process reads this session; run one replica of the sensor")
        if self._client.ended is not None:
            raise SourceError(f"{self._where} has ended the connection: {self._client.ended}")
        if self._client.refused is not None:
            raise SourceError(f"{self._where} refuses the topic {self._subscription.topic}: {self._client.refused}")

    def _message(self, received: MQTTMessage) -> Message:
        given: Any = received.properties
        properties: dict[str, str] = {}
        for name, value in getattr(given, "UserProperty", ()):
            properties.setdefault(name, value)
        body = bytes(received.payload)
        topic = _topic(received)
        content = Content(
            server=self._server.name,
            topic=topic,
            qos=received.qos,
            retained=bool(received.retain),
            redelivered=bool(received.dup),
            properties=properties,
            content_type=getattr(given, "ContentType", None),
            response_topic=getattr(given, "ResponseTopic", None),
            correlation=getattr(given, "CorrelationData", None),
            identity=identity_of(
                properties, body, id_property=self._subscription.id_property, id_field=self._subscription.id_field
            ),
            body=body,
        )
        delivery = self._deliveries.name(received.mid, again=content.redelivered, topic=topic, body=body)
        return Message(
            partition="",
            occurrence=occurrence_of(content, delivery=delivery),
            content=content,
            size=size_of(content),
            handle=[received],
            traceparent=properties.get("traceparent", ""),
            tracestate=properties.get("tracestate", ""),
        )

    @contextlib.asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        """Say what went wrong as a :class:`SourceError`."""
        try:
            yield
        except MqttConnectError as error:
            said = str(error.rc)
            if said in _NOT_LET_IN:
                raise SourceError(f"{self._where} does not accept the credentials: {said}") from error
            raise SourceError(f"{self._where} refuses the connection: {said}") from error
        except aiomqtt.MqttError as error:
            raise SourceError(f"{self._where}: {error}") from error


def _topic(received: MQTTMessage) -> str:
    try:
        return received.topic
    except UnicodeDecodeError:  # from a broker that does not look
        return received._topic.decode("utf-8", "backslashreplace")
