"""The Sensor's configuration (``spec.config``): which NATS servers its rules may read, and with which credentials.

They stand here and not in rules: see decision 96.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from attune_kit.servers import Reference, read_address
from attune_sensor import read_servers

_PORTS: Final = {"nats": 4222, "tls": 4222}
_Token = Annotated[str, Meta(pattern=r"^[^\s.*>]+\Z", max_length=255)]


class Server(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A NATS server or cluster.

    Attributes:
        url: its address, or several separated by commas: ``nats://host:4222``, or ``tls://…`` with TLS.
        credentials: reference of the key with a credentials file (a user's JWT and seed).
        username: who the sensor is, where the server knows passwords.
        password: reference of the key with the password; without a user name it is a token.
        ca: reference of the key with the authority that signed its certificate, beside those of the image.
        domain: the JetStream domain.
    """

    url: str
    credentials: Reference | None = None
    username: str | None = None
    password: Reference | None = None
    ca: Reference | None = None
    domain: _Token | None = None


def servers_of(config: dict[str, Any]) -> dict[str, Server]:
    """The servers by name.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    return read_servers(config, Server, _checked)


def _checked(_: str, server: Server) -> Server:
    for url in server.url.split(","):
        read_address(url.strip(), ports=_PORTS, like="nats://host:4222, or tls://… with TLS")
    if server.credentials is not None and server.password is not None:
        raise ValueError("credentials and password exclude each other")
    if server.username is not None and server.password is None:
        raise ValueError("username is given without password")
    return server
