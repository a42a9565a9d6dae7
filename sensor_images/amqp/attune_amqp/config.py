"""The Sensor's configuration (``spec.config``): which brokers its rules may read, and with which credentials.

They stand here and not in rules: see decision 96. How messages are named and how many are under way stands here too, since
rules with the same queue share one reader.
"""

from typing import Annotated, Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
from msgspec import Meta

from attune_kit.servers import Reference
from attune_sensor import SettingsError

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
#: Messages that the broker may have delivered and that are not acknowledged.
PREFETCH: Final = 200


class _Given(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A server as it is written."""

    url: str
    username: str | None = None
    password: Reference | None = None
    ca: Reference | None = None
    prefetch: Annotated[int, Meta(ge=1, le=500)] = PREFETCH
    id_header: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class _Config(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    servers: dict[str, _Given] = {}


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A broker and one of its virtual hosts.

    Attributes:
        name: its name in the configuration.
        host: its host.
        port: its port.
        vhost: the virtual host.
        tls: whether the connection is encrypted, and the certificate checked.
        username: whom it knows the sensor as; None: guest.
        password: reference of the Secret's key with the password.
        ca: reference of the Secret's key with the authority that signed its certificate; None: those of the image.
        prefetch: how many messages of a queue may be delivered and not acknowledged.
        id_header: the header that names a message; None: the property message_id alone.
    """

    name: str
    host: str
    port: int
    vhost: str
    tls: bool
    username: str | None
    password: str | None
    ca: str | None
    prefetch: int
    id_header: str | None


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
    where = f"spec.config.servers.{name} of the Sensor"
    if not name or "/" in name:
        raise SettingsError(f"{where}: {name!r} is no name; it must not be empty or hold a '/'")
    url = urlsplit(given.url)
    if url.scheme not in _PORTS or not url.hostname or url.query or url.fragment:
        raise SettingsError(f"{where}: url is not like amqp://host:5672/vhost, or amqps://… with TLS")
    if url.username or url.password:
        raise SettingsError(f"{where}: url holds credentials; write username, and password as a reference secret/key")
    if given.ca is not None and url.scheme == "amqp":
        raise SettingsError(f"{where}: url begins with amqp://, so ca is never used; write amqps://")
    if (given.username is None) != (given.password is None):
        raise SettingsError(f"{where}: username and password belong together; one of them is missing")
    return Server(
        name=name,
        host=url.hostname,
        port=_port(url, where),
        vhost=unquote(url.path.removeprefix("/")) or "/",
        tls=url.scheme == "amqps",
        username=given.username,
        password=given.password,
        ca=given.ca,
        prefetch=given.prefetch,
        id_header=given.id_header,
    )


def _port(url: SplitResult, where: str) -> int:
    try:
        return url.port or _PORTS[url.scheme]
    except ValueError:
        raise SettingsError(f"{where}: the port in url is no number from 1 to 65535") from None
