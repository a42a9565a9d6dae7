"""The Sensor's configuration (``spec.config``): which brokers its rules may read, and with which credentials.

They stand here and not in rules: see decision 96.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from attune_kit.servers import WrittenServer, read_address
from attune_sensor import read_servers

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
#: Messages of a session that may be under way to the API.
PREFETCH: Final = 100
#: Seconds for which the broker is asked to keep messages for a sensor that is not there: a week.
KEPT: Final = 7 * 24 * 3600


class _Given(WrittenServer, frozen=True, kw_only=True):
    """A server as it is written."""

    version: Literal["5", "3.1.1"] = "5"
    prefetch: Annotated[int, Meta(ge=1, le=500)] = PREFETCH
    session_seconds: Annotated[int, Meta(ge=60, le=2**32 - 2)] = KEPT


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A broker.

    Attributes:
        name: its name in the configuration.
        host: its host.
        port: its port.
        tls: whether the connection is encrypted, and the certificate checked.
        username: whom it knows the sensor as; None: it asks for no name.
        password: reference of the Secret's key with the password; None: there is none.
        ca: reference of the Secret's key with the authority that signed its certificate; None: those of the image.
        new: whether it is read with MQTT 5, and not with 3.1.1.
        prefetch: how many messages of a session may be under way to the API; with MQTT 5 the broker hears of it.
        session_seconds: for how long the broker keeps messages for a sensor that is not there (MQTT 5).
    """

    name: str
    host: str
    port: int
    tls: bool
    username: str | None
    password: str | None
    ca: str | None
    new: bool
    prefetch: int
    session_seconds: int


def servers_of(config: dict[str, Any]) -> dict[str, Server]:
    """The servers by name.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    return read_servers(config, _Given, _server)


def _server(name: str, given: _Given) -> Server:
    like = "mqtt://host:1883, or mqtts://… with TLS"
    address = read_address(given.url, ports=_PORTS, like=like, ca=given.ca is not None)
    if given.password is not None and given.username is None:
        raise ValueError("password is given without username")
    new = given.version == "5"
    if not new and given.session_seconds != KEPT:
        raise ValueError("sessionSeconds needs version 5; with 3.1.1 the broker says how long it keeps sessions")
    return Server(
        name=name,
        host=address.host,
        port=address.port,
        tls=address.scheme == "mqtts",
        username=given.username,
        password=given.password,
        ca=given.ca,
        new=new,
        prefetch=given.prefetch,
        session_seconds=given.session_seconds,
    )
