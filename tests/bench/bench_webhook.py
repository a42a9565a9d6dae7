"""How many signed webhooks a second the sensor takes, each answered 202 only when its event is stored by the real API or on the
disk, beside a bare aiohttp handler of the same answer that keeps nothing. The same sender, requests and connections for both.

``BENCH_WEBHOOK_SECONDS`` is how long each is measured (8 unless given), ``BENCH_WEBHOOK_CONNECTIONS`` how many send (128).
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from support.api_process import ApiProcess
from support.nats_server import NatsServer
from support.sensor_process import drained, serve, stored_events
from support.webhook_outage import webhook_process

from attune_local.ports import free_port

BARE = Path(__file__).with_name("bare_webhook.py")
SECONDS = float(os.environ.get("BENCH_WEBHOOK_SECONDS", "8"))
CONNECTIONS = int(os.environ.get("BENCH_WEBHOOK_CONNECTIONS", "128"))
_WARM_UP = 2.0
_SECRET = "a-secret-of-this-benchmark"
_BODY = json.dumps({"ref": "refs/heads/main", "commits": [{"id": "0" * 40, "message": "x" * 200}] * 3}).encode()


async def send(port: int, *, seconds: float) -> tuple[int, list[float]]:
    """Send on all connections, one request after the other, for so long; returns how many were accepted, and their times."""
    signature = hmac.new(_SECRET.encode(), _BODY, hashlib.sha256).hexdigest()
    head = (
        "POST /hooks/1 HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(_BODY)}\r\nX-Hub-Signature-256: sha256={signature}\r\nX-GitHub-Event: push\r\n"
        "X-GitHub-Delivery: "
    )
    deadline = time.perf_counter() + seconds
    took: list[float] = []

    async def one(number: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        accepted = 0
        while (began := time.perf_counter()) < deadline:
            writer.write(f"{head}{port}-{number}-{began}\r\n\r\n".encode() + _BODY)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            if not answer.startswith(b"HTTP/1.1 202"):
                raise AssertionError(answer.decode())
            took.append(time.perf_counter() - began)
            accepted += 1
        writer.close()
        return accepted

    counts = await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    return sum(counts), took


async def measured(port: int) -> tuple[int, dict[str, Any]]:
    """How many were accepted in the warm-up, and what was measured after it."""
    warm, _ = await send(port, seconds=_WARM_UP)
    began = time.perf_counter()
    accepted, took = await send(port, seconds=SECONDS)
    took.sort()
    return warm, {
        "accepted": accepted,
        "per_second": round(accepted / (time.perf_counter() - began)),
        "p50_ms": round(took[len(took) // 2] * 1000, 1),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1000, 1),
    }


@contextlib.asynccontextmanager
async def bare() -> AsyncIterator[int]:
    """The reference."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(sys.executable, str(BARE), str(port))
    try:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield port
    finally:
        process.kill()
        await process.wait()


async def sensor_rate(directory: Path) -> dict[str, Any]:
    """The sensor's rate, and whether each accepted request is an event."""
    (directory / "nats").mkdir()
    nats = NatsServer(directory / "nats")
    nats.start()
    api = ApiProcess(directory / "api")
    await asyncio.to_thread(api.start)
    secrets = directory / "secrets" / "hooks"
    secrets.mkdir(parents=True)
    (secrets / "github").write_text(_SECRET)
    sensor, url = webhook_process(directory, api=api, nats=nats, ATTUNE_SECRETS_DIR=str(secrets.parent))
    stream = await sensor.stream()
    try:
        await sensor.start()
        auth = {"type": "github", "secrets": ["hooks/github"]}
        rate = {"perSecond": 10_000, "burst": 20_000}
        await serve(stream, [sensor.rule(1, {"path": "/hooks/1", "auth": auth, "rate": rate})])
        warm, found = await measured(int(url.rpartition(":")[2]))
        await drained(sensor, within=120)
        assert await sensor.stop() == 0
        events = len(await stored_events(api))
        return {**found, "each_is_one_event": events == found["accepted"] + warm}
    finally:
        await sensor.kill()
        await stream.close()
        await asyncio.to_thread(api.stop)
        nats.stop()


async def run() -> dict[str, object]:
    """Measure both."""
    with tempfile.TemporaryDirectory() as name:
        ours = await sensor_rate(Path(name))
    async with bare() as port:
        _, reference = await measured(port)
    return {
        "ratio": round(ours["per_second"] / reference["per_second"], 3),
        "connections": CONNECTIONS,
        "body_bytes": len(_BODY),
        "sensor": ours,
        "bare_aiohttp": reference,
    }
