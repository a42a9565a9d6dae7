"""How late the timer sensor fires, while all of its events are stored by one real API, beside a bare asyncio heap of the same
timers that does nothing else.

``BENCH_TIMER_SECONDS`` is how long 10,000 timers of 5 s are measured (60 unless given); with ``BENCH_TIMER_MANY=1`` there are
also 100,000 timers of 60 s. Lateness at emission is the event's ``fired_at`` less its ``scheduled_at``.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from support.api_outage import TimerProcess
from support.api_process import ApiProcess
from support.nats_server import NatsServer
from support.rule_stream import RuleStream, rule_state

BARE = Path(__file__).with_name("bare_heap.py")
SECONDS = int(os.environ.get("BENCH_TIMER_SECONDS", "60"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class System:
    """A NATS server, an API and a timer sensor, each a process."""

    stream: RuleStream
    timer: TimerProcess
    database: Path

    def resident_mib(self) -> float:
        """The sensor's memory."""
        found = re.search(r"VmRSS:\s+([0-9]+) kB", Path(f"/proc/{self.timer.pid}/status").read_text())
        assert found is not None
        return int(found.group(1)) / 1024

    def cpu_seconds(self) -> float:
        """The sensor's use of a processor so far."""
        fields = Path(f"/proc/{self.timer.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def metric(self, name: str) -> float:
        """One value of the sensor's metrics."""
        with contextlib.suppress(aiohttp.ClientError):
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.timer.metrics_port}/metrics") as answer,
            ):
                found = re.search(rf"^{re.escape(name)} ([0-9.e+]+)$", await answer.text(), re.MULTILINE)
                return float(found.group(1)) if found else 0.0
        return 0.0

    async def wait_metric(self, name: str, least: float, *, within: float) -> None:
        """Wait until a metric is so much."""
        async with asyncio.timeout(within):
            while await self.metric(name) < least:  # noqa: ASYNC110 - asked over HTTP
                await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def system() -> AsyncIterator[System]:
    """The whole way of an event, on this machine."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "nats").mkdir()
        nats = NatsServer(directory / "nats")
        nats.start()
        api = ApiProcess(directory / "api")
        await asyncio.to_thread(api.start)
        timer = TimerProcess(directory, api=api, nats=nats)
        stream = RuleStream(nats.url)
        try:
            await stream.connect()
            await stream.make_streams()
            await timer.start()
            made = System(stream, timer, directory / "api" / "db" / "attune.db")
            await made.wait_metric("attune_sensor_nats_connected", 1, within=30)
            yield made
        finally:
            await timer.kill()
            await stream.close()
            api.stop()
            nats.stop()


def now_us() -> int:
    """The wall clock."""
    return time.time_ns() // 1000


def percentile(values: list[int], share: float) -> float:
    """A percentile in milliseconds."""
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))] / 1000, 3)


def described(values: list[int]) -> dict[str, float]:
    """Lateness in milliseconds."""
    return {
        "p50_ms": percentile(values, 0.5),
        "p99_ms": percentile(values, 0.99),
        "max_ms": round(max(values) / 1000, 3),
    }


async def one_timer(*, fires: int, seconds: int) -> dict[str, Any]:
    """One timer: its lateness, and when a reader of the database finds the event."""
    async with system() as made:
        idle = made.resident_mib()
        begin = now_us() // 1_000_000 + 3
        anchor = datetime.fromtimestamp(begin, UTC).isoformat().replace("+00:00", "Z")
        await made.stream.put(rule_state(parameters={"interval": seconds, "anchor": anchor}))
        found: list[int] = []
        reader = sqlite3.connect(made.database)
        for k in range(fires):
            at = (begin + k * seconds) * 1_000_000
            await asyncio.sleep(max(0, at - now_us()) / 1e6)
            while reader.execute("SELECT max(seq) FROM events").fetchone()[0] != k + 1:
                if now_us() - at > 5_000_000:
                    raise AssertionError(f"event {k} was not stored within 5 s")
                await asyncio.sleep(0.0005)
            found.append(now_us() - at)
        rows = reader.execute("SELECT payload FROM events ORDER BY seq").fetchall()
        reader.close()
    payloads = [json.loads(row[0]) for row in rows]
    late = [micros(payload["fired_at"]) - micros(payload["scheduled_at"]) for payload in payloads]
    exact = [micros(payload["scheduled_at"]) for payload in payloads] == [
        (begin + k * seconds) * 1_000_000 for k in range(fires)
    ]
    return {
        "fires": fires,
        "interval_seconds": seconds,
        "exactly_on_schedule": exact,
        "emission": described(late),
        "stored": described(found),
        "idle_memory_mib": round(idle, 1),
    }


async def many_timers(*, number: int, interval: int, seconds: int) -> dict[str, Any]:
    """Many timers, spread over the interval, and the reference beside them."""
    chance = random.Random(7)
    anchors = [_ANCHOR + timedelta(microseconds=chance.randrange(interval * 1_000_000)) for _ in range(number)]
    states = [
        rule_state(n + 1, parameters={"interval": interval}, created_at=anchor) for n, anchor in enumerate(anchors)
    ]
    async with system() as made:
        idle = made.resident_mib()
        await made.stream.put_many(states)
        await made.wait_metric('attune_sensor_rules{state="Active"}', number, within=120)
        begin = now_us() + (interval + 2) * 1_000_000
        end = begin + seconds * 1_000_000
        due = sum(
            (end - 1 - anchor) // (interval * 1_000_000) - (begin - 1 - anchor) // (interval * 1_000_000)
            for anchor in ((anchor - _EPOCH) // timedelta(microseconds=1) for anchor in anchors)
        )
        file = made.database.parent / "anchors.json"
        file.write_text(json.dumps([(anchor - _EPOCH) // timedelta(microseconds=1) for anchor in anchors]))
        bare = await asyncio.create_subprocess_exec(
            sys.executable, str(BARE), str(file), str(interval * 1_000_000), str(begin), str(end), stdout=-1
        )
        # Not before: in its first seconds the sensor catches up on what was due in the last 30 s.
        await asyncio.sleep((begin - now_us()) / 1e6)
        cpu_before, cpu_from = made.cpu_seconds(), now_us()
        output, _ = await bare.communicate()
        memory = made.resident_mib()
        cpu = (made.cpu_seconds() - cpu_before) / ((now_us() - cpu_from) / 1e6)
        late: list[int] = []
        ks = 0
        for _ in range(60):
            late, ks = await asyncio.to_thread(measured, made.database, begin, end)
            if ks >= due:
                break
            await asyncio.sleep(1)
    reference = json.loads(output)
    sensor, heap = described(late), described(reference)
    return {
        "timers": number,
        "interval_seconds": interval,
        "measured_seconds": seconds,
        "events_due": due,
        "events_stored": ks,
        "events_lost": due - ks,
        "sensor": sensor,
        "bare_heap": heap,
        "ratio": round(sensor["p99_ms"] / heap["p99_ms"], 2),
        "cpu_share": round(cpu, 3),
        "memory_mib": round(memory, 1),
        "memory_mib_per_1000_rules": round((memory - idle) / number * 1000, 2),
    }


def measured(database: Path, begin: int, end: int) -> tuple[list[int], int]:
    """How late the events that were due in [begin, end) were emitted, and how many different ones there are."""
    late: list[int] = []
    keys: set[tuple[str, int]] = set()
    with contextlib.closing(sqlite3.connect(database)) as reader:
        for uid, text in reader.execute("SELECT rule_uid, payload FROM events"):
            payload = json.loads(text)
            at = micros(payload["scheduled_at"])
            if begin <= at < end:
                late.append(micros(payload["fired_at"]) - at)
                keys.add((uid, payload["k"]))
    return late, len(keys)


def micros(text: str) -> int:
    """A time as microseconds since 1970."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


async def run() -> dict[str, Any]:
    """All measurements; ``ratio`` is that of 10,000 timers."""
    single = await one_timer(fires=20, seconds=5)
    ten_thousand = await many_timers(number=10_000, interval=5, seconds=SECONDS)
    result: dict[str, Any] = {"ratio": ten_thousand["ratio"], "one": single, "ten_thousand": ten_thousand}
    if os.environ.get("BENCH_TIMER_MANY"):
        result["hundred_thousand"] = await many_timers(number=100_000, interval=60, seconds=max(60, SECONDS))
    return result


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(run()), indent=2) + "\n")
