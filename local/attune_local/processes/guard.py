"""Ends everything that an ``attune up`` started, when it is no more. Run as a program of its own; the standard library only.

It reads from a pipe that only ``attune up`` holds open: ``+ <class> <pid>`` when a process (the leader of a session) was
started, ``- <pid>`` when it has ended. When the pipe closes, however that came about, sensors are stopped first, while the
API and NATS still take what they have; then those; what does not go is killed. It also holds the lock on the data folder, so
the next run begins when everything is over.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

#: Seconds for each class, in the order in which they are ended.
PATIENCE = {"sensor": 4.0, "service": 6.0}


def _marked(mark: str) -> list[int]:
    """Processes that carry the mark in their environment: also those that a sensor has put into sessions of their own."""
    found = []
    with contextlib.suppress(OSError):
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A group whose leader only waits to be reaped by init counts as gone.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{group}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return True


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def end_all(groups: dict[int, str], mark: str) -> None:
    """End the process groups, class by class, and then whatever else carries the mark."""
    for what, patience in PATIENCE.items():
        members = [group for group, its in groups.items() if its == what]
        for group in members:
            _signal(group, signal.SIGTERM)
        deadline = time.monotonic() + patience
        while any(map(_alive, members)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for group in members:
            _signal(group, signal.SIGKILL)
    for pid in _marked(mark):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Wait for the end of the pipe, and then clear up."""
    mark = sys.argv[1]
    # A terminal's Ctrl-C is for attune up, which ends in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    groups: dict[int, str] = {}
    for line in sys.stdin:
        match line.split():
            case ["+", what, pid]:
                groups[int(pid)] = what
            case ["-", pid]:
                groups.pop(int(pid), None)
    end_all(groups, mark)


if __name__ == "__main__":
    main()
