"""Whether a file is being written: what is read in the middle of that is half of what somebody means."""

import os
from pathlib import Path
from typing import Final

_PROCESSES: Final = Path("/proc")


def being_written(paths: list[Path]) -> set[Path]:
    """The files that another process of this machine holds open for writing, as far as that can be seen.

    Only Linux shows it, and only for processes of the same user. Elsewhere, or for a writer on another machine, the answer is
    empty, and what is left is to wait until a file no longer changes.
    """
    wanted: dict[tuple[int, int], Path] = {}
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        wanted[(status.st_dev, status.st_ino)] = path
    if not wanted:
        return set()
    found: set[Path] = set()
    own = os.getpid()
    try:
        processes = [entry.name for entry in os.scandir(_PROCESSES) if entry.name.isdigit()]
    except OSError:
        return set()
    for process in processes:
        if int(process) != own:
            found |= _held_by(process, wanted)
    return found


def _held_by(process: str, wanted: dict[tuple[int, int], Path]) -> set[Path]:
    found = set()
    try:
        with os.scandir(_PROCESSES / process / "fd") as entries:
            descriptors = [entry.name for entry in entries]
    except OSError:  # another user's, or gone
        return set()
    for descriptor in descriptors:
        try:
            status = os.stat(f"/proc/{process}/fd/{descriptor}")  # noqa: PTH116 - many thousands of calls
            path = wanted.get((status.st_dev, status.st_ino))
            if path is not None and _writes(process, descriptor):
                found.add(path)
        except OSError:
            continue
    return found


def _writes(process: str, descriptor: str) -> bool:
    for line in (_PROCESSES / process / "fdinfo" / descriptor).read_text().splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False
