"""What the bench of actions compares with, and its target (``loop URL CONSUMER TARGET``, ``sink PORT``).

The loop does what any program has to: pull an event, post it, acknowledge it, with as many requests at once as the runner has.
"""

import asyncio
import contextlib
import json
import sys
import time
from typing import Any, ClassVar

import aiohttp
import nats
import uvloop

AT_ONCE = 64
BATCH = 256


async def loop(url: str, consumer: str, target: str) -> None:
    """Pull, post, acknowledge."""
    client = await nats.connect(url)
    subscription = await client.jetstream().pull_subscribe_bind(consumer, "ATTUNE_EVENTS")
    slots = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def post(message: Any) -> None:
            async with slots, session.post(target, data=message.data) as answer:
                await answer.read()
            await message.ack()

        tasks: set[asyncio.Task[None]] = set()
        while True:
            with contextlib.suppress(TimeoutError):
                for message in await subscription.fetch(BATCH, timeout=5):
                    task = asyncio.create_task(post(message))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            while len(tasks) > BATCH:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


class Sink(asyncio.Protocol):
    """Answers 204 to each request, and notes when it came. It costs little: what is measured is who sends."""

    count = 0
    times: ClassVar[dict[str, float]] = {}

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            lower = head.lower()
            length = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            Sink.count += 1
            name = lower.partition(b"ce-id: ")[2].partition(b"\r\n")[0].decode()
            Sink.times.setdefault(name, time.time())
            if b"wait=10" in head.partition(b"\r\n")[0]:
                asyncio.get_running_loop().call_later(10, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def sink(port: int) -> None:
    """Serve, and answer words on standard input."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    print("ready", flush=True)
    async with server:
        while line := await asyncio.to_thread(sys.stdin.readline):
            word = line.strip()
            if word == "reset":
                Sink.count, Sink.times = 0, {}
            print(json.dumps(Sink.times if word == "times" else Sink.count), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        uvloop.run(sink(int(sys.argv[2])))
    else:
        uvloop.run(loop(*sys.argv[2:]))
