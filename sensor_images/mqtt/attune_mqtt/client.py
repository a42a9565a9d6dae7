"""The client: aiomqtt's, with acknowledgements of our own, no more in memory than is read, and what it says of the session."""

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
#: When so much waits to be read, nothing more is taken from the connection until half of it was read. Brokers deliver more than
#: they are asked for: Mosquitto 2.0.11 does when a session goes on, and MQTT has no limit for quality of service 0.
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
        refused: why the broker does not deliver the topic; None while it does.
        taken_over: another connection has the session now.
    """

    def __init__(self, server: Server, *, client_id: str, password: str | None, tls: SSLContext | None) -> None:
        self.waiting: collections.deque[MQTTMessage] = collections.deque()
        self.arrived = asyncio.Event()
        self.resumed: bool | None = None
        self.refused: str | None = None
        self.taken_over = False
        self._waiting_bytes = 0
        self._paused = False
        self._asked: int | None = None  # the packet id of a SUBSCRIBE whose answer nobody waits for
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

    async def read_topic(self, topic: str, *, retained: bool) -> None:
        """Ask for the messages of a topic filter; see ``refused``.

        The quality of service is 1, which those of 2 are delivered with, too: with 2 the client would tell the broker that it
        has a message before anybody has stored it (decision 126).

        Of a session that goes on, the answer comes after all that the broker has for it, and that must be read first. So it is
        not waited for.

        Args:
            topic: the topic filter.
            retained: ask for what the broker keeps of the topics, when the session is new (MQTT 5).

        Raises:
            MqttError: the connection has ended, or there is no answer.
        """
        handling = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB if retained else SubscribeOptions.RETAIN_DO_NOT_SEND
        how: dict[str, Any] = {"options": SubscribeOptions(qos=1, retainHandling=handling)} if self._new else {"qos": 1}
        if not self.resumed:
            self.refused = _refusal(await self.subscribe(topic, **how))
            return
        code, self._asked = self._client.subscribe(topic, **how)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttError(f"the connection has ended ({code.name})")

    def take(self) -> MQTTMessage:
        """The next of those that wait."""
        message = self.waiting.popleft()
        self._waiting_bytes -= len(message.payload)
        if self._paused and len(self.waiting) <= _MOST_WAITING / 2 and self._waiting_bytes <= _MOST_BYTES / 2:
            self._go_on()
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
        ended, let_in = self._disconnected, self._connected
        if not ended.done() and let_in.done() and not let_in.cancelled() and let_in.exception() is None:
            await self.__aexit__(None, None, None)
            return
        if ended.done() and not ended.cancelled():
            ended.exception()  # so that asyncio does not say that nobody has looked at it
        self._client.disconnect()

    # -- what the client calls ---------------------------------------------------------------------------------------------

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if self._leaving:  # it was given up while a thread opened the connection
            client.disconnect()
            return
        self.resumed = bool(flags.session_present)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_message(self, client: Any, userdata: Any, message: MQTTMessage) -> None:
        self.waiting.append(message)
        self._waiting_bytes += len(message.payload)
        self.arrived.set()
        if len(self.waiting) >= _MOST_WAITING or self._waiting_bytes >= _MOST_BYTES:
            self._pause()

    def _on_subscribe(self, client: Any, userdata: Any, mid: int, reason_codes: Any, properties: Any = None) -> None:
        if mid == self._asked:
            self.refused = _refusal(reason_codes)
            self.arrived.set()
        else:
            super()._on_subscribe(client, userdata, mid, reason_codes, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if not self._connected.cancelled():
            super()._on_disconnect(client, userdata, flags, reason_code, properties)
        self.taken_over = self.taken_over or reason_code.value == _TAKEN_OVER
        self._end = self._end or str(reason_code)
        self.arrived.set()

    # -- the connection ----------------------------------------------------------------------------------------------------

    def _pause(self) -> None:
        """Take nothing more from the connection, so that the broker stops to send."""
        socket = self._client.socket()
        if not self._paused and socket is not None:
            self._paused = True
            self._loop.remove_reader(socket.fileno())

    def _go_on(self) -> None:
        self._paused = False
        socket = self._client.socket()
        if socket is not None:
            self._loop.add_reader(socket.fileno(), self._take_more)
            self._loop.call_soon(self._take_more)  # what TLS has decrypted already makes no socket readable

    def _take_more(self) -> None:
        """Read a packet, and those that TLS has decrypted with it."""
        try:
            while not self._paused:
                self._client.loop_read()
                socket: Any = self._client.socket()
                if socket is None or not (hasattr(socket, "pending") and socket.pending()):
                    return
        except Exception as error:
            if not self._disconnected.done():
                self._disconnected.set_exception(error)
            self.arrived.set()

    async def _misc_loop(self) -> None:
        """Send signs of life, and miss those of the broker. In a pause the latter stand behind what is not read."""
        while True:
            if self._paused and not self._leaving:
                self._client._ping_t = 0.0
            if self._client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return
            await asyncio.sleep(1)


def _refusal(codes: Any) -> str | None:
    """Why a broker refuses a topic filter, by the only code of its answer; None when it does not."""
    code = codes[0]
    number = code if isinstance(code, int) else code.value
    return str(code) if number >= _REFUSED else None
