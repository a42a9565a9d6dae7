"""A way to a server that a test can cut, while the server itself stays."""

import asyncio
import contextlib
from typing import Self

from attune_local.ports import free_port


class TcpRelay:
    """Passes bytes on from a port of loopback to another, while it is open."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.held = 0

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        """Let connections through (again)."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        """Take no more connections, and break those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def hold(self) -> None:
        """Keep what comes, in both directions, until :meth:`let_go`; ``held`` counts its bytes."""
        self.held = 0
        self._flows.clear()

    def let_go(self) -> None:
        """Pass on what was kept, and what comes."""
        self._flows.set()

    def point_at(self, target: int) -> None:
        """Lead new connections to another port, as a Service does; those that there are stay where they are."""
        self._target = target

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_on(reader, far_writer))
            group.create_task(self._pass_on(far_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not self._flows.is_set():
                    self.held += len(data)
                    await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
