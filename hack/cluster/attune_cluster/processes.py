"""Which process is ours, decided so that another's is never ended.

A process id alone says nothing: ids are reused. A process is ours when its id, the moment the kernel started it and the
boot it belongs to are the recorded ones, or when it carries our mark in the environment it was started with (that finds
processes whose start was not recorded any more because the starter was killed in between). A process is signalled
through a pidfd that is opened before it is identified, so the id can't change hands in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

MARK = "ATTUNE_CLUSTER_MARK"
PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One process, for as long as this machine is up: `started` is in clock ticks since `boot`."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int, *, proc: Path = PROC) -> Identity | None:
        """The identity of the process that has this id now, or None when there is none (or only a zombie)."""
        try:
            stat = (proc / str(pid) / "stat").read_text()
            boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        # The second field is the program's name in brackets and may itself contain brackets and spaces.
        fields = stat.rpartition(")")[2].split()
        if fields[0] in "ZX":
            return None
        return cls(pid=pid, started=int(fields[19]), boot=boot)

    def alive(self, *, proc: Path = PROC) -> bool:
        """Whether that very process still runs."""
        return Identity.of(self.pid, proc=proc) == self

    def write(self, path: Path) -> None:
        """Record it, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> Identity | None:
        """What was recorded, or None when there is no record or a damaged one."""
        try:
            fields = json.loads(path.read_text())
            return cls(pid=int(fields["pid"]), started=int(fields["started"]), boot=str(fields["boot"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def running(path: Path) -> Identity | None:
    """The recorded process, if it still runs."""
    identity = Identity.read(path)
    return identity if identity is not None and identity.alive() else None


def mark_of(pid: int, *, proc: Path = PROC) -> str | None:
    """The mark in the environment that a process was started with."""
    try:
        environment = (proc / str(pid) / "environ").read_bytes()
    except OSError:
        return None
    for entry in environment.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == MARK.encode():
            return value.decode(errors="replace")
    return None


def marked(mark: str, *, proc: Path = PROC) -> Iterator[int]:
    """The ids of all processes that carry `mark`."""
    for entry in proc.iterdir():
        if entry.name.isdigit() and mark_of(int(entry.name), proc=proc) == mark:
            yield int(entry.name)


def marks(*, proc: Path = PROC) -> set[str]:
    """The marks of all clusters of this machine that run."""
    found = {mark_of(int(entry.name), proc=proc) for entry in proc.iterdir() if entry.name.isdigit()}
    return {mark for mark in found if mark is not None}


def children(pid: int) -> list[int]:
    """The ids of the processes that `pid` started and that still run."""
    try:
        return [int(word) for word in (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()]
    except OSError:
        return []


def end(pid: int, is_ours: Callable[[], bool], *, grace: float = 0.0) -> bool:
    """End the process `pid` if `is_ours` says so once it is held: politely first when there is `grace` (seconds).

    Returns whether it is gone. A process that is not ours counts as gone and is left alone.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return True
    try:
        if not is_ours():
            return True
        for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 20.0)):
            if patience <= 0:
                continue
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            if select.select([descriptor], [], [], patience)[0]:
                return True
        return False
    finally:
        os.close(descriptor)


def end_recorded(path: Path, *, grace: float = 0.0) -> bool:
    """End the process recorded at `path`, unless its id belongs to another one by now; forget the record."""
    identity = Identity.read(path)
    gone = identity is None or end(identity.pid, identity.alive, grace=grace)
    if gone:
        path.unlink(missing_ok=True)
    return gone


def end_marked(mark: str) -> list[int]:
    """End every process that carries `mark`; returns the ids of those that did not go."""
    return [pid for pid in list(marked(mark)) if not end(pid, lambda pid=pid: mark_of(pid) == mark)]  # type: ignore[misc]
