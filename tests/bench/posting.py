"""What benches of posting share: a client that costs little, so that what is measured is the server, and both databases.

The client sends prepared requests over kept connections.
"""

import asyncio
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.postgres import PostgresServer
from support.quiet import quiet

#: What the API may use at most.
MEMORY_MIB = 150


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load: requests answered as expected, seconds, and the slowest hundredth."""

    requests: int
    seconds: float
    p99: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def request(path: str, body: bytes, *, port: int, token: str = "") -> bytes:
    """A POST as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def post_all(
    port: int, requests: Sequence[bytes], *, connections: int, status: int, tls: ssl.SSLContext | None = None
) -> Load:
    """Send each request once, over so many connections, the next when the last is answered.

    Raises:
        RuntimeError: an answer had another status.
    """
    waiting = iter(requests)
    times: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(_connection(port, waiting, times, status, tls) for _ in range(connections)))
    seconds = time.perf_counter() - began
    times.sort()
    return Load(len(times), seconds, times[int(len(times) * 0.99)])


async def _connection(
    port: int, requests: Iterator[bytes], times: list[float], status: int, tls: ssl.SSLContext | None
) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
    )
    expected = f"HTTP/1.1 {status} ".encode()
    for each in requests:
        began = time.perf_counter()
        writer.write(each)
        head = await reader.readuntil(b"\r\n\r\n")
        _, _, rest = head.lower().partition(b"content-length: ")
        body = await reader.readexactly(int(rest.partition(b"\r\n")[0]))
        times.append(time.perf_counter() - began)
        if not head.startswith(expected):
            raise RuntimeError(f"{head.decode()}{body[:500].decode()}")
    writer.close()
    await writer.wait_closed()


async def on_both_databases(measure: Callable[[Path, str | None], dict[str, Any]]) -> dict[str, object]:
    """The result of a bench whose ratio is to be a half at least, the worse of two databases.

    Args:
        measure: given a directory, and the URL of a PostgreSQL database that is durable, or None for SQLite.
    """

    def run() -> dict[str, object]:
        quiet()
        postgres = PostgresServer(fsync="on")
        with tempfile.TemporaryDirectory() as directory:
            try:
                postgres.start()
                results = {
                    "sqlite": measure(Path(directory) / "sqlite", None),
                    "postgresql": measure(Path(directory) / "postgresql", postgres.create_database()),
                }
            finally:
                postgres.remove()
        return {
            "ratio": min(each["ratio"] for each in results.values()),
            "at_least": 0.5,
            "memory_at_most_mib": MEMORY_MIB,
            **results,
        }

    return await asyncio.to_thread(run)
