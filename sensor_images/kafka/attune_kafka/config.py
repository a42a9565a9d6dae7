"""The Sensor's configuration (``spec.config``): which Kafka clusters its rules may read, and with which credentials.

They stand here and not in rules: see decision 96. Pure.
"""

import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from attune_kit.servers import Reference
from attune_sensor import read_servers

#: One broker: a name or an address (IPv6 in brackets) and a port. Names with a ``_`` occur inside of clusters.
_BROKER: Final = re.compile(r"([-_.a-zA-Z0-9]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})")
_LARGEST_PORT: Final = 65535

Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class Server(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A Kafka cluster.

    Attributes:
        bootstrap_servers: some of its brokers, separated by commas: ``host:9092``. They name the others.
        tls: whether connections are encrypted, and certificates checked.
        ca: reference of the key with the authority that signed the brokers' certificates; None: those of the image.
        username: whom it knows the sensor as; None: nobody.
        password: reference of the key with the password.
        mechanism: how it checks the password.
        session_seconds: after so many seconds without a sign of life, the sensor's partitions go to another replica.
    """

    bootstrap_servers: str
    tls: bool = False
    ca: Reference | None = None
    username: str | None = None
    password: Reference | None = None
    mechanism: Mechanism | None = None
    session_seconds: Annotated[int, Meta(ge=1, le=1800)] = 10


def servers_of(config: dict[str, Any]) -> dict[str, Server]:
    """The clusters by name.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    return read_servers(config, Server, _checked)


def _checked(_: str, server: Server) -> Server:
    for broker in server.bootstrap_servers.split(","):
        found = _BROKER.fullmatch(broker.strip())
        if found is None or not 1 <= int(found[2]) <= _LARGEST_PORT:
            raise ValueError(
                f"bootstrapServers: {broker.strip()!r} is not like host:9092; several are separated by commas"
            )
    if server.ca is not None and not server.tls:
        raise ValueError("tls is false, so ca is never used; set tls: true")
    if len({server.username is None, server.password is None, server.mechanism is None}) > 1:
        raise ValueError("username, password and mechanism belong together; one of them is missing")
    return server


def connection_settings(server: Server, *, name: str, password: str | None, ca_file: str | None) -> dict[str, Any]:
    """The settings of the client (librdkafka) for the brokers.

    Args:
        server: the cluster.
        name: what brokers call the client in their figures and logs.
        password: the password, if one is needed.
        ca_file: the file with the authority of the brokers' certificates; None: those of the image.
    """
    sasl = server.username is not None
    settings: dict[str, Any] = {
        "bootstrap.servers": server.bootstrap_servers,
        "client.id": name,
        "security.protocol": ("SASL_" if sasl else "") + ("SSL" if server.tls else "PLAINTEXT"),
        "socket.timeout.ms": 10_000,
        "socket.connection.setup.timeout.ms": 10_000,
        "reconnect.backoff.max.ms": 2_000,
        "log_level": 0,  # the callback for errors says what is wrong
    }
    if sasl:
        settings |= {"sasl.mechanism": server.mechanism, "sasl.username": server.username, "sasl.password": password}
    if ca_file is not None:
        settings["ssl.ca.location"] = ca_file
    return settings


def consumer_settings(server: Server, *, group: str) -> dict[str, Any]:
    """The settings of a consumer beside these.

    Args:
        server: the cluster.
        group: the consumer group.
    """
    return {
        "group.id": group,
        # Members keep what they can: a rebalance stops only the partitions that move.
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": server.session_seconds * 1000,
        "heartbeat.interval.ms": server.session_seconds * 1000 // 4,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Where to go on is decided in reader.py, and said: the client never jumps by itself.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        # What is read ahead, of all partitions: about 8 MiB at most.
        "queued.min.messages": 2_000,
        "queued.max.messages.kbytes": 4_096,
        "fetch.max.bytes": 4 * 1024 * 1024,
    }
