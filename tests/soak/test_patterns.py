"""Rules about events with 10,000 keys, the Sensor killed again and again and the API once: what comes of it is what a simple
model makes of the events that the API stored, each once.

Without a cluster: ``.venv/bin/pytest -s tests/soak/test_patterns.py``.
"""

import asyncio
import os
import statistics
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest
from support.eventually import until
from support.nats_server import NatsServer
from support.pattern_model import SECOND, absent_of, counts_of, entries_of, happened_of, of_each_key
from support.pattern_stage import BEAT, Stage, pattern
from support.process_memory import peak_mib
from support.sensor_process import serve

from attune_contract.messages import RuleState
from attune_patterns.events import instant

pytestmark = [pytest.mark.nats, pytest.mark.timeout(1200)]

KEYS = [f"device-{number}" for number in range(10_000)]
WITHIN = 120
ROUNDS = 3


async def test_ten_thousand_keys_through_kills(nats_server: NatsServer, tmp_path: Path) -> None:
    stage = Stage(tmp_path, nats_server)
    absent = pattern(1, "core.absent", within=f"{WITHIN}s", key="event.payload.key", returns=True)
    count = pattern(2, "core.count", within="1h", count=ROUNDS, key="event.payload.key")
    kills = 0
    began = time.monotonic()
    await stage.start()
    try:
        await serve(stage.rules, [absent, count], within=60)
        for number in range(ROUNDS):
            await stage.report(*KEYS)
            await _reads(stage)
            await stage.sensor.kill()
            kills += 1
            if number == 1:
                await asyncio.to_thread(stage.api.kill)
                await stage.sensor.start()  # while the API is away
                await asyncio.to_thread(stage.api.start)
            else:
                await stage.sensor.start()
        await stage.report(*KEYS[:5000])
        # Half of them are silent now: the sensor is killed while it says so.
        for share in (0.1, 0.3, 0.5, 0.7):
            await _stored(stage, absent, int(share * 5000))
            await stage.sensor.kill()
            kills += 1
            await stage.sensor.start()
        await _stored(stage, absent, 5000)
        last = await stage.report(*KEYS[5000:6000])
        undisturbed = instant(min(last.values())) + (WITHIN - 1) * SECOND
        # All are missing in the end: once, or once more after they came back.
        await _stored(stage, absent, 10_000 + 2 * 1000)
        await _stored(stage, count, 10_000)
        log = await stage.events(BEAT)
        found = {rule.name: await stage.events(rule) for rule in (absent, count)}
        memory = peak_mib(stage.sensor.pid)
        assert await stage.sensor.stop() == 0
    finally:
        await stage.end()
    entries = entries_of(log)
    until_end = entries[-1].received + 3600 * SECOND
    assert happened_of(found[absent.name], log) == of_each_key(
        entries, absent_of, within=WITHIN * SECOND, until=until_end
    )
    assert happened_of(found[count.name], log) == of_each_key(entries, counts_of, window=3600 * SECOND, count=ROUNDS)
    late = [
        (_us(event["received_at"]) - _us(event["occurred_at"])) / 1e6
        for event in found[absent.name]
        if event["payload"]["status"] == "missing" and _us(event["occurred_at"]) > undisturbed
    ]
    doubled = sum(times - 1 for times in Counter(event["id"] for each in found.values() for event in each).values())
    print(
        f"{len(log)} events of {len(KEYS)} keys, {kills} kills of the sensor and one of the API: {len(found[absent.name])} "
        f"missing or back, {len(found[count.name])} counts, {doubled} doubled, in {time.monotonic() - began:.0f} s. "
        f"{len(late)} that were due when nothing was killed were stored {statistics.median(late):.2f} s after their time "
        f"(median; most {max(late):.2f} s). The sensor took at most {memory:.0f} MiB; load average {os.getloadavg()[0]:.1f}"
    )


def _us(text: str) -> int:
    return instant(datetime.fromisoformat(text))


async def _reads(stage: Stage) -> None:
    """Wait until the sensor has begun with what is there, so that a kill is in the middle of it."""
    before = len(stage.sensor.logged("sensor_starting"))
    await until(lambda: len(stage.sensor.logged("rules_snapshot_taken")) >= before, within=60)
    await asyncio.sleep(2)


async def _stored(stage: Stage, rule: RuleState, number: int) -> None:
    async def enough() -> bool:
        return len(await stage.events(rule)) >= number

    await until(enough, within=600, every=1, what=f"{number} events of {rule.name}")
