"""Batches of 1,000 events over HTTP, against a bare ``executemany`` into the same table with the same indexes and durability.

The reference has its rows ready, and commits 1,000 at a time. ``ratio`` is the worse of the two databases.
"""

import asyncio
import json
import sqlite3
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import uvloop
from bench_event_post import MEMORY_MIB, event
from posting import post_all, request
from support.api_process import SENSOR, ApiProcess
from support.postgres import PostgresServer
from support.process_memory import peak_mib
from support.quiet import quiet

BATCH = 1000
BATCHES = 40
SENDERS = 4
ROUNDS = 3
COLUMNS = (
    "id", "trigger_type", "rule_uid", "rule_namespace", "rule_name", "sensor_ref", "occurred_at", "received_at", "payload",
)  # fmt: skip


def batches(start: int) -> list[list[dict[str, Any]]]:
    """The events of a round."""
    return [[event(start + number * BATCH + k) for k in range(BATCH)] for number in range(BATCHES)]


def _values(each: dict[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC)
    occurred_at = datetime.fromisoformat(each["occurred_at"])
    more = {"occurred_at": occurred_at, "received_at": now, "sensor_ref": str(SENSOR), "id": uuid.UUID(each["id"])}
    return {**each, **more, "payload": msgspec.json.encode(each["payload"]).decode()}


def bare_sqlite(url: str, rounds: list[list[dict[str, Any]]]) -> float:
    """Rows a second of the reference."""

    def row(each: dict[str, Any]) -> tuple[Any, ...]:
        values = _values(each)
        times = {name: values[name].replace(tzinfo=None).isoformat(" ", "microseconds") for name in COLUMNS[6:8]}
        return tuple({**values, **times, "id": values["id"].hex}[name] for name in COLUMNS)

    ready = [[row(each) for each in batch] for batch in rounds]
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    insert = f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    began = time.perf_counter()
    for batch in ready:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(insert, batch)
        connection.execute("COMMIT")
    seconds = time.perf_counter() - began
    connection.close()
    return BATCH * len(ready) / seconds


def bare_postgresql(url: str, rounds: list[list[dict[str, Any]]]) -> float:
    """Rows a second of the reference."""
    ready = [[tuple(_values(each)[name] for name in COLUMNS) for each in batch] for batch in rounds]
    insert = f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({', '.join(f'${n + 1}' for n in range(len(COLUMNS)))})"

    async def insert_all() -> float:
        connection = await asyncpg.connect(url)
        began = time.perf_counter()
        for batch in ready:
            async with connection.transaction():
                await connection.executemany(insert, batch)
        seconds = time.perf_counter() - began
        await connection.close()
        return seconds

    return BATCH * len(ready) / uvloop.run(insert_all())


def measure(directory: Path, database_url: str | None) -> dict[str, Any]:
    """One database: the rounds alternate between the API and the reference, and the median of the ratios counts."""
    bare = bare_sqlite if database_url is None else bare_postgresql
    rounds = []
    with ApiProcess(directory, database_url=database_url) as api:
        token = api.minter.token()
        size = BATCH * BATCHES
        for number in range(ROUNDS):
            reference = bare(api.database_url, batches(2 * number * size))
            bodies = [msgspec.json.encode({"events": batch}) for batch in batches((2 * number + 1) * size)]
            requests = [request("/api/v1/events/batch", body, port=api.port, token=token) for body in bodies]
            load = uvloop.run(post_all(api.port, requests, connections=SENDERS, status=200))
            rate = load.rate * BATCH
            rounds.append(
                {
                    "rows_per_second": round(rate),
                    "reference_per_second": round(reference),
                    "ratio": round(rate / reference, 3),
                }
            )
        memory = peak_mib(api.process.pid)
    rounds.sort(key=lambda each: each["ratio"])
    return {**rounds[ROUNDS // 2], "peak_memory_mib": memory, "rounds": rounds}


async def run() -> dict[str, object]:
    """The result for each database."""
    return await asyncio.to_thread(_run)


def _run() -> dict[str, object]:
    quiet()
    postgres = PostgresServer(fsync="on")
    with tempfile.TemporaryDirectory() as directory:
        try:
            postgres.start()
            results = {
                "sqlite": measure(Path(directory) / "sqlite", None),
                "postgresql": measure(Path(directory) / "postgresql", postgres.create_database()),
            }
        finally:
            postgres.remove()
    return {
        "ratio": min(each["ratio"] for each in results.values()),
        "at_least": 0.5,
        "memory_at_most_mib": MEMORY_MIB,
        **results,
    }


if __name__ == "__main__":
    print(json.dumps({"event_ingest": asyncio.run(run())}, indent=2))
