"""The Sensor's configuration (``spec.config``): which NATS servers its rules may read, and with which credentials.

They stand here and not in rules: see decision 96.
"""

from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from attune_kit.servers import Reference
from attune_sensor import SettingsError

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


class _Config(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    servers: dict[str, Server] = {}


def servers_of(config: dict[str, Any]) -> dict[str, Server]:
    """The servers by name.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    try:
        servers = msgspec.convert(config, type=_Config).servers
    except msgspec.ValidationError as error:
        raise SettingsError(f"spec.config of the Sensor cannot be used: {error}") from None
    for name, server in servers.items():
        _check(name, server)
    return servers


def _check(name: str, server: Server) -> None:
    where = f"spec.config.servers.{name} of the Sensor"
    if not name or "/" in name:
        raise SettingsError(f"{where}: {name!r} is no name; it must not be empty or hold a '/'")
    for address in server.url.split(","):
        url = urlsplit(address.strip())
        if url.scheme not in ("nats", "tls") or not url.hostname or url.path not in ("", "/"):
            raise SettingsError(f"{where}: url is not like nats://host:4222, or tls://… with TLS")
        if url.username or url.password:
            raise SettingsError(f"{where}: url holds credentials; write password as a reference like secret/key")
        try:
            _ = url.port
        except ValueError:
            raise SettingsError(f"{where}: the port in url is no number from 1 to 65535") from None
    if server.credentials is not None and server.password is not None:
        raise SettingsError(f"{where}: credentials and password exclude each other")
    if server.username is not None and server.password is None:
        raise SettingsError(f"{where}: username is given without password")
