"""Pages of events among five million, on SQLite and on PostgreSQL, asked of the API over HTTP one after the other.

The absolute bound is a p99 of 20 ms for every filter that is documented as indexed, and 150 MiB of memory for the API. The
ratio is to what cannot be avoided: the same page of one rule, by a bare driver in this process, encoded as JSON.

``ATTUNE_BENCH_EVENTS`` is how many events (5,000,000). They are made inside the database, which takes minutes; with
``ATTUNE_BENCH_DIRECTORY`` they are kept there, and used again.
"""

import asyncio
import http.client
import json
import os
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg
import msgspec
from support.api_process import ADMIN_TOKEN, ApiProcess
from support.postgres import PostgresServer
from support.process_memory import peak_mib
from support.process_time import cpu_seconds
from support.quiet import quiet

from attune_api.storage.migrate import upgrade
from attune_api.storage.opening import open_database
from attune_api.web.cursors import Cursor

EVENTS = int(os.environ.get("ATTUNE_BENCH_EVENTS", "5000000"))
REQUESTS = 200
START = datetime(2026, 1, 1, tzinfo=UTC)
RULES, NAMESPACES = 1000, 20
#: Every so manieth event is of the rare type, or of the rare rule.
RARE_TYPE, RARE_RULE = 1000, 100_000
#: Events that come an hour late at once, as from a sensor that was cut off, and of how many such runs one is late.
RUN, LATE = 2000, 50
#: Seconds between occurrences.
STEP = 0.1

_COLUMNS = "seq, id, trigger_type, rule_uid, rule_namespace, rule_name, sensor_ref, occurred_at, received_at, payload"
BODY = f"""
    CASE WHEN i % {RARE_TYPE} = 0 THEN 'core.webhook' ELSE 'core.intervaltimer' END,
    CASE WHEN i % {RARE_RULE} = 0 THEN 'uid-rare' ELSE 'uid-' || (i % {RULES}) END,
    CASE WHEN i % {RARE_RULE} = 0 THEN 'rare' ELSE 'team-' || (i % {NAMESPACES}) END,
    CASE WHEN i % {RARE_RULE} = 0 THEN 'rare' ELSE 'rule-' || (i % {RULES}) END,
    'attune-system/sensor-' || (i % 5)
"""
_PAYLOAD = (
    """'{"scheduled_at":"2026-11-23T12:00:00.000000Z","user":{"name":"user-' || (i % 100000) || '"},"k":' || i || '}'"""
)
_BLOCKS = (
    "INSERT INTO event_blocks (block, first_occurred, last_occurred) "
    "SELECT seq / 4096, min(occurred_at), max(occurred_at) FROM events GROUP BY seq / 4096"
)


def fill_sqlite(path: Path, *, start: datetime = START, body: str = BODY) -> None:
    """Make the events; indexes are made afterwards, which is several times faster.

    Args:
        path: of the database.
        start: when the first occurred.
        body: type, rule and sensor of the event with the number ``i``, as SQL.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")  # all of it would go through the log, too
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -400000")
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'events' AND sql IS NOT NULL"
        ).fetchall()
        connection.execute("BEGIN")
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        time_of = f"strftime('%Y-%m-%d %H:%M:%f', {start.timestamp()} + i * {STEP}{{}}, 'unixepoch') || '000'"
        late = time_of.format(f" - ((i / {RUN}) % {LATE} = 0) * 3600")
        connection.execute(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {EVENTS}) "
            f"INSERT INTO events ({_COLUMNS}) SELECT i, lower(hex(randomblob(16))), {body}, "
            f"{late}, {time_of.format('')}, {_PAYLOAD} FROM n"
        )
        for _, sql in indexes:
            connection.execute(sql)
        connection.execute(_BLOCKS)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


async def fill_postgresql(url: str) -> None:
    """Make the events, likewise."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET maintenance_work_mem = '400MB'")
        async with connection.transaction():
            indexes = await connection.fetch(
                "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'events' AND indexname <> 'pk_events'"
            )
            for index in indexes:
                await connection.execute(f"DROP INDEX {index['indexname']}")
            time_of = f"timestamptz '{START.isoformat()}' + i * interval '{STEP} seconds'"
            late = f"{time_of} - CASE WHEN (i / {RUN}) % {LATE} = 0 THEN interval '1 hour' ELSE interval '0' END"
            await connection.execute(
                f"INSERT INTO events ({_COLUMNS}) SELECT i, gen_random_uuid(), {BODY}, {late}, {time_of}, "
                f"({_PAYLOAD})::json FROM generate_series(1, {EVENTS}) AS i",
                timeout=1800,
            )
            for index in indexes:
                await connection.execute(index["indexdef"], timeout=1800)
            await connection.execute(_BLOCKS, timeout=600)
            await connection.execute(f"SELECT setval(pg_get_serial_sequence('events', 'seq'), {EVENTS})")
        await connection.execute("VACUUM ANALYZE events", timeout=1800)
    finally:
        await connection.close()


def queries(rng: random.Random) -> dict[str, Callable[[], dict[str, str]]]:
    """The documented filters, each as a maker of queries."""

    def anywhere() -> dict[str, str]:
        order = rng.choice(("asc", "desc"))
        return {"order": order, "cursor": Cursor(seq=rng.randrange(1, EVENTS), order=order).encode()}  # type: ignore[arg-type]

    def an_hour() -> dict[str, str]:
        begins = START + timedelta(seconds=rng.uniform(0, EVENTS * STEP))
        return {
            "occurred_after": begins.isoformat(),
            "occurred_before": (begins + timedelta(hours=1)).isoformat(),
            "order": rng.choice(("asc", "desc")),
        }

    def rule() -> dict[str, str]:
        number = rng.randrange(RULES)
        return {"rule_namespace": f"team-{number % NAMESPACES}", "rule_name": f"rule-{number}"}

    def namespace() -> dict[str, str]:
        return {"rule_namespace": f"team-{rng.randrange(NAMESPACES)}"}

    def sensor_and_namespace() -> dict[str, str]:
        number = rng.randrange(NAMESPACES)
        return {"rule_namespace": f"team-{number}", "sensor": f"attune-system/sensor-{number % 5}", **anywhere()}

    return {
        "newest": dict,
        "anywhere": anywhere,
        "rule by uid": lambda: {"rule_uid": f"uid-{rng.randrange(RULES)}", **anywhere()},
        "rule by name": lambda: {**rule(), **anywhere()},
        "rare rule": lambda: {"rule_uid": "uid-rare"},
        "namespace": lambda: {**namespace(), **anywhere()},
        "rare type": lambda: {"trigger_type": "core.webhook", **anywhere()},
        "namespace and its sensor": sensor_and_namespace,
        "an hour": an_hour,
        "rule in an hour": lambda: {**rule(), **an_hour()},
        "namespace in an hour": lambda: {**namespace(), **an_hour()},
        "nothing there": lambda: {"rule_uid": "uid-nobody", "trigger_type": "core.webhook"},
    }


def ask(connection: http.client.HTTPConnection, path: str, query: dict[str, str]) -> tuple[float, dict[str, Any]]:
    """Seconds until the whole answer is here, and the answer."""
    began = time.perf_counter()
    connection.request("GET", f"{path}?{urlencode(query)}", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    answer = connection.getresponse()
    body = answer.read()
    took = time.perf_counter() - began
    assert answer.status == 200, body
    return took, json.loads(body)


def p99(times: list[float]) -> float:
    """Milliseconds."""
    return sorted(times)[int(len(times) * 0.99)] * 1000


def measure(api: ApiProcess, backends: Callable[[], list[int]] = list) -> dict[str, Any]:
    """Times of every kind of query.

    ``cpu_ms`` is what the API's process spent for one, and ``database_cpu_ms`` what the database's did, by ``backends``:
    unlike times, they are much the same on a machine that has other work.
    """
    spent: dict[str, Callable[[], float]] = {
        "cpu_ms": lambda: cpu_seconds(api.process.pid),
        "database_cpu_ms": lambda: sum(map(cpu_seconds, backends())),
    }
    rng = random.Random(6)
    figures: dict[str, Any] = {}
    times: dict[str, list[float]] = {}
    with closing(http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)) as connection:
        makers = queries(rng)
        for name, make in makers.items():
            for _ in range(10):  # the first ones fill caches
                ask(connection, "/api/v1/events", make())
            before = {figure: clock() for figure, clock in spent.items()}
            answers = [ask(connection, "/api/v1/events", make()) for _ in range(REQUESTS)]
            cpu = {figure: (clock() - before[figure]) / REQUESTS * 1000 for figure, clock in spent.items()}
            times[name] = [took for took, _ in answers]
            found = statistics.mean(len(answer["data"]) for _, answer in answers)
            figures[name] = {
                "p50_ms": statistics.median(times[name]) * 1000,
                "p99_ms": p99(times[name]),
                **cpu,
                "events": found,
            }
        searches: dict[str, dict[str, str]] = {
            "a field of the payload": {"payload.user.name": "user-7"},
            "a type that is rare in a namespace": {"rule_namespace": "team-3", "trigger_type": "core.webhook"},
            "a namespace of another sensor": {"rule_namespace": "team-3", "sensor": "attune-system/sensor-1"},
        }
        for name, query in searches.items():
            took = [ask(connection, "/api/v1/events", query)[0] for _ in range(10)]
            figures[f"search: {name}, one request"] = {"max_ms": max(took) * 1000}
        day = {"occurred_after": START.isoformat(), "occurred_before": (START + timedelta(days=1)).isoformat()}
        figures["counts of a day"] = {"ms": ask(connection, "/api/v1/events/counts", day)[0] * 1000}
        one = {**day, "rule_uid": "uid-7"}
        figures["counts of a rule in a day"] = {"ms": ask(connection, "/api/v1/events/counts", one)[0] * 1000}
    rounded = {name: {key: round(value, 2) for key, value in values.items()} for name, values in figures.items()}
    return {
        "worst_p99_ms": round(max(p99(values) for values in times.values()), 2),
        "rule_p50_ms": statistics.median(times["rule by uid"]) * 1000,
        "api_peak_mib": peak_mib(api.process.pid),
        "queries": rounded,
    }


def as_page(rows: list[Any]) -> bytes:
    """The least that a page costs: its rows as JSON."""
    names = _COLUMNS.split(", ")
    return msgspec.json.encode([dict(zip(names, (str(value) for value in row), strict=True)) for row in rows])


async def bare(fetch: Callable[[str, int], Awaitable[list[Any]]]) -> float:
    """Milliseconds (median) of one rule's page by a bare driver."""
    rng = random.Random(6)
    times = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        as_page(await fetch(f"uid-{rng.randrange(RULES)}", rng.randrange(1, EVENTS)))
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


_PAGE = f"SELECT {_COLUMNS} FROM events WHERE rule_uid = {{}} AND seq < {{}} ORDER BY seq DESC LIMIT 101"


async def on_sqlite(directory: Path) -> dict[str, Any]:
    """Everything on SQLite."""
    path = directory / f"events-{EVENTS}.db"
    url = f"sqlite:///{path}"
    made = 0.0
    if not path.exists():
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        database = open_database(f"sqlite:///{part}")
        await upgrade(database)
        await database.close()
        began = time.monotonic()
        fill_sqlite(part)
        made = time.monotonic() - began
        part.rename(path)
    with closing(sqlite3.connect(path)) as connection:

        async def fetch(uid: str, seq: int) -> list[Any]:
            return connection.execute(_PAGE.format("?", "?"), (uid, seq)).fetchall()

        reference = await bare(fetch)
    with ApiProcess(directory / "api-sqlite", database_url=url, events_max_age="0") as api:
        figures = measure(api)
    return {**figures, "bare_p50_ms": reference, "made_in_s": round(made)}


@contextmanager
def _postgres(directory: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(directory / f"postgres-{EVENTS}", shared_buffers="256MB", max_wal_size="4GB")
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def on_postgresql(directory: Path) -> dict[str, Any]:
    """Everything on PostgreSQL."""
    made = 0.0
    ready = directory / f"postgres-{EVENTS}" / "filled"
    with _postgres(directory) as server:
        url = server.url("test_1") if ready.exists() else server.create_database()
        if not ready.exists():
            database = open_database(url.replace("postgresql:", "postgresql+asyncpg:"))
            await upgrade(database)
            await database.close()
            began = time.monotonic()
            await fill_postgresql(url)
            made = time.monotonic() - began
            ready.touch()
        connection = await asyncpg.connect(url)

        async def fetch(uid: str, seq: int) -> list[Any]:
            return list(await connection.fetch(_PAGE.format("$1", "$2"), uid, seq))

        reference = await bare(fetch)
        await connection.close()
        with ApiProcess(directory / "api-postgresql", database_url=url, events_max_age="0") as api:
            figures = measure(api, server.backends)
    return {**figures, "bare_p50_ms": reference, "made_in_s": round(made)}


async def run() -> dict[str, object]:
    """Run the benchmark."""
    quiet()
    kept = os.environ.get("ATTUNE_BENCH_DIRECTORY")
    with tempfile.TemporaryDirectory(prefix="attune-bench-") as temporary:
        directory = Path(kept or temporary)
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(directory.chmod, 0o755)  # PostgreSQL runs as another user
        results = {"sqlite": await on_sqlite(directory), "postgresql": await on_postgresql(directory)}
    ratios = {name: figures["bare_p50_ms"] / figures.pop("rule_p50_ms") for name, figures in results.items()}
    return {
        "ratio": round(min(ratios.values()), 3),
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "events": EVENTS,
        **results,
    }
