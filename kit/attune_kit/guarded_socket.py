"""Sockets for HTTP clients that call where users say: each connection is checked after DNS (:mod:`attune_kit.addresses`)."""

import errno
import socket
from collections.abc import Callable
from typing import Any

from attune_kit.addresses import AddressRules


def guarded(rules: AddressRules, *, on_refused: Callable[[str], None]) -> Callable[[Any], socket.socket]:
    """What makes the sockets of a client (``socket_factory`` of aiohttp's connector). It raises PermissionError for others.

    Args:
        rules: which addresses may be connected to.
        on_refused: called with the reason, since the client wraps the error.
    """

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if (why := rules.refusal(str(address[0]))) is not None:
            on_refused(why)
            raise PermissionError(errno.EPERM, why)
        made = socket.socket(family=family, type=kind, proto=protocol)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    return make
