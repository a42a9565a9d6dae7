"""Sends signed webhooks on many connections, one request after the other on each, and prints what came of it as JSON.

A program of its own, on uvloop and without an HTTP library, so that it takes little from the server that it measures.
"""

import asyncio
import hashlib
import hmac
import json
import sys
import time
from typing import cast

import uvloop

SECRET = "a-secret-of-this-benchmark"
BODY = json.dumps({"ref": "refs/heads/main", "commits": [{"id": "0" * 40, "message": "x" * 200}] * 3}).encode()
PATH = "/hooks/1"


class Sender(asyncio.Protocol):
    """One connection."""

    def __init__(self, head: str, name: str, deadline: float, took: list[float]) -> None:
        self._head = head
        self._name = name
        self._deadline = deadline
        self._took = took
        self._buffer = b""
        self._began = 0.0
        self._number = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        if self._began >= self._deadline:
            self._transport.close()
            return
        self._number += 1
        self._transport.write(f"{self._head}{self._name}-{self._number}\r\n\r\n".encode() + BODY)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        if not head.startswith(b"HTTP/1.1 202"):
            self.ended.set_exception(AssertionError(self._buffer.decode()))
            self._transport.abort()
            return
        self._buffer = b""
        self._took.append(time.perf_counter() - self._began)
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def send(port: int, *, seconds: float, connections: int) -> dict[str, float]:
    """Send for so long; each request is a delivery of its own."""
    signature = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: "
    )
    took: list[float] = []
    began = time.perf_counter()
    senders: list[Sender] = []
    for number in range(connections):
        sender = Sender(head, f"{time.time_ns()}-{number}", began + seconds, took)
        senders.append(sender)
        await asyncio.get_running_loop().create_connection(lambda sender=sender: sender, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(sender.ended for sender in senders))
    lasted = time.perf_counter() - began
    took.sort()
    return {
        "accepted": len(took),
        "per_second": round(len(took) / lasted),
        "p50_ms": round(took[len(took) // 2] * 1000, 1),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1000, 1),
    }


if __name__ == "__main__":
    given_port, given_seconds, given_connections = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(send(given_port, seconds=given_seconds, connections=given_connections))))
