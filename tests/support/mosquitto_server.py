"""A real MQTT broker, Mosquitto, which keeps sessions and what waits in them when it is stopped."""

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from support.eventually import eventually
from support.server_process import ServerProcess

from attune_local.ports import free_port

_USER: Final = "attune"
_PASSWORD: Final = "s3cret-of-tests"
#: Where the sensor's configuration says that the password is: a Secret and its key.
_PASSWORD_REFERENCE: Final = "attune-mqtt/password"
#: How many messages it has, with those that are retained, and how many of these there are.
_STORED: Final = "$SYS/broker/store/messages/count"
_RETAINED: Final = "$SYS/broker/retained messages/count"
_UPTIME: Final = "$SYS/broker/uptime"
#: Seconds after which an answer that did not come is taken for lost.
_ANSWERS: Final = 10.0


class MosquittoServer(ServerProcess):
    """``mosquitto``.

    Args:
        directory: where it keeps everything.
        tls: files with its certificate and its key; None: connections are not encrypted.

    Attributes:
        port: where the sensor connects.
        plain_port: where connections are never encrypted.
        username, password: who is let in.
    """

    name = "mosquitto"

    def __init__(self, directory: Path, *, tls: tuple[Path, Path] | None = None) -> None:
        super().__init__(directory)
        self.plain_port = free_port()
        self.username = _USER
        self.password = _PASSWORD
        passwords = directory / "passwords"
        passwords.touch(mode=0o600)
        subprocess.run(["mosquitto_passwd", "-b", passwords, _USER, _PASSWORD], check=True, timeout=60)
        lines = [
            "user root",  # so that it can write here, whoever runs the tests
            "persistence true",
            f"persistence_location {directory}/",
            "max_queued_messages 0",
            "sys_interval 1",
            f"password_file {passwords}",
            "allow_anonymous false",
            f"listener {self.plain_port} 127.0.0.1",
            f"listener {self.port} 127.0.0.1",
        ]
        if tls is not None:
            lines += [f"certfile {tls[0]}", f"keyfile {tls[1]}"]
        (directory / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    @property
    def access(self) -> dict[str, str]:
        """What the sensor's configuration says of it; the password is where :meth:`place_password` puts it."""
        return {"url": f"mqtt://127.0.0.1:{self.port}", "username": _USER, "password": _PASSWORD_REFERENCE}

    @property
    def url_with_credentials(self) -> str:
        """The address for Mosquitto's own clients, to which a topic is added after a slash."""
        return f"mqtt://{_USER}:{_PASSWORD}@127.0.0.1:{self.plain_port}"

    @staticmethod
    def place_password(secrets: Path, *, end: str = "") -> None:
        """Write the password, and what is to follow it, into the folder of mounted Secrets."""
        file = secrets / _PASSWORD_REFERENCE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_PASSWORD + end)

    def command(self) -> Sequence[str | Path]:
        return ["mosquitto", "-c", self.directory / "mosquitto.conf"]

    def answers(self) -> bool:
        with contextlib.suppress(OSError), self.client():
            return True
        return False

    def kill(self) -> None:
        """End it as a node that is drained ends it: only when it is told to end does it write down what it keeps."""
        self.stop()

    # -- as a client -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def client(self, on_message: Callable[[mqtt.MQTTMessage], None] | None = None) -> Iterator[mqtt.Client]:
        """A client of MQTT 5 that is connected; its loop runs in a thread.

        Args:
            on_message: called in that thread with each message.

        Raises:
            OSError: the broker is not there, or does not let it in.
        """
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.username_pw_set(_USER, _PASSWORD)
        client.max_inflight_messages_set(1)  # so that what is repeated keeps its place
        if on_message is not None:
            client.on_message = lambda _client, _data, message: on_message(message)
        let_in = threading.Event()
        client.on_connect = lambda *_: let_in.set()
        client.connect("127.0.0.1", self.plain_port)
        client.loop_start()
        try:
            if not let_in.wait(_ANSWERS):
                raise ConnectionError("the broker does not answer")
            yield client
        finally:
            client.disconnect()
            client.loop_stop()

    def send(self, topic: str, *bodies: bytes, qos: int = 1, retain: bool = False, **properties: Any) -> None:
        """Publish messages, and see that the broker has them.

        Args:
            topic: where.
            bodies: what.
            qos: the quality of service.
            retain: have the broker keep the last one.
            properties: of MQTT 5, like ``UserProperty=("event-id", "7")``.

        Raises:
            OSError: the broker is not there, or went away.
        """
        with self.client() as client:
            for body in bodies:
                self.publish(client, topic, body, qos=qos, retain=retain, **properties)

    @staticmethod
    def publish(
        client: mqtt.Client, topic: str, body: bytes, *, qos: int = 1, retain: bool = False, **given: Any
    ) -> None:
        """The same for one message of a client.

        Raises:
            OSError: the broker is not there, or went away.
        """
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        for name, value in given.items():
            setattr(properties, name, value)
        sent = client.publish(topic, body, qos=qos, retain=retain, properties=properties)
        try:
            sent.wait_for_publish(_ANSWERS)
        except (RuntimeError, ValueError) as error:
            raise ConnectionError(str(error)) from error
        if not sent.is_published():
            raise ConnectionError("the broker does not confirm")

    def kept(self) -> int:
        """How many messages it keeps for sessions: those that nobody has acknowledged."""
        found: dict[str, int] = {}
        rounds: list[bytes] = []

        def hear(message: mqtt.MQTTMessage) -> None:
            if message.topic != _UPTIME:
                found[message.topic] = int(message.payload)
            elif not message.retain:
                rounds.append(bytes(message.payload))

        with self.client(hear) as client:
            client.subscribe([(_STORED, 0), (_RETAINED, 0), (_UPTIME, 0)])
            # It counts once a second and tells what has changed. In the second round all was counted after this was called.
            eventually(lambda: len(rounds) > 1 and len(found) > 1, within=10, what="the broker counts its messages")
        return found[_STORED] - found[_RETAINED]
