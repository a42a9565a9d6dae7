"""One program as a process: its start, its output, and its end."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self

import structlog

_log = structlog.stdlib.get_logger(__name__)

#: Variable in every process's environment that says whose it is: the data folder.
MARK: Final = "ATTUNE_UP_MARK"
#: A log file that has grown larger is put aside, once.
_LOG_LIMIT: Final = 8 * 1024 * 1024
_LINE_LIMIT: Final = 64 * 1024
_TAIL_LINES: Final = 40
_KILL_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is run. ``what`` orders the end: sensors go before services."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    directory: Path
    log: Path
    what: Literal["sensor", "service"] = "sensor"


class Guard:
    """The process that clears up after us (:mod:`.guard`). ``lock`` is a descriptor that it keeps open until it has."""

    def __init__(self, *, mark: str, lock: int) -> None:
        self.mark = mark
        self._lock = lock
        self._process: asyncio.subprocess.Process | None = None
        self._groups: dict[int, str] = {}

    async def start(self) -> None:
        """Start it, and send it everything that is running already."""
        script = Path(__file__).with_name("guard.py")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(script), f"{MARK}={self.mark}",
            stdin=asyncio.subprocess.PIPE, pass_fds=(self._lock,), start_new_session=True,
        )  # fmt: skip
        for pid, what in self._groups.items():
            self._say(f"+ {what} {pid}")

    async def run(self) -> None:
        """Keep it alive until cancelled."""
        while True:
            if self._process is None:
                await self.start()
            assert self._process is not None  # noqa: S101 - for the type checker
            await self._process.wait()
            _log.warning("guard_ended", then="it is started again")
            self._process = None
            await asyncio.sleep(0.5)

    def started(self, pid: int, what: str) -> None:
        """A process was started."""
        self._groups[pid] = what
        self._say(f"+ {what} {pid}")

    def ended(self, pid: int) -> None:
        """A process has ended."""
        self._groups.pop(pid, None)
        self._say(f"- {pid}")

    def _say(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._process.stdin.write(f"{line}\n".encode())

    async def stop(self) -> None:
        """Let it clear up what is left (nothing, as a rule) and end."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(15):
                    await process.wait()


class Process:
    """A running program. ``on_line`` gets each line of its output, which also goes to its log file."""

    def __init__(self, program: Program, *, guard: Guard, on_line: Callable[[str], None]) -> None:
        self._program = program
        self._guard = guard
        self._on_line = on_line
        self._process: Any = None
        self._pump: asyncio.Task[None] | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    @property
    def pid(self) -> int:
        """Its id."""
        return int(self._process.pid)

    @property
    def tail(self) -> str:
        """What it said last."""
        return "\n".join(self._tail)

    async def start(self) -> None:
        """Start it.

        Raises:
            OSError: there is no such program, or it cannot be run.
        """
        program = self._program
        program.log.parent.mkdir(parents=True, exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            *program.arguments,
            cwd=program.directory,
            env={**program.environment, MARK: self._guard.mark},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Out of reach of the terminal's Ctrl-C, and one group with whatever it starts.
            start_new_session=True,
            limit=_LINE_LIMIT,
        )
        self._guard.started(self.pid, program.what)
        self._pump = asyncio.create_task(self._read(), name=f"output of {program.name}")
        _log.debug("process_started", program=program.name, pid=self.pid)

    async def _read(self) -> None:
        reader = self._process.stdout
        with _LogFile(self._program.log) as file:
            while True:
                try:
                    raw = await reader.readuntil(b"\n")
                except asyncio.IncompleteReadError as error:
                    raw = error.partial
                    if not raw:
                        return
                except asyncio.LimitOverrunError as error:
                    raw = await reader.readexactly(error.consumed)
                file.write(raw if raw.endswith(b"\n") else raw + b"\n")
                line = raw.decode(errors="replace").rstrip()
                self._tail.append(line)
                self._on_line(line)

    async def wait(self) -> int:
        """Its exit status once it has ended (negative: the signal that ended it)."""
        status = int(await self._process.wait())
        # What it started and left behind goes with it: nothing else would ever end that.
        self._signal(signal.SIGKILL)
        self._guard.ended(self.pid)
        if self._pump is not None:
            # A child in a session of its own may hold the pipe open.
            await asyncio.wait({self._pump}, timeout=1.0)
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        return status

    def terminate(self) -> None:
        """Ask it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def stop(self, *, grace: float, ended: asyncio.Task[int]) -> None:
        """Ask it to end, and kill it when it has not after ``grace`` seconds. ``ended`` is a task that waits for it."""
        self.terminate()
        await asyncio.wait({ended}, timeout=grace)
        if not ended.done():
            _log.warning("process_killed", program=self._program.name, after_seconds=grace)
            self.kill()
            await asyncio.wait({ended}, timeout=_KILL_PATIENCE)


class _LogFile:
    """A file that is appended to, and put aside when it is too large."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self._size = 0

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _open(self) -> None:
        self._file = self._path.open("ab", buffering=0)
        self._size = self._file.tell()

    def write(self, line: bytes) -> None:
        if self._size > _LOG_LIMIT:
            self._file.close()
            self._path.replace(self._path.with_suffix(".log.1"))
            self._open()
        with contextlib.suppress(OSError):  # a full disk must not end the sensor
            self._size += self._file.write(line)
