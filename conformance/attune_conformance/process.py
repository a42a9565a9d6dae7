"""The sensor under examination as a process, and what it printed."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path


class SensorProcess:
    """A process in a group of its own; its output goes to a file."""

    def __init__(self, *, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._command = command
        self._environment = environment
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it.

        Raises:
            OSError: there is no such program.
        """
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=dict(self._environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def ended(self) -> int | None:
        """The exit status; None while it runs."""
        return None if self._process is None else self._process.returncode

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), as kubelet does."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    async def wait(self, *, within: float) -> int | None:
        """Its exit status; None when it still runs after ``within`` seconds."""
        if self._process is None:
            return None
        try:
            async with asyncio.timeout(within):
                return await self._process.wait()
        except TimeoutError:
            return None

    async def kill(self) -> None:
        """End it and everything that it started, at once."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # nothing of it is left
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    def last_per_subject_stream(self) -> str:
        """The last lines that it printed, each cut to a readable length."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return " / ".join(line if len(line) <= 300 else f"{line[:300]}…" for line in text.splitlines()[-3:]) or "none"
