"""A real Redis server that keeps what it has confirmed, through SIGKILL too."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from support.server_process import ServerProcess


class RedisServer(ServerProcess):
    """``redis-server``."""

    name = "redis"

    def __init__(self, directory: Path, *, password: str | None = None) -> None:
        super().__init__(directory)
        self.password = password

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> "Redis":
        return Redis(host="127.0.0.1", port=self.port, password=self.password, socket_timeout=30)

    def command(self) -> Sequence[str | Path]:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        return command if self.password is None else [*command, "--requirepass", self.password]

    def answers(self) -> bool:
        """Whether it has read what it kept."""
        with contextlib.closing(self.client()) as client, contextlib.suppress(RedisError):
            return bool(client.ping())
        return False

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
