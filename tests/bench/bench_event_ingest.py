"""Batches of 1,000 events over HTTP, against a bare ``executemany`` into the same table with the same indexes and durability.

The reference has its rows ready, and commits 1,000 at a time. ``ratio`` is the worse of the two databases.

``BENCH_AS_INSTALLED=yes``: over HTTPS, as the chart installs the API.
"""

import asyncio
import json
import os
import sqlite3
import ssl
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import uvloop
from bench_event_post import event
from posting import on_both_databases, post_all, request
from support.api_process import SENSOR, ApiProcess
from support.process_memory import peak_mib
from support.process_time import cpu_seconds

INSTALLED = bool(os.environ.get("BENCH_AS_INSTALLED"))
BATCH = 1000
BATCHES = 40
SENDERS = 4
ROUNDS = 5
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


def over_http(
    api: ApiProcess, rounds: list[list[dict[str, Any]]], tls: tuple[int, ssl.SSLContext] | None
) -> tuple[float, float]:
    """Rows a second of the API, and the processor time that it needs for one, in microseconds."""
    token = api.minter.token()
    bodies = [msgspec.json.encode({"events": batch}) for batch in rounds]
    requests = [request("/api/v1/events/batch", body, port=api.port, token=token) for body in bodies]
    began = cpu_seconds(api.process.pid)
    port, context = tls or (api.port, None)
    load = uvloop.run(post_all(port, requests, connections=SENDERS, status=200, tls=context))
    return load.rate * BATCH, (cpu_seconds(api.process.pid) - began) / (load.requests * BATCH) * 1e6


def with_tls(directory: Path) -> tuple[dict[str, str], tuple[int, ssl.SSLContext]]:
    """Settings for an API that serves HTTPS too; its port for that, and a client's context."""
    from support.certificates import Authority

    from attune_local.ports import free_port

    authority = Authority()
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in zip(("tls.crt", "tls.key"), authority.issue("localhost"), strict=True):
        (directory / name).write_text(text)
    port = free_port()
    settings = {
        "tls_certificate_file": f"{directory}/tls.crt",
        "tls_key_file": f"{directory}/tls.key",
        "tls_port": str(port),
    }
    return settings, (port, ssl.create_default_context(cadata=authority.pem))


def measure(directory: Path, database_url: str | None) -> dict[str, Any]:
    """One database: the median of the rounds' ratios counts, after a round that does not.

    Both write into the same table, which is larger for whoever comes second; so they take turns at being the first.
    """
    bare = bare_sqlite if database_url is None else bare_postgresql
    rounds = []
    settings, tls = with_tls(directory) if INSTALLED else ({}, None)
    with ApiProcess(directory, database_url=database_url, **settings) as api:
        for number in range(1 + ROUNDS):
            one, other = (batches((2 * number + turn) * BATCH * BATCHES) for turn in (0, 1))
            if number % 2:
                rate, cpu = over_http(api, one, tls)
                reference = bare(api.database_url, other)
            else:
                reference = bare(api.database_url, one)
                rate, cpu = over_http(api, other, tls)
            rounds.append(
                {
                    "rows_per_second": round(rate),
                    "reference_per_second": round(reference),
                    "ratio": round(rate / reference, 3),
                    "cpu_us_per_row": round(cpu, 1),
                }
            )
        memory = peak_mib(api.process.pid)
    counted = sorted(rounds[1:], key=lambda each: each["ratio"])
    return {**counted[ROUNDS // 2], "peak_memory_mib": memory, "rounds": counted}


async def run() -> dict[str, object]:
    """The result for each database."""
    return await on_both_databases(measure)


if __name__ == "__main__":
    print(json.dumps({"event_ingest": asyncio.run(run())}, indent=2))
