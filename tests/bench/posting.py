"""A client that costs little, so that what is measured is the server: prepared requests over kept connections."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


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


async def post_all(port: int, requests: Sequence[bytes], *, connections: int, status: int) -> Load:
    """Send each request once, over so many connections, the next when the last is answered.

    Raises:
        RuntimeError: an answer had another status.
    """
    waiting = iter(requests)
    times: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(*(_connection(port, waiting, times, status) for _ in range(connections)))
    seconds = time.perf_counter() - began
    times.sort()
    return Load(len(times), seconds, times[int(len(times) * 0.99)])


async def _connection(port: int, requests: Iterator[bytes], times: list[float], status: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
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
