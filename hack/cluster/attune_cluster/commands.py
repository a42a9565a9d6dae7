"""Running other programs: their output is kept from the terminal unless they fail, and then its end is shown."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .console import ClusterError, say

TAIL = 25
"""Lines of a failed program's output that are shown."""
PAUSES = (5.0, 20.0)
"""Seconds before a program that downloads is run the second and the third time."""


def tail(text: str, lines: int = TAIL) -> str:
    """The last lines of `text`, indented, to go under a message."""
    return "\n".join("    " + line for line in text.strip().splitlines()[-lines:])


def capture(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    what: str | None = None,
) -> str:
    """Run `command` to its end and return its standard output; raise `ClusterError` with the reason if it fails."""
    argv = [str(word) for word in command]
    try:
        done = subprocess.run(argv, env=env, cwd=cwd, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ClusterError(f"{what or argv[0]} failed: the program {argv[0]} is not installed.") from None
    if done.returncode != 0:
        raise ClusterError(
            f"{what or ' '.join(argv[:3])} failed (status {done.returncode}):\n{tail(done.stderr or done.stdout)}"
        )
    return done.stdout


def succeeds(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, seconds: float = 60) -> bool:
    """Whether `command` exists, ends within `seconds` and returns 0."""
    try:
        argv = [str(word) for word in command]
        done = subprocess.run(argv, env=env, capture_output=True, timeout=seconds, check=False)
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def logged(
    command: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    what: str | None = None,
    downloads: bool = False,
) -> None:
    """Run `command` with its output appended to `log`; raise `ClusterError` with the log's end if it fails.

    One that `downloads` is run up to three times: servers of packages are away for a moment now and then.
    """
    for pause in PAUSES if downloads else ():
        try:
            return _logged(command, log, env=env, cwd=cwd, what=what)
        except ClusterError:
            say(f"  {what or command[0]} failed; again in {pause:.0f} s ({log})")
            time.sleep(pause)
    return _logged(command, log, env=env, cwd=cwd, what=what)


def _logged(
    command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None, cwd: Path | None, what: str | None
) -> None:
    argv = [str(word) for word in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as out:
        start = out.tell()
        print(f"$ {' '.join(argv)}", file=out, flush=True)
        try:
            done = subprocess.run(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
        except FileNotFoundError:
            raise ClusterError(f"{what or argv[0]} failed: the program {argv[0]} is not installed.") from None
    if done.returncode != 0:
        with log.open() as written:
            written.seek(start)
            raise ClusterError(
                f"{what or argv[0]} failed (status {done.returncode}), the whole log is {log}:\n{tail(written.read())}"
            )


def last_line(log: Path) -> str:
    """The last line of a log that is being written, short enough for a sign of life."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 2000))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return "starting"
    return lines[-1][:100] if lines else "starting"


def which(name: str) -> Path | None:
    """Where a program is, also in the folders that are not on an ordinary user's PATH."""
    found = shutil.which(name) or shutil.which(
        name, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
    )
    return Path(found) if found else None
