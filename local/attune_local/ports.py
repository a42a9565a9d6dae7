"""Ports of loopback for servers that are started, killed and started again."""

import fcntl
import os
import random
import socket
import tempfile
from collections import deque
from pathlib import Path
from typing import Final

#: Below those that systems give to outgoing connections (Linux from 32768, others from 49152), any of which could take a port
#: while its server is down; and below the node ports of Kubernetes.
_RANGE: Final = range(20_000, 30_000)
_TRIES: Final = 1000

#: The part of it that this process gives ports of.
_ours = _RANGE
#: The ports given last; their receivers may not listen yet.
_given: deque[int] = deque(maxlen=1000)
#: Ports that this process asked for by their number, and the locks that others see.
_claimed: dict[int, int] = {}


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
    """The wanted port if it is free, and no other process on this machine that asked here has it; otherwise another one.

    Two that start at once would both find it free: the program that comes second to it would not be reached, and its callers
    would reach the first one's.

    Raises:
        OSError: as :func:`free_port`.
    """
    return wanted if is_free(wanted) and _claim(wanted) else free_port()


def _claim(port: int) -> bool:
    """Whether a port is this process's from now on until its end, as far as others ask in the same way."""
    if port in _claimed:
        return True
    folder = Path(tempfile.gettempdir()) / f"attune-ports-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return True  # without a folder there is nobody to agree with
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    _claimed[port] = lock  # open until the process ends
    return True
