"""The Sensor's configuration (``spec.config``): which servers its rules may read, and with which credentials.

Servers stand here and not in rules. A rule's author could otherwise have a password sent to a server of their own, and
make the sensor connect to any address. And the server's name is part of event ids, so its address may change.
"""

from typing import Any, Final

import msgspec

from attune_kit.servers import WrittenServer, read_address
from attune_sensor import read_servers

_PORTS: Final = {"redis": 6379, "rediss": 6379}


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
    return read_servers(config, WrittenServer, _server)


def _server(name: str, given: WrittenServer) -> Server:
    like = "redis://host:6379/0, or rediss://… with TLS"
    address = read_address(given.url, ports=_PORTS, like=like, path=True, ca=given.ca is not None)
    database = address.path or "0"
    if not database.isdecimal():
        raise ValueError(f"url: {database!r} is not the number of a database")
    return Server(
        name=name,
        host=address.host,
        port=address.port,
        database=int(database),
        tls=address.scheme == "rediss",
        username=given.username,
        password=given.password,
        ca=given.ca,
    )
