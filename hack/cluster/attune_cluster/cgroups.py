"""The control group that all pods of the node are in, made before kubelet starts and removed after it ended.

Control groups are the one thing that no namespace cleans up. They are empty folders by then, as every process of the
node has ended.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_CONTROLLERS = ("cpuset", "cpu", "memory", "pids", "hugetlb", "io")


def hierarchies(mountinfo: str) -> list[tuple[Path, bool]]:
    """Where control groups are mounted, and whether that is version 2, from the text of /proc/self/mountinfo."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        filesystem = right.split()[0] if right else ""
        if filesystem in ("cgroup", "cgroup2"):
            found.append((Path(left.split()[4].replace("\\040", " ")), filesystem == "cgroup2"))
    return found


def _mounted() -> list[tuple[Path, bool]]:
    return hierarchies(Path("/proc/self/mountinfo").read_text())


def make(name: str) -> None:
    """Make the group in each hierarchy; with version 2 hand the controllers down to it."""
    for mount, unified in _mounted():
        if unified:
            for controller in _CONTROLLERS:
                with contextlib.suppress(OSError):
                    (mount / "cgroup.subtree_control").write_text(f"+{controller}")
        (mount / name).mkdir(exist_ok=True)


def remove(name: str) -> list[Path]:
    """Remove the group with all below it; returns what could not be removed."""
    left = []
    for mount, _ in _mounted():
        top = mount / name
        if top.exists() and not _remove(top):
            left.append(top)
    return left


def _remove(top: Path) -> bool:
    for _ in range(50):
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):  # its last process is still being ended
                Path(folder).rmdir()
        if not top.exists():
            return True
        time.sleep(0.1)
    return False
