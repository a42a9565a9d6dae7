"""One run of a program: a session and process group of its own, so that what it forks goes with it."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attune_stdio.pipes import ReadPipe, WritePipe

#: Processes that were started here and whose status was not taken yet: nobody else may take it.
own: Final[set[int]] = set()

#: What the kernel adds to a program's badness when memory runs out (-1000 to 1000): it goes before its supervisor does.
_OOM_SCORE: Final = "500"


class Process:
    """A program that runs. Made by :meth:`start`; :meth:`reap` must be called in the end.

    Attributes:
        pid: its process id, which is also that of its group and session.
        stdin: its standard input; None for /dev/null.
        stdout, stderr: what it says.
        exited: set when it has ended. What it forked may still run, and its output may not be read to the end.
    """

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        if popen.stdout is None or popen.stderr is None:
            raise AssertionError("start() makes the pipes")
        self._popen = popen
        self._started = time.monotonic()
        self.pid: int = popen.pid
        self.stdin = WritePipe(_taken(popen.stdin)) if popen.stdin is not None else None
        self.stdout = ReadPipe(_taken(popen.stdout))
        self.stderr = ReadPipe(_taken(popen.stderr))
        self.exited = asyncio.Event()
        own.add(self.pid)
        _watch(self.pid, self.exited)

    @classmethod
    def start(
        cls, command: Sequence[str], *, variables: Mapping[str, str], directory: Path | None, stdin: bool
    ) -> "Process":
        """Start a program.

        Args:
            command: the program and its arguments.
            variables: its whole environment; the program is looked for in its ``PATH``.
            directory: where it runs; the present one when None.
            stdin: whether it gets messages on its standard input.

        Raises:
            OSError: it cannot be started.
            ValueError: the command or a variable has a NUL in it.
        """
        # Not in a thread: until it is in `own`, the reaper of orphans might take its status. It takes a millisecond or two.
        popen = subprocess.Popen(  # noqa: S603 - running what the Sensor says is the purpose
            list(command),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(variables),
            cwd=directory,
            start_new_session=True,
            bufsize=0,
        )
        with contextlib.suppress(OSError):
            Path(f"/proc/{popen.pid}/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
        return cls(popen)

    @property
    def running_for(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._started

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and to all that it forked and that did not leave its group."""
        # Until its status is taken its number cannot be another's.
        if self.pid in own:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def reap(self) -> int | None:
        """Take its status, as :attr:`subprocess.Popen.returncode`; None when it has not ended. From now on it cannot be sent
        signals: its number may be another's.
        """
        status = self._popen.poll()
        if status is not None:
            own.discard(self.pid)
        return status


def _taken(stream: object) -> int:
    """The descriptor of one of Popen's files, which would else be closed with it."""
    fd = os.dup(stream.fileno())  # type: ignore[attr-defined]
    stream.close()  # type: ignore[attr-defined]
    return fd


def _watch(pid: int, exited: asyncio.Event) -> None:
    """Set ``exited`` when the process ends; its status is left for who asks."""
    loop = asyncio.get_running_loop()
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):  # another system than Linux, or one that does not let us
        threading.Thread(target=_wait, args=(pid, loop, exited), daemon=True, name=f"wait {pid}").start()
        return

    def ended() -> None:
        loop.remove_reader(fd)
        os.close(fd)
        exited.set()

    loop.add_reader(fd, ended)


def _wait(pid: int, loop: asyncio.AbstractEventLoop, exited: asyncio.Event) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(RuntimeError):  # the loop was closed
        loop.call_soon_threadsafe(exited.set)
