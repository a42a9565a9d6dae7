"""The client: aiomqtt's, with acknowledgements of our own, and with a look at what it says about the session."""

import asyncio
import collections
from ssl import SSLContext
from typing import Any, Final

import aiomqtt
from paho.mqtt.client import MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from attune_mqtt.config import Server

#: Seconds that the connection and each request may take.
_ANSWERS: Final = 8.0
#: Seconds between two signs of life. After one and a half of it a broker takes a silent client for lost.
_KEEPALIVE: Final = 20
#: Codes of a SUBACK from which on it refuses.
_REFUSED: Final = 0x80
#: The code of a broker's DISCONNECT: another connection has the same client id.
_TAKEN_OVER: Final = 0x8E
#: What may wait to be read until messages that the broker does not keep (quality of service 0) are let go.
_MOST_WAITING: Final = 1000
_MOST_BYTES: Final = 8 * 1024 * 1024


class SessionClient(aiomqtt.Client):
    """A connection to a session that outlives it. Messages stay the broker's until they are acknowledged.

    Args:
        server: where it is.
        client_id: the session's name.
        password: the password, if one is needed.
        tls: how the connection is encrypted; None: it is not.

    Attributes:
        waiting: what has arrived and was not read, in order.
        arrived: set when something has arrived, or the connection has ended.
        resumed: whether the broker knew the session; None before it has answered.
        taken_over: another connection has the session now.
        dropped: how many messages of quality of service 0 were let go since too many waited.
    """

    def __init__(self, server: Server, *, client_id: str, password: str | None, tls: SSLContext | None) -> None:
        self.waiting: collections.deque[MQTTMessage] = collections.deque()
        self.arrived = asyncio.Event()
        self.resumed: bool | None = None
        self.taken_over = False
        self.dropped = 0
        self._waiting_bytes = 0
        self._end: str | None = None
        self._leaving = False
        self._new = server.new
        settings: dict[str, Any] = {"clean_session": False}
        if self._new:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = server.session_seconds
            properties.ReceiveMaximum = server.prefetch
            settings = {"clean_start": False, "properties": properties}
        super().__init__(
            server.host,
            server.port,
            username=server.username,
            password=password,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if self._new else aiomqtt.ProtocolVersion.V311,
            timeout=_ANSWERS,
            keepalive=_KEEPALIVE,
            tls_context=tls,
            **settings,
        )
        # What a session holds arrives with the connection, so this is said before it.
        self._client.manual_ack_set(True)

    @property
    def ended(self) -> str | None:
        """Why the connection has ended; None while it is there."""
        if self._end is None and self._disconnected.done():  # the client's own look at the socket has failed
            error = None if self._disconnected.cancelled() else self._disconnected.exception()
            self._end = str(error) if error is not None else "it was closed"
        return self._end

    async def read_topic(self, topic: str, *, retained: bool) -> str | None:
        """Ask for the messages of a topic filter; returns why the broker refuses, or None.

        The quality of service is 1, which those of 2 are delivered with, too: with 2 the client would tell the broker that it
        has a message before anybody has stored it (decision 125).

        Args:
            topic: the topic filter.
            retained: ask for what the broker keeps of the topics, when the session is new (MQTT 5).
        """
        if self._new:
            handling = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB if retained else SubscribeOptions.RETAIN_DO_NOT_SEND
            codes = await self.subscribe(topic, options=SubscribeOptions(qos=1, retainHandling=handling))
        else:
            codes = await self.subscribe(topic, qos=1)
        code: Any = codes[0]
        number = code if isinstance(code, int) else code.value
        return str(code) if number >= _REFUSED else None

    def take(self) -> MQTTMessage:
        """The next of those that wait."""
        message = self.waiting.popleft()
        self._waiting_bytes -= len(message.payload)
        return message

    def acknowledge(self, message: MQTTMessage) -> None:
        """Tell the broker that a message is safe.

        Raises:
            MqttError: the connection has ended.
        """
        if message.qos == 0:
            return
        code = self._client.ack(message.mid, message.qos)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttError(f"the connection has ended ({code.name})")

    async def leave(self) -> None:
        """Disconnect, also from a broker that has not let us in yet. The session stays.

        Raises:
            MqttError: the broker does not take it.
        """
        self._leaving = True
        if self._disconnected.done() or self._connected.cancelled():
            self._disconnected.cancelled() or self._disconnected.exception()  # so that nobody misses it
        elif self._connected.done() and self._connected.exception() is None:
            await self.__aexit__(None, None, None)
            return
        self._client.disconnect()

    # -- what the client calls ---------------------------------------------------------------------------------------------

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if self._leaving:  # it was given up while a thread opened the connection
            client.disconnect()
            return
        self.resumed = bool(flags.session_present)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_message(self, client: Any, userdata: Any, message: MQTTMessage) -> None:
        if message.qos == 0 and (len(self.waiting) >= _MOST_WAITING or self._waiting_bytes >= _MOST_BYTES):
            self.dropped += 1
            return
        self.waiting.append(message)
        self._waiting_bytes += len(message.payload)
        self.arrived.set()

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        self.taken_over = self.taken_over or reason_code.value == _TAKEN_OVER
        self._end = self._end or str(reason_code)
        self.arrived.set()
