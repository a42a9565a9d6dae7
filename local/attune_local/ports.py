"""Ports of loopback for servers that are started, killed and started again."""

import random
import socket
from collections import deque
from typing import Final

#: Below those that systems give to outgoing connections (Linux from 32768, others from 49152), any of which could take a port
#: while its server is down; and below the node ports of Kubernetes.
_RANGE: Final = range(20_000, 30_000)
_TRIES: Final = 1000

#: The part of it that this process gives ports of.
_ours = _RANGE
#: The ports given last; their receivers may not listen yet.
_given: deque[int] = deque(maxlen=1000)


def free_port() -> int:
    """A free port of loopback, outside of the range of outgoing connections, that was not returned recently.

    Raises:
        OSError: none was found.
    """
    chance = random.SystemRandom()  # others that are seeded alike would ask for the same ones
    for _ in range(_TRIES):
        port = chance.choice(_ours)
        if port not in _given and is_free(port):
            _given.append(port)
            return port
    raise OSError(f"no free port of loopback in {_ours.start} to {_ours.stop - 1}")


def keep_to(part: int, *, of: int) -> None:
    """Give ports of one part of the range only, so that processes that work side by side do not give the same one.

    Args:
        part: which part, counted from 0.
        of: how many parts there are.
    """
    global _ours
    size = len(_RANGE) // of
    _ours = _RANGE[part * size : (part + 1) * size]


def is_free(port: int) -> bool:
    """Whether a port of loopback could be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def port_like(wanted: int) -> int:
    """The wanted port if it is free, otherwise another one.

    Raises:
        OSError: as :func:`free_port`.
    """
    return wanted if is_free(wanted) else free_port()
