"""Events go when they are old, or too many of one rule; never before they were passed on, and never a rule's newest one."""

import asyncio
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, text
from support.api_process import ApiProcess, report
from support.eventually import until
from support.sensor_process import newest_seq

from attune_api.events.blocks import BLOCKS, SIZE
from attune_api.events.ingest.sql import store_events
from attune_api.events.query.filters import EventFilter
from attune_api.events.query.service import read_page
from attune_api.events.retention.service import Retention
from attune_api.events.table import EVENTS
from attune_api.metrics import Metrics
from attune_api.settings import Settings
from attune_api.storage.database import Database
from attune_api.storage.leases import Leases
from attune_api.storage.migrate import upgrade
from attune_api.storage.opening import open_database
from attune_contract.quotas import NamespaceQuotas, Quotas

pytest_plugins = ["support.api_fixtures"]

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(Settings(database_url=database_url).database_url)
    await upgrade(opened)
    yield opened
    await opened.close()


def _row(k: int, rule: str, received_at: datetime) -> dict[str, Any]:
    return {
        "id": uuid.UUID(int=k + 1),
        "trigger_type": "core.intervaltimer",
        "rule_uid": rule,
        "rule_namespace": "default",
        "rule_name": rule,
        "sensor_ref": "a/b",
        "occurred_at": received_at,
        "received_at": received_at,
        "payload": {},
        "traceparent": "",
        "tracestate": "",
    }


async def _store(database: Database, rows: list[dict[str, Any]]) -> None:
    await database.write(lambda connection: store_events(connection, rows=rows))


async def _left(database: Database) -> list[tuple[int, str]]:
    def read(connection: Connection) -> list[tuple[int, str]]:
        return [
            (row.seq, row.rule_uid)
            for row in connection.execute(select(EVENTS.c.seq, EVENTS.c.rule_uid).order_by(EVENTS.c.seq))
        ]

    return await database.read(read)


async def _sweep(database: Database, **options: Any) -> int:
    wanted: dict[str, Any] = {"max_age": None, "most_per_rule": None, "outbox": None, **options}
    leases = Leases(database)
    retention = Retention(database=database, leases=leases, metrics=Metrics(), interval=600, now=lambda: NOW, **wanted)
    async with leases.hold("sweep") as held:
        return await retention.sweep(held)


async def test_what_is_older_goes_but_for_each_rules_newest(database: Database) -> None:
    old = [_row(k, f"rule-{k % 2}", NOW - 10 * DAY + timedelta(seconds=k)) for k in range(SIZE + 1200)]
    yearly = _row(len(old), "yearly", NOW - 9 * DAY)
    fresh = [_row(len(old) + 1 + k, "rule-0", NOW - timedelta(hours=1)) for k in range(5)]
    await _store(database, [*old, yearly, *fresh])
    first = len(old)
    assert await _sweep(database, max_age=7 * DAY) == first - 1
    # The newest of rule-1, that of the yearly one, and the fresh ones.
    assert await _left(database) == [
        (first, "rule-1"),
        (first + 1, "yearly"),
        *((first + 2 + k, "rule-0") for k in range(5)),
    ]
    blocks = await database.read(lambda connection: list(connection.execute(select(BLOCKS.c.block)).scalars()))
    assert blocks == [first // SIZE]
    page = await read_page(database, where=EventFilter(occurred_before=NOW - DAY), order="desc", beyond=None, limit=10)
    assert [event.seq for event in page.events] == [first + 1, first]
    assert await _sweep(database, max_age=7 * DAY) == 0
    # One that is no longer the newest goes next time.
    await _store(database, [_row(99_999, "rule-1", NOW)])
    assert await _sweep(database, max_age=7 * DAY) == 1


async def test_of_each_rule_the_newest_are_kept(database: Database) -> None:
    rows = [_row(k, f"rule-{k % 60}" if k < 1500 else "busy", NOW) for k in range(3000)]
    await _store(database, rows)
    assert await _sweep(database, most_per_rule=20) == 60 * 5 + 1480
    left = await _left(database)
    assert [seq for seq, rule in left if rule == "busy"] == list(range(2981, 3001))
    assert [seq for seq, rule in left if rule == "rule-7"] == [8 + 60 * n for n in range(5, 25)]
    assert len(left) == 61 * 20


async def test_of_a_namespace_the_newest_are_kept_and_every_rules_newest(database: Database) -> None:
    rows = [{**_row(k, f"rule-{k % 3}", NOW), "rule_namespace": "flood"} for k in range(2000)]
    yearly = {**_row(2000, "yearly", NOW), "rule_namespace": "flood"}
    others = [_row(3000 + k, "rule", NOW) for k in range(700)]
    await _store(database, [yearly, *rows[:1000], *others, *rows[1000:]])
    quotas = Quotas(stored_events=600, namespaces={"default": NamespaceQuotas(stored_events=0)})
    assert await _sweep(database, quotas=quotas) == 1400
    left = await _left(database)
    assert left[0] == (1, "yearly"), "a sensor goes on from the newest event of its rule"
    assert sum(rule == "rule" for _, rule in left) == 700, "another namespace keeps all of its own"
    assert [seq for seq, rule in left if rule.startswith("rule-")] == list(range(2102, 2702))
    assert await _sweep(database, quotas=quotas) == 0


@pytest.mark.parametrize(
    "options",
    [{"max_age": DAY}, {"most_per_rule": 1}, {"quotas": Quotas(stored_events=1)}],
    ids=["age", "rule", "namespace"],
)
async def test_nothing_goes_before_the_outbox_has_passed_it_on(database: Database, options: dict[str, Any]) -> None:
    await _store(database, [_row(k, "rule", NOW - 30 * DAY) for k in range(1500)])
    assert await _sweep(database, **options, outbox="jetstream") == 0
    await database.write(lambda connection: connection.execute(text("INSERT INTO outbox VALUES ('jetstream', 700, 0)")))
    assert await _sweep(database, **options, outbox="jetstream") == 700
    assert [seq for seq, _ in await _left(database)] == list(range(701, 1501))


async def test_the_running_api_does_it(tmp_path: Path) -> None:
    with ApiProcess(tmp_path, events_per_rule="10", retention_interval="0.2") as api:
        async with api.client() as sensor, api.reader() as reader:
            for start in (0, 500):
                events = [report(k) for k in range(start, start + 500)]
                assert (await sensor.post("/api/v1/events/batch", json={"events": events})).status_code == 200

            async def deleted() -> bool:
                return len((await reader.get("/api/v1/events?limit=1000")).json()["data"]) <= 10

            await until(deleted, within=30)

            async def counted() -> bool:
                return 'attune_api_retention_deleted_total{reason="count"} 990.0' in (await reader.get("/metrics")).text

            await until(counted)


def _put_back(file: Path, copy: Path) -> None:
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    file.write_bytes(copy.read_bytes())


def _run(database_url: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    environment = {"ATTUNE_API_DATABASE_URL": database_url}
    program = [sys.executable, "-W", "error", "-m", "attune_api", "backup", *arguments]
    return subprocess.run(program, env=environment, capture_output=True, check=False, timeout=240)


async def test_a_backup_of_the_running_api_is_whole_and_can_be_restored(tmp_path: Path) -> None:
    with ApiProcess(tmp_path / "api") as api:
        stop = asyncio.Event()

        async def send() -> int:
            sent = 0
            async with api.client() as sensor:
                while not stop.is_set():
                    assert (await sensor.post("/api/v1/events", json=report(sent))).status_code == 201
                    sent += 1
            return sent

        sending = asyncio.create_task(send())
        async with api.reader() as reader:

            async def begun() -> bool:
                return len((await reader.get("/api/v1/events")).json()["data"]) >= 20

            await until(begun, within=30)
        done = await asyncio.to_thread(_run, api.database_url, str(tmp_path / "copy.db"))
        assert done.returncode == 0, done.stdout
        piped = await asyncio.to_thread(_run, api.database_url, "-")
        assert piped.returncode == 0, piped.stderr
        stop.set()
        sent = await sending
        (tmp_path / "piped.db").write_bytes(piped.stdout)
        counts = []
        for name in ("copy.db", "piped.db"):
            with closing(sqlite3.connect(tmp_path / name)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                counts.append(connection.execute("SELECT count(*), max(seq) FROM events").fetchone())
        assert 20 <= counts[0][0] <= counts[1][0] <= sent
        # Restore as the documentation says: stop, put the copy in place of the file and its log, start.
        api.stop()
        _put_back(Path(api.database_url.removeprefix("sqlite:///")), tmp_path / "copy.db")
        api.start()
        async with api.reader() as reader, api.client() as sensor:
            assert await newest_seq(reader) == counts[0][1]
            # What was stored after the copy was made, its sensor may report again.
            assert (await sensor.post("/api/v1/events", json=report(sent - 1))).status_code in (200, 201)


def test_a_backup_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/attune.db"
    assert b"there is no database at" in _run(url, str(tmp_path / "copy.db")).stdout
    with closing(sqlite3.connect(tmp_path / "attune.db")) as connection:
        connection.execute("CREATE TABLE t (a)")
    (tmp_path / "copy.db").write_bytes(b"mine")
    taken = _run(url, str(tmp_path / "copy.db"))
    assert taken.returncode == 1
    assert b"is there already" in taken.stdout
    assert (tmp_path / "copy.db").read_bytes() == b"mine"
    assert b"unable to open database" in _run(url, str(tmp_path / "missing" / "copy.db")).stdout
    assert b"pg_dump" in _run("postgresql://u@127.0.0.1/x", str(tmp_path / "other.db")).stdout
    assert b"backup needs a FILE" in _run(url).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attune.db", "copy.db"]
