"""A reader of ``/api/v1/events/stream`` that costs little, so that a test can have hundreds of them."""

import asyncio
import json
from typing import Any, Self

from support.api_process import ADMIN_TOKEN
from support.eventually import patience


class StreamReader:
    """One connection to the stream.

    It reads the chunked answer line by line: the API sends whole frames in each chunk, so lines that are neither an id nor
    data are the chunks' own.
    """

    def __init__(self, port: int, *, query: str = "", after: int | None = None, token: str = ADMIN_TOKEN) -> None:
        self._port = port
        self._query = query
        self._after = after
        self._token = token
        self.status = 0
        self.events: list[dict[str, Any]] = []
        self.place: int | None = after
        self.pings = 0
        self.problem: dict[str, Any] | None = None
        self.ended = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def open(self) -> None:
        """Ask, and return when the answer's head is there."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=8 * 1024 * 1024)
        self._writer.write(self.request)
        status = await asyncio.wait_for(self._reader.readline(), 150)
        self.status = int(status.split()[1])
        while (await asyncio.wait_for(self._reader.readline(), 150)).strip():
            pass

    @property
    def request(self) -> bytes:
        """What it asks."""
        head = [
            f"GET /api/v1/events/stream?{self._query} HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: Bearer {self._token}",
            *([f"Last-Event-ID: {self._after}"] if self._after is not None else []),
        ]
        return ("\r\n".join(head) + "\r\n\r\n").encode()

    def close(self) -> None:
        self._writer.transport.abort()

    async def read_until(self, count: int, *, seconds: float = 30) -> None:
        """Read until there are so many events, or the stream ends."""
        async with asyncio.timeout(patience(seconds)):
            while len(self.events) < count and not self.ended:
                await self.read_line()

    async def read_line(self) -> None:
        try:
            line = await self._reader.readline()
        except ConnectionError:
            line = b""
        if not line:
            self.ended = True
        elif line.startswith(b"id: "):
            self.place = int(line[4:])
        elif line.startswith(b": ping"):
            self.pings += 1
        elif line.startswith(b"data: "):
            said = json.loads(line[6:])
            if "seq" in said:
                self.events.append(said)
            else:
                self.problem = said
