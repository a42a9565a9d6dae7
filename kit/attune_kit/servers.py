"""Servers that rules name and a Sensor knows (``spec.config.servers``, decision 96): what sensors of brokers share. Pure."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta

_REFERENCE: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[-._a-zA-Z0-9]+\Z"
Reference = Annotated[str, Meta(pattern=_REFERENCE)]  #: a key of a Secret in spec.secrets, like orders-redis/password
#: The server of rules that name none.
DEFAULT_SERVER: Final = "default"


def unknown_name(name: str, known: Iterable[str], *, what: str = "server") -> str | None:
    """What is wrong with the server that a rule names, for its author; None when the Sensor knows it.

    Args:
        name: what the rule says.
        known: the names that the Sensor knows.
        what: what is named, as the parameter is called; in the plural, so is the Sensor's field.
    """
    names = sorted(known)
    if name in names:
        return None
    has = f"it has {', '.join(names)}" if names else "it has none"
    return f"parameters.{what}: the Sensor has no {what} {name!r} in spec.config.{what}s; {has}"


def place_of(server: str, field: str) -> str:
    """Where a field of a server is written, for messages."""
    return f"spec.config.servers.{server}.{field} of the Sensor"


class WrittenServer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A server as most configurations write it; some have more.

    Attributes:
        url: its address.
        username: whom it knows the sensor as.
        password: the key with the password.
        ca: the key with the authority that signed its certificate.
    """

    url: str
    username: str | None = None
    password: Reference | None = None
    ca: Reference | None = None


class Address(NamedTuple):
    """What the URL of a server says.

    Attributes:
        scheme: how it is spoken with, like redis.
        host: a name, or an IP address without brackets.
        port: its port.
        path: what follows, without the first ``/`` and with ``%`` read; empty where nothing does.
    """

    scheme: str
    host: str
    port: int
    path: str


def read_address(url: str, *, ports: Mapping[str, int], like: str, path: bool = False, ca: bool = False) -> Address:
    """Read the URL of a server.

    Args:
        url: what the configuration says.
        ports: the schemes that it may have, with their usual ports. One that ends like another with an ``s`` more is its
            TLS.
        like: what such a URL is like, for messages.
        path: whether it may have a path.
        ca: whether an authority is given that has to have signed the server's certificate.

    Raises:
        ValueError: it cannot be used; the text says why, and never repeats what may be a password.
    """
    parts = urlsplit(url)
    if parts.scheme not in ports or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"url is not like {like}")
    if parts.path not in ("", "/") and not path:
        raise ValueError(f"url is not like {like}")
    if parts.username or parts.password:
        raise ValueError("url holds credentials; write username, and password as a reference like secret/key")
    if ca and (tls := f"{parts.scheme}s") in ports:
        raise ValueError(f"url begins with {parts.scheme}://, so ca is never used; write {tls}://")
    try:
        port = parts.port or ports[parts.scheme]
    except ValueError:
        raise ValueError("the port in url is no number from 1 to 65535") from None
    return Address(parts.scheme, parts.hostname, port, unquote(parts.path.removeprefix("/")))
