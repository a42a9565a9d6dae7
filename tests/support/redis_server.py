"""A real Redis server that keeps what it has confirmed, through SIGKILL too."""

import contextlib
import signal
import subprocess
from pathlib import Path
from typing import Any, Final, Self

from redis import Redis
from redis.exceptions import RedisError, ResponseError
from support.eventually import eventually

from attune_local.ports import free_port

#: Milliseconds since 1970, as in ids that Redis makes.
_FIRST_ID: Final = 1_764_298_800_000


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


class RedisQueue:
    """A stream of a server, as something that a sensor reads (:class:`support.source_chaos.Broker`)."""

    def __init__(self, server: RedisServer, *, stream: str, group: str) -> None:
        self._server = server
        self._stream = stream
        self._group = group

    def start(self) -> None:
        self._server.start()

    def kill(self) -> None:
        self._server.kill()

    def send(self, numbers: range) -> None:
        """Add entries. Their ids are chosen here, so that one whose answer was lost is not added twice."""
        left = list(numbers)

        def sent() -> bool:
            with contextlib.closing(self._server.client()) as client:
                while left:
                    try:
                        client.xadd(self._stream, {"data": f'{{"n": {left[0]}}}'}, id=f"{_FIRST_ID + left[0]}-0")
                    except ResponseError as error:
                        if "equal or smaller" not in str(error):
                            raise
                    left.pop(0)
            return True

        eventually(sent, within=120, what="Redis takes the entries")

    def unacknowledged(self) -> int:
        with contextlib.closing(self._server.client()) as client:
            groups: Any = client.xinfo_groups(self._stream)
            [group] = [each for each in groups if each["name"].decode() == self._group]
            newer: Any = client.xrange(self._stream, min=f"({group['last-delivered-id'].decode()}", count=1)
        return int(group["pending"]) + len(newer)
