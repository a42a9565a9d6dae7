"""Where a rule's requests go, and where an answer may send them on. Pure."""

import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlencode

import msgspec
import yarl

from attune_http.config import Config, Server, origin_of, read_url
from attune_kit.servers import unknown_name

#: How often an answer may be redirected.
MOST_REDIRECTS: Final = 5
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")

Value = str | int


class TargetError(ValueError):
    """An address that a rule may not poll, or that is none. The text is for the rule's author."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rule's requests go.

    Attributes:
        server: the server in the configuration; None: the rule has written the address.
        url: the whole address.
        place: what stays the same when the server moves: its name, path and query.
    """

    server: str | None
    url: str
    place: str


def target_of(
    config: Config, *, server: str, path: str, url: str | None, query: Mapping[str, Value | list[Value]]
) -> Target:
    """Where a rule's requests go.

    Raises:
        TargetError: it may not poll that.
    """
    asked = urlencode([(name, each) for name, value in query.items() for each in _each(value)])
    if url is not None:
        whole = _joined(_listed(url, config.hosts), asked)
        return Target(server=None, url=whole, place=whole)
    if (problem := unknown_name(server, config.servers)) is not None:
        raise TargetError(problem)
    if path.startswith(("/", "\\")) or ".." in unquote(unquote(path)).replace("\\", "/").split("/"):
        raise TargetError("parameters.path must be relative to the server's url, without '..'")
    whole = config.servers[server].url + path
    if read_url(whole) is None:
        raise TargetError("parameters.path is no part of an address")
    return Target(
        server=server,
        url=_joined(whole if path else whole.removesuffix("/"), asked),
        place=f"{server}/{_joined(path, asked)}",
    )


def onward(
    url: yarl.URL, location: str | None, *, server: Server | None, hosts: tuple[str, ...], hops: int
) -> yarl.URL | None:
    """Where a redirect leads; None when the answer may not be followed there.

    Args:
        url: where the answer came from.
        location: what it says.
        server: the server in the configuration, if the rule names one.
        hosts: whose addresses rules may write.
        hops: redirects before this one.
    """
    if not location or hops >= MOST_REDIRECTS:
        return None
    try:
        to = url.join(yarl.URL(location)).with_fragment(None)
    except ValueError:
        return None
    if read_url(str(to)) is None:
        return None
    if server is None:
        safe = to.scheme == url.scheme or to.scheme == "https"
        return to if safe and host_is_listed(to.host or "", hosts) else None
    home = origin_of(yarl.URL(server.url))
    return to if origin_of(to) == home or origin_of(to) in server.redirects else None


def host_is_listed(host: str, hosts: tuple[str, ...]) -> bool:
    """Whether the owner of the Sensor lets rules poll this host."""
    name = host.lower().rstrip(".")
    return any(name.endswith(each) if each.startswith(".") else name == each for each in hosts)


def allowed_networks(origins: list[str]) -> list[str]:
    """Addresses that may be connected to although they are loopback or the like: those that are written out.

    Args:
        origins: addresses, or names of hosts, that the owner of the Sensor has written.
    """
    found: list[str] = []
    for text in origins:
        host = (yarl.URL(text).host or "") if "://" in text else text
        if host == "localhost":
            found += _LOOPBACK
            continue
        try:
            found.append(str(ipaddress.ip_network(host)))
        except ValueError:
            continue
    return found


def _listed(text: str, hosts: tuple[str, ...]) -> str:
    url = read_url(text)
    if url is None:
        raise TargetError("parameters.url is not like https://example.com/feed, without credentials and fragment")
    if not host_is_listed(url.host or "", hosts):
        known = ", ".join("*" + each if each.startswith(".") else each for each in hosts)
        raise TargetError(
            f"parameters.url: the Sensor lets no rule poll {url.host}; "
            + (f"its spec.config.hosts has {known}" if known else "its spec.config.hosts is empty")
        )
    return text


def _joined(url: str, query: str) -> str:
    if not query:
        return url
    return f"{url}{'&' if '?' in url else '?'}{query}"


def _each(value: Value | list[Value]) -> list[Value]:
    return value if isinstance(value, list) else [value]
