"""Which addresses a request may go to. Pure.

It is asked about each address at the moment of connecting, after DNS, so a name that means another address a second later, or a
redirect, gains nothing.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Prefixes by which IPv6 addresses stand for IPv4 addresses, and how many bits follow the IPv4 address.
_TRANSLATED: Final = (
    (ipaddress.ip_network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (ipaddress.ip_network("::/96"), 0),  # IPv4-compatible
    (ipaddress.ip_network("64:ff9b::/96"), 0),  # NAT64 (RFC 6052)
    (ipaddress.ip_network("2002::/16"), 80),  # 6to4
)
_SHARED: Final = (
    ipaddress.ip_network("100.100.100.200/32"),  # Alibaba's metadata
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's
    ipaddress.ip_network("fd00:ec2::254/128"),  # AWS's over IPv6
)


class AddressRules:
    """Which addresses may be connected to.

    Args:
        denied: networks that may not be connected to, beside loopback, link-local, unspecified and multicast addresses.
        allowed: networks that may be connected to in any case.
    """

    def __init__(self, *, denied: Iterable[str] = (), allowed: Iterable[str] = ()) -> None:
        self._denied = tuple(ipaddress.ip_network(text, strict=False) for text in denied)
        self._allowed = tuple(ipaddress.ip_network(text, strict=False) for text in allowed)

    def refusal(self, address: str) -> str | None:
        """Why an address may not be connected to; None when it may."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return f"{address} is no address"
        for each in (found, *_meant(found)):
            if any(each in network for network in self._allowed):
                continue
            what = self._kind(each)
            if what is not None:
                return f"{address} is {what}, and not an allowed address"
        return None

    def _kind(self, address: Address) -> str | None:
        if address.is_loopback:
            return "a loopback address"
        if address.is_link_local:
            return "a link-local address"
        if address.is_unspecified or (address.version == 4 and int(address) >> 24 == 0):
            return "an unspecified address"
        if address.is_multicast:
            return "a multicast address"
        if address.is_reserved and not _meant(address):
            return "a reserved address"
        if any(address in network for network in _SHARED):
            return "a cloud's metadata address"
        if any(address in network for network in self._denied):
            return "in a network that may not be reached"
        return None


def _meant(address: Address) -> tuple[Address, ...]:
    """The IPv4 address that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    for network, behind in _TRANSLATED:
        if address in network and int(address) > 1:
            return (ipaddress.IPv4Address((int(address) >> behind) & 0xFFFFFFFF),)
    return ()
