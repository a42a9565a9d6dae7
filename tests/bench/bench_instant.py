"""How soon the events of timers that are due at the same instant are in ``ATTUNE_EVENTS``, and what that costs of a processor.

People's schedules are like this: every minute, every hour, at midnight. A NATS server, an API (SQLite, with fsync) and a timer
sensor run, each a process; 1,000 timers of 5 s have one phase. When an event is in the stream is what the stream itself says
(``Nats-Time-Stamp``), and it is read when all is over, so nothing that measures is in the way. Then the same with one timer.

``BENCH_INSTANT_BEFORE`` is a checkout with another build (and its ``.venv``) to be measured in turns with this one;
``BENCH_INSTANT_ROUNDS`` how often (1), ``BENCH_INSTANT_FIRES`` how many instants of each round (10), ``BENCH_INSTANT_DATABASE``
``sqlite`` (unless given) or ``postgresql``.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_timer_accuracy import described, micros, now_us
from nats import connect
from support.api_outage import TimerProcess
from support.api_process import ApiProcess
from support.nats_server import NatsServer
from support.postgres import PostgresServer
from support.process_time import cpu_seconds
from support.rule_stream import rule_state
from support.sensor_process import serve

from attune_api.streams.stored import all_messages
from attune_contract.subjects import ALL_EVENTS, EVENTS_STREAM

BEFORE = os.environ.get("BENCH_INSTANT_BEFORE")
ROUNDS = int(os.environ.get("BENCH_INSTANT_ROUNDS", "1"))
FIRES = int(os.environ.get("BENCH_INSTANT_FIRES", "10"))
DATABASE = os.environ.get("BENCH_INSTANT_DATABASE", "sqlite")
#: Timers, and the seconds between two of their instants.
MANY = (1000, 5)
ONE = (1, 1)
#: Instants before what is measured: connections are opened, and statements prepared.
_WARM_UP = 2


async def measure(
    directory: Path, *, python: str, timers: int, interval: int, database_url: str | None
) -> dict[str, Any]:
    """What became of :data:`FIRES` instants of so many timers."""
    (directory / "nats").mkdir()
    nats = NatsServer(directory / "nats")
    nats.start()
    api = ApiProcess(directory / "api", python=python, database_url=database_url, nats_url=nats.url)
    await asyncio.to_thread(api.start)
    sensor = TimerProcess(directory, api=api, nats=nats, python=python)
    stream = await sensor.stream()
    try:
        await sensor.start()
        anchor = datetime.fromtimestamp(now_us() // 1_000_000, UTC)
        phase = anchor.isoformat().replace("+00:00", "Z")
        # Created now, so that there is nothing to catch up with.
        states = [
            rule_state(n + 1, parameters={"interval": interval, "anchor": phase}, created_at=datetime.now(UTC))
            for n in range(timers)
        ]
        await serve(stream, states, within=60)
        every = interval * 1_000_000
        begin = now_us() // every * every + (micros(phase) % every) + (1 + _WARM_UP) * every
        end = begin + FIRES * every
        pids = {"sensor": sensor.pid, "api": api.process.pid}
        await asyncio.sleep((begin - every // 2 - now_us()) / 1e6)
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        await asyncio.sleep((end - every // 2 - now_us()) / 1e6)
        spent = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
        client = await connect(nats.url)
        messages = await all_messages(client, stream=EVENTS_STREAM, subject=ALL_EVENTS)
        await client.close()
    finally:
        await sensor.kill()
        await stream.close()
        await asyncio.to_thread(api.stop)
        nats.stop()
    events = [(json.loads(message.data), message.headers["Nats-Time-Stamp"]) for message in messages]
    counted = [(event, at) for event, at in events if begin <= micros(event["occurred_at"]) < end]
    assert len(counted) == FIRES * timers, f"{len(counted)} events are in the stream, {FIRES * timers} were due"

    def late(moments: Sequence[str]) -> list[int]:
        due = (micros(event["occurred_at"]) for event, _ in counted)
        return [micros(moment) - at for moment, at in zip(moments, due, strict=True)]

    in_stream = late([f"{at[:26].rstrip('Z')}Z" for _, at in counted])
    instants: dict[str, list[int]] = {}
    for (event, _), after in zip(counted, in_stream, strict=True):
        instants.setdefault(event["occurred_at"], []).append(after)
    each = [described(values) for values in instants.values()]
    return {
        "timers": timers,
        "in_stream": described(in_stream),
        # A machine that others use as well spoils some instants.
        "median_instant": {
            name: round(statistics.median(instant[name] for instant in each), 2) for name in ("p50_ms", "p99_ms")
        },
        "best_instant": {name: min(instant[name] for instant in each) for name in ("p50_ms", "p99_ms")},
        "fired": described(late([event["payload"]["fired_at"] for event, _ in counted])),
        "at_the_api": described(late([event["received_at"] for event, _ in counted])),
        "cpu_us": {name: round(seconds / len(counted) * 1e6, 1) for name, seconds in spent.items()},
    }


async def build(python: str) -> dict[str, Any]:
    """Both measurements of one build."""
    found: dict[str, Any] = {}
    postgres = PostgresServer(fsync="on") if DATABASE == "postgresql" else None
    try:
        if postgres is not None:
            await asyncio.to_thread(postgres.start)
        for name, (timers, interval) in (("many", MANY), ("one", ONE)):
            url = None if postgres is None else await asyncio.to_thread(postgres.create_database)
            with tempfile.TemporaryDirectory() as directory:
                found[name] = await measure(
                    Path(directory), python=python, timers=timers, interval=interval, database_url=url
                )
    finally:
        if postgres is not None:
            await asyncio.to_thread(postgres.remove)
    return found


async def run() -> dict[str, object]:
    """All rounds. The times of the one with the median p50 of many are the result."""
    rounds = []
    for _ in range(ROUNDS):
        found: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
        if BEFORE is not None:
            found["before"] = await build(str(Path(BEFORE) / ".venv" / "bin" / "python"))
        found["now"] = await build(sys.executable)
        sys.stderr.write(json.dumps(found) + "\n")
        rounds.append(found)
    rounds.sort(key=lambda each: each["now"]["many"]["median_instant"]["p50_ms"])
    return {"database": DATABASE, **rounds[len(rounds) // 2], "rounds": rounds}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"instant": asyncio.run(run())}, indent=2) + "\n")
