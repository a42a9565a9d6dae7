"""Servers that rules name and a Sensor knows (``spec.config.servers``, decision 96): what sensors of brokers share. Pure."""

from collections.abc import Iterable
from typing import Annotated, Final

from msgspec import Meta

_REFERENCE: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[-._a-zA-Z0-9]+\Z"
Reference = Annotated[str, Meta(pattern=_REFERENCE)]  #: a key of a Secret in spec.secrets, like orders-redis/password
#: The server of rules that name none.
DEFAULT_SERVER: Final = "default"


def unknown_server(name: str, servers: Iterable[str]) -> str | None:
    """What is wrong with the server that a rule names, for its author; None when the Sensor knows it.

    Args:
        name: what the rule says.
        servers: the servers that the Sensor knows.
    """
    known = sorted(servers)
    if name in known:
        return None
    has = f"it has {', '.join(known)}" if known else "it has none"
    return f"parameters.server: the Sensor has no server {name!r} in spec.config.servers; {has}"


def place_of(server: str, field: str) -> str:
    """Where a field of a server is written, for messages."""
    return f"spec.config.servers.{server}.{field} of the Sensor"
