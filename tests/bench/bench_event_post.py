"""Single events over HTTP, against an empty FastAPI route that reads a body of the same size under the same server settings.

Each answer 201 of the API says that the event is on disk, and survives a power cut. ``ratio`` is the worse of the two databases.
"""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvloop
from posting import Load, on_both_databases, post_all, request
from support.api_process import ApiProcess, report
from support.process_memory import peak_mib

from attune_local.ports import free_port

EVENTS = 6_000
CONNECTIONS = 64
ROUNDS = 3


def event(k: int) -> dict[str, Any]:
    """An event, of one of 50 rules."""
    return report(k, rule_uid=f"7c1f3f0e-37e9-4d5e-9d2f-{k % 50:012}")


def bodies(start: int, count: int) -> list[bytes]:
    """Events as a sensor writes them."""
    return [msgspec.json.encode(event(k)) for k in range(start, start + count)]


class EmptyRoute:
    """The reference as a process of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        program = Path(__file__).with_name("empty_route.py")
        self._process = subprocess.Popen([sys.executable, str(program), str(self.port)])
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/", trust_env=False)
            except httpx.TransportError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


def load(port: int, requests: list[bytes]) -> Load:
    """Send them all."""
    return uvloop.run(post_all(port, requests, connections=CONNECTIONS, status=201))


def measure(directory: Path, database_url: str | None) -> dict[str, Any]:
    """One database: the rounds alternate between the API and the reference, and the median of the ratios counts."""
    rounds = []
    empty = EmptyRoute()
    try:
        with ApiProcess(directory, database_url=database_url) as api:
            token = api.minter.token()
            load(api.port, [request("/api/v1/events", body, port=api.port, token=token) for body in bodies(0, 1000)])
            for number in range(1, ROUNDS + 1):
                events = bodies(number * EVENTS, EVENTS)
                reference = load(empty.port, [request("/empty", body, port=empty.port, token=token) for body in events])
                measured = load(
                    api.port, [request("/api/v1/events", body, port=api.port, token=token) for body in events]
                )
                rounds.append(
                    {
                        "requests_per_second": round(measured.rate),
                        "reference_per_second": round(reference.rate),
                        "p99_ms": round(measured.p99 * 1000, 1),
                        "ratio": round(measured.rate / reference.rate, 3),
                    }
                )
            memory = peak_mib(api.process.pid)
    finally:
        empty.stop()
    rounds.sort(key=lambda each: each["ratio"])
    return {**rounds[ROUNDS // 2], "peak_memory_mib": memory, "rounds": rounds}


async def run() -> dict[str, object]:
    """The result for each database."""
    return await on_both_databases(measure)


if __name__ == "__main__":
    print(json.dumps({"event_post": asyncio.run(run())}, indent=2))
