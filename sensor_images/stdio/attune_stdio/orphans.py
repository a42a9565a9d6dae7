"""Takes the status of processes that nobody else waits for.

A container's first process inherits every process whose parent has ended, and each keeps its number, of which there are few,
until its status was taken. Where the supervisor is not the first process, it asks for them (``PR_SET_CHILD_SUBREAPER``), so that
they are in its sight there as well.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
from typing import Final

from attune_stdio.process import own

_PR_SET_CHILD_SUBREAPER: Final = 36
#: Looked again after so many seconds while one of our own, whose status is another's to take, stands in front.
_AGAIN: Final = 0.1


def adopt() -> None:
    """Become the parent of orphaned descendants, where the system has that."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def watch() -> None:
    """Reap orphans from now on, whenever a child ends. Only for a process whose children are all started by
    :class:`attune_stdio.process.Process`.
    """
    loop = asyncio.get_running_loop()

    def reap_all() -> None:
        if not reap():
            loop.call_later(_AGAIN, reap_all)

    loop.add_signal_handler(signal.SIGCHLD, reap_all)


def reap() -> bool:
    """Take the status of all orphans that have ended; False when one of our own is in the way of seeing them all."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        if found is None:
            return True
        if found.si_pid in own:
            return False
        with contextlib.suppress(ChildProcessError):
            os.waitpid(found.si_pid, os.WNOHANG)
