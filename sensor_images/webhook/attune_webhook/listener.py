"""Listens on the port, and ends its connections in good order."""

import asyncio
import contextlib
from typing import Final

from attune_webhook.config import Config
from attune_webhook.http.protocol import Application, HttpProtocol

#: How often (seconds) connections are checked for senders that take too long.
_CHECK_INTERVAL: Final = 0.2
_BACKLOG: Final = 1024


class Listener:
    """The port of what answers requests.

    Args:
        server: what answers requests.
        config: bounds and times.
    """

    def __init__(self, *, server: Application, config: Config) -> None:
        self._server = server
        self._config = config
        self._connections: set[HttpProtocol] = set()
        self._listening: asyncio.Server | None = None
        self._finished = asyncio.Event()  # a request of some connection
        self._checks: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; 0 before :meth:`open`."""
        sockets = self._listening.sockets if self._listening is not None else ()
        return int(sockets[0].getsockname()[1]) if sockets else 0

    async def open(self, host: str | None, port: int) -> None:
        """Begin to serve; without effect when it does.

        Raises:
            OSError: the port is taken.
        """
        if self._listening is not None:
            return
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._protocol, host, port, backlog=_BACKLOG, reuse_address=True)
        self._checks = asyncio.create_task(self._expire(), name="webhook connections")

    async def close(self) -> None:
        """Serve until Services no longer route here, then accept nothing new, finish what is under way, and stop."""
        listening, self._listening = self._listening, None
        if listening is None:
            return
        self._server.draining = True
        try:
            await asyncio.sleep(self._config.drain_seconds)
        finally:
            listening.close()
            for connection in list(self._connections):
                connection.close_idle()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.confirm_seconds):
                    while any(connection.busy for connection in self._connections):
                        self._finished.clear()
                        await self._finished.wait()
            for connection in list(self._connections):
                connection.close()
            if self._checks is not None:
                self._checks.cancel()

    def _protocol(self) -> HttpProtocol:
        return HttpProtocol(
            application=self._server,
            connections=self._connections,
            finished=self._finished,
            most_connections=self._config.max_connections,
            head_seconds=self._config.keep_alive_seconds,
            body_seconds=self._config.body_seconds,
        )

    async def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_CHECK_INTERVAL)
            now = loop.time()
            for connection in list(self._connections):
                connection.expire(now)
