"""Ends what an earlier run left behind: where ``attune up`` and its guard were both killed, or the pipe between them was lost.

A process is recognised by the mark in its environment, which names the data folder; ids alone say nothing.
Where there is no ``/proc`` (macOS), the guard is all there is.
"""

import contextlib
import os
import select
import signal
from pathlib import Path

from attune_local.processes.process import MARK


def _carries(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def end_leftovers(mark: str) -> list[int]:
    """End every process that carries the mark; returns their ids.

    Each is held by a pidfd before it is looked at, so its id cannot change hands in between.
    """
    proc = Path("/proc")
    if not hasattr(os, "pidfd_open") or not proc.is_dir():
        return []
    ended, waiting = [], []
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid() or not _carries(int(entry.name), mark):
            continue
        pid = int(entry.name)
        try:
            descriptor = os.pidfd_open(pid)
        except OSError:
            continue
        if not _carries(pid, mark):
            os.close(descriptor)
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            ended.append(pid)
        waiting.append(descriptor)
    for descriptor in waiting:
        select.select([descriptor], [], [], 5.0)
        os.close(descriptor)
    return ended
