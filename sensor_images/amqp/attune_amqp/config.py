"""The Sensor's configuration (``spec.config``): which brokers its rules may read, and with which credentials.

They stand here and not in rules: see decision 96. How messages are named and how many are under way stands here too, since
rules with the same queue share one reader.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from attune_kit.servers import WrittenServer, read_address
from attune_sensor import read_servers

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
#: Messages that the broker may have delivered and that are not acknowledged.
PREFETCH: Final = 200


class _Given(WrittenServer, frozen=True, kw_only=True):
    """A server as it is written."""

    prefetch: Annotated[int, Meta(ge=1, le=500)] = PREFETCH
    id_header: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


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
    return read_servers(config, _Given, _server)


def _server(name: str, given: _Given) -> Server:
    like = "amqp://host:5672/vhost, or amqps://… with TLS"
    address = read_address(given.url, ports=_PORTS, like=like, path=True, ca=given.ca is not None)
    if (given.username is None) != (given.password is None):
        raise ValueError("username and password belong together; one of them is missing")
    return Server(
        name=name,
        host=address.host,
        port=address.port,
        vhost=address.path or "/",
        tls=address.scheme == "amqps",
        username=given.username,
        password=given.password,
        ca=given.ca,
        prefetch=given.prefetch,
        id_header=given.id_header,
    )
