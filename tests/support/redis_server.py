"""A real Redis server that keeps what it has confirmed, through SIGKILL too."""

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError
from support.eventually import eventually

from attune_local.ports import free_port


class RedisServer:
    """``redis-server`` on loopback, with a port and a folder that stay the same over restarts."""

    def __init__(self, directory: Path, *, password: str | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_port()
        self.password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> "Redis":
        return Redis(host="127.0.0.1", port=self.port, password=self.password, socket_timeout=30)

    def start(self) -> None:
        """Start it, and return when it has read what it kept."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        if self.password is not None:
            command += ["--requirepass", self.password]
        with (self.directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def answers() -> bool:
            with contextlib.closing(self.client()) as client, contextlib.suppress(RedisError):
                return bool(client.ping())
            return False

        eventually(answers, within=30, what="redis-server answers")

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it end; without effect when it does not run."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(120)

    def add(self, stream: str, identifier: str = "*", **fields: Any) -> str:
        """Add an entry; returns its id."""
        with contextlib.closing(self.client()) as client:
            entry: dict[Any, Any] = fields
            added: Any = client.xadd(stream, entry, id=identifier)
        return str(added.decode())

    def pending(self, stream: str, group: str) -> int:
        """Entries that were read and not acknowledged."""
        with contextlib.closing(self.client()) as client:
            found: Any = client.xpending(stream, group)
        return int(found["pending"])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
