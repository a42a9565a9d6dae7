"""What an event costs with one and with two replicas of the API on one PostgreSQL: whether replicas add up.

The replicas share this machine's cores, so rates say little; processor time for each event does. ``ratio`` is what an event costs
with one replica, the API's and the server's time together, divided by what it costs with two: with 1, two machines store twice
what one does, as long as the server keeps up.
"""

import asyncio
import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from bench_event_post import event
from posting import post_all, request
from support.api_process import ApiProcess, write_jwks
from support.postgres import PostgresServer
from support.process_figures import children
from support.process_time import cpu_seconds
from support.quiet import quiet

BATCH = 1000
BATCHES = 40
SENDERS = 4
ROUNDS = 3


def _server_seconds(server: PostgresServer) -> float:
    """Processor time of the server's processes that run now. Its connections last, so none is missed."""
    return sum(cpu_seconds(pid) for pid in [server.pid, *children(server.pid)])


def _round(apis: list[ApiProcess], server: PostgresServer, start: int) -> dict[str, float]:
    token = apis[0].minter.token()
    bodies = [
        msgspec.json.encode({"events": [event(start + number * BATCH + k) for k in range(BATCH)]})
        for number in range(BATCHES)
    ]
    shares = [
        [request("/api/v1/events/batch", body, port=api.port, token=token) for body in bodies[number :: len(apis)]]
        for number, api in enumerate(apis)
    ]

    async def post() -> None:
        await asyncio.gather(
            *(
                post_all(api.port, share, connections=SENDERS // len(apis), status=200)
                for api, share in zip(apis, shares, strict=True)
            )
        )

    before, server_before = sum(cpu_seconds(api.process.pid) for api in apis), _server_seconds(server)
    began = time.perf_counter()
    uvloop.run(post())
    seconds = time.perf_counter() - began
    events = BATCH * BATCHES
    return {
        "api_us": (sum(cpu_seconds(api.process.pid) for api in apis) - before) / events * 1e6,
        "server_us": (_server_seconds(server) - server_before) / events * 1e6,
        "events_per_second": events / seconds,
    }


def measure(replicas: int, directory: Path, server: PostgresServer) -> dict[str, float]:
    """The median round, by the whole cost, after one that does not count."""
    url = server.create_database()
    with contextlib.ExitStack() as stack:
        apis = [ApiProcess(directory / str(number), database_url=url) for number in range(replicas)]
        for api in apis:
            api.minter = apis[0].minter
            write_jwks(api.jwks_file, api.minter)
            stack.enter_context(api)
        rounds = [_round(apis, server, number * BATCH * BATCHES) for number in range(1 + ROUNDS)][1:]
    middle = sorted(rounds, key=lambda each: each["api_us"] + each["server_us"])[ROUNDS // 2]
    return {name: round(value, 1) for name, value in middle.items()}


async def run() -> dict[str, object]:
    """The result."""

    def compare() -> dict[str, Any]:
        quiet()
        server = PostgresServer(fsync="on")
        with tempfile.TemporaryDirectory() as directory:
            try:
                server.start()
                found = {n: measure(n, Path(directory) / str(n), server) for n in (1, 2)}
            finally:
                server.remove()
        one, two = (found[n]["api_us"] + found[n]["server_us"] for n in (1, 2))
        return {"ratio": round(one / two, 3), "at_least": 0.75, "one": found[1], "two": found[2]}

    return await asyncio.to_thread(compare)


if __name__ == "__main__":
    print(json.dumps({"api_replicas": asyncio.run(run())}, indent=2))
