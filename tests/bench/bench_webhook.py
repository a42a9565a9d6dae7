"""How many signed webhooks a second the sensor takes, each answered 202 only when its event is stored by the real API or on the
disk, beside a bare aiohttp handler of the same answer that keeps nothing. The same sender, requests and connections for both.

``BENCH_WEBHOOK_SECONDS`` is how long each is measured (8 unless given), ``BENCH_WEBHOOK_CONNECTIONS`` how many send (128),
``BENCH_WEBHOOK_ROUNDS`` how often (1), ``BENCH_WEBHOOK_BEFORE`` a checkout with another build to measure in the same run.
"""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from support.api_process import ApiProcess
from support.nats_server import NatsServer
from support.sensor_process import drained, serve, stored_events
from support.webhook_outage import webhook_process
from webhook_sender import BODY, SECRET

from attune_local.ports import free_port

HERE = Path(__file__).parent
BARE = HERE / "bare_webhook.py"
SENDER = HERE / "webhook_sender.py"
SECONDS = float(os.environ.get("BENCH_WEBHOOK_SECONDS", "8"))
CONNECTIONS = int(os.environ.get("BENCH_WEBHOOK_CONNECTIONS", "128"))
ROUNDS = int(os.environ.get("BENCH_WEBHOOK_ROUNDS", "1"))
#: Another checkout of this repository with its `.venv`, to be measured in turns with this one.
BEFORE = os.environ.get("BENCH_WEBHOOK_BEFORE")
_WARM_UP = 2.0


async def send(port: int, *, seconds: float) -> dict[str, Any]:
    """Send on all connections, one request after the other, for so long."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SENDER), str(port), str(seconds), str(CONNECTIONS), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, "the sender failed"
    found: dict[str, Any] = json.loads(out)
    return found


async def measured(port: int) -> tuple[int, dict[str, Any]]:
    """How many were accepted in the warm-up, and what was measured after it."""
    warm = await send(port, seconds=_WARM_UP)
    return warm["accepted"], await send(port, seconds=SECONDS)


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


async def sensor_rate(directory: Path, python: str = sys.executable) -> dict[str, Any]:
    """The sensor's rate, and whether each accepted request is an event.

    Args:
        directory: for what the programs write.
        python: runs the sensor and the API.
    """
    (directory / "nats").mkdir()
    nats = NatsServer(directory / "nats")
    nats.start()
    api = ApiProcess(directory / "api", python=python)
    await asyncio.to_thread(api.start)
    secrets = directory / "secrets" / "hooks"
    secrets.mkdir(parents=True)
    (secrets / "github").write_text(SECRET)
    sensor, url = webhook_process(directory, api=api, nats=nats, python=python, ATTUNE_SECRETS_DIR=str(secrets.parent))
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
    """Measure all in turns; the result is the round with the median ratio to the reference."""
    rounds = []
    for _ in range(ROUNDS):
        found: dict[str, Any] = {}
        if BEFORE is not None:
            with tempfile.TemporaryDirectory() as name:
                found["before"] = await sensor_rate(Path(name), str(Path(BEFORE) / ".venv" / "bin" / "python"))
        with tempfile.TemporaryDirectory() as name:
            found["sensor"] = await sensor_rate(Path(name))
        async with bare() as port:
            _, found["bare_aiohttp"] = await measured(port)
        rate = found["sensor"]["per_second"]
        found["ratio"] = round(rate / found["bare_aiohttp"]["per_second"], 3)
        if BEFORE is not None:
            found["times_before"] = round(rate / found["before"]["per_second"], 2)
        found["load"] = round(os.getloadavg()[0], 1)
        rounds.append(found)
    rounds.sort(key=lambda each: each["ratio"])
    return {
        **rounds[len(rounds) // 2],
        "connections": CONNECTIONS,
        "body_bytes": len(BODY),
        "rounds": [(each["ratio"], each.get("times_before")) for each in rounds],
    }
