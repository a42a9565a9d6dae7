"""A real server as a process of a test's own."""

import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from support.eventually import eventually

from attune_local.ports import free_port


class ServerProcess(ABC):
    """A server on loopback, with a port and a folder that stay the same over restarts; ended by its pid.

    Args:
        directory: where it keeps what it has; made unless it is there.

    Attributes:
        port: where it listens.
        name: what it is called, and its log.
        starts_within: seconds until it answers.
        ends_by: the signal that ends it in order; SIGKILL where what it has confirmed is on the disk, so nothing is waited for.
    """

    name: ClassVar[str]
    starts_within: ClassVar[float] = 30
    ends_by: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """What is run."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it can be used."""

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.directory / f"{self.name}.log"

    def start(self) -> None:
        """Start it, and return when it answers. Nothing runs on when it does not come to that."""
        command = self.command()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            eventually(self._answers, within=self.starts_within, what=f"{self.name} answers")
        except BaseException:
            self.stop()
            raise

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-2000:]
        return self.answers()

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it end; without effect when it does not run."""
        self._end(self.ends_by)

    def _end(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(120)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
