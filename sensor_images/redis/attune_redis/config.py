"""The Sensor's configuration (``spec.config``): which servers its rules may read, and with which credentials.

Servers stand here and not in rules. A rule's author could otherwise have a password sent to a server of their own, and
make the sensor connect to any address. And the server's name is part of event ids, so its address may change.
"""

from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from attune_kit.servers import Reference
from attune_sensor import SettingsError

_PORT: Final = 6379


class _Given(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A server as it is written."""

    url: str
    username: str | None = None
    password: Reference | None = None
    ca: Reference | None = None


class _Config(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    servers: dict[str, _Given] = {}


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A Redis server.

    Attributes:
        name: its name in the configuration.
        host: its host.
        port: its port.
        database: the number of the database.
        tls: whether the connection is encrypted, and the certificate checked.
        username: whom it knows the sensor as; None: the default user.
        password: reference of the Secret's key with the password.
        ca: reference of the Secret's key with the authority that signed its certificate; None: those of the image.
    """

    name: str
    host: str
    port: int
    database: int
    tls: bool
    username: str | None
    password: str | None
    ca: str | None


def servers_of(config: dict[str, Any]) -> dict[str, Server]:
    """The servers by name.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    try:
        given = msgspec.convert(config, type=_Config)
    except msgspec.ValidationError as error:
        raise SettingsError(f"spec.config of the Sensor cannot be used: {error}") from None
    return {name: _server(name, each) for name, each in given.servers.items()}


def _server(name: str, given: _Given) -> Server:
    where = f"spec.config.servers.{name}.url of the Sensor"
    if not name or "/" in name:
        raise SettingsError(
            f"spec.config.servers of the Sensor: {name!r} is no name; it must not be empty or hold a '/'"
        )
    url = urlsplit(given.url)
    if url.scheme not in ("redis", "rediss") or not url.hostname or url.query or url.fragment:
        raise SettingsError(f"{where} is not like redis://host:6379/0, or rediss://… with TLS")
    if url.username or url.password:
        raise SettingsError(f"{where} holds credentials; write username, and password as a reference like secret/key")
    if given.ca is not None and url.scheme == "redis":
        raise SettingsError(f"{where} begins with redis://, so ca is never used; write rediss://")
    database = unquote(url.path).removeprefix("/") or "0"
    if not database.isdecimal():
        raise SettingsError(f"{where}: {database!r} is not the number of a database")
    return Server(
        name=name,
        host=url.hostname,
        port=_port(url, where),
        database=int(database),
        tls=url.scheme == "rediss",
        username=given.username,
        password=given.password,
        ca=given.ca,
    )


def _port(url: SplitResult, where: str) -> int:
    try:
        return url.port or _PORT
    except ValueError:
        raise SettingsError(f"{where}: the port is no number from 1 to 65535") from None
