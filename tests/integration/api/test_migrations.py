"""The tables come up, go down and come up again on both databases, with data in them, and are what the models say."""

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from attune_api.events.ingest.sql import Status, store_events
from attune_api.events.query.filters import EventFilter
from attune_api.events.query.service import read_page
from attune_api.settings import Settings
from attune_api.storage.database import Database
from attune_api.storage.migrate import alembic_config, downgrade, upgrade
from attune_api.storage.opening import open_database
from attune_api.storage.postgres import PostgresDatabase
from attune_api.storage.revision import create_tables, current_revision, newest_revision
from attune_api.storage.tables import METADATA

pytest_plugins = ["support.api_fixtures"]

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(Settings(database_url=database_url).database_url)
    yield opened
    await opened.close()


def _row(k: int) -> dict[str, object]:
    """An event as programs of any time stored it."""
    time = datetime(2026, 1, 1, 0, 0, k, 5, tzinfo=UTC)
    return {
        "id": uuid.UUID(int=k),
        "trigger_type": "core.intervaltimer",
        "rule_uid": "r",
        "rule_namespace": "default",
        "rule_name": "n",
        "sensor_ref": "a/b",
        "occurred_at": time,
        "received_at": time,
        "payload": {"k": k},
    }


def _today(row: dict[str, object], *, traceparent: str = "") -> dict[str, object]:
    """The same as it is stored today."""
    return {**row, "traceparent": traceparent, "tracestate": ""}


async def _store(database: Database, *ks: int) -> list[Status]:
    rows = [_today(_row(k)) for k in ks]
    return [outcome.status for outcome in await database.write(lambda connection: store_events(connection, rows=rows))]


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) - {"alembic_version"}


async def test_models_and_migrations_do_not_differ(database: Database) -> None:
    await upgrade(database)

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA))

    assert await database.write(differences) == []


def _as_the_database_has_it(connection: Connection) -> dict[str, object]:
    """Everything about every table."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"))
        return {name: re.findall(r"\w+|[^\w\s\"]", sql) for name, sql in rows}  # a table that was renamed has quotes
    columns = connection.execute(
        text(
            "SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,"
            " pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
            " WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 ORDER BY 1, 2"
        )
    )
    constraints = connection.execute(
        text(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
        )
    )
    indexes = connection.execute(
        text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")
    )
    return {
        name: [tuple(row) for row in rows]
        for name, rows in (("columns", columns), ("constraints", constraints), ("indexes", indexes))
    }


async def test_tables_that_are_made_at_once_are_those_that_migrations_make(database: Database) -> None:
    await upgrade(database)
    migrated = await database.read(_as_the_database_has_it)
    await downgrade(database, "base")
    await database.write(lambda connection: connection.execute(text("DROP TABLE alembic_version")))
    assert await create_tables(database)
    assert await database.read(_as_the_database_has_it) == migrated
    assert await current_revision(database) == newest_revision()
    assert await _store(database, 1) == [Status.STORED]
    assert not await create_tables(database), "there are some"
    await upgrade(database)
    await downgrade(database, "0001")
    assert not await create_tables(database), "there are older ones"


async def test_servers_that_start_together_make_the_tables_once(database: Database) -> None:
    assert sorted(await asyncio.gather(*(create_tables(database) for _ in range(4)))) == [False, False, False, True]


def test_the_newest_revision_is_the_one_that_alembic_ends_at() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == newest_revision()


async def _insert(database: Database, *ks: int) -> None:
    """As the program of that time did, which knew the table ``events`` alone."""
    table = METADATA.tables["events"]
    await database.write(lambda connection: connection.execute(table.insert(), [_row(k) for k in ks]))


async def test_up_down_and_up_again_with_events_in_it(database: Database) -> None:
    assert await current_revision(database) is None
    await upgrade(database, "0001")
    await _insert(database, 1, 2)
    await upgrade(database)
    assert await current_revision(database) == newest_revision()
    page = await read_page(database, where=EventFilter(), order="asc", beyond=None, limit=10)
    assert [(event.id.int, event.occurred_at) for event in page.events] == [
        (1, "2026-01-01T00:00:01.000005Z"),
        (2, "2026-01-01T00:00:02.000005Z"),
    ]
    # Events from before are found by their time, too.
    early = EventFilter(occurred_before=datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC))
    page = await read_page(database, where=early, order="desc", beyond=None, limit=10)
    assert [event.id.int for event in page.events] == [1]
    await downgrade(database, "0001")
    await _insert(database, 3)
    count = text("SELECT count(*) FROM events")
    assert await database.write(lambda connection: connection.execute(count).scalar_one()) == 3
    await upgrade(database)
    assert await _store(database, 2, 3, 4) == [Status.DUPLICATE, Status.DUPLICATE, Status.STORED]
    await downgrade(database, "base")
    assert await database.read(_tables) == set()
    await upgrade(database)
    assert await _store(database, 1) == [Status.STORED]


async def test_the_position_stays_and_a_program_that_knows_no_lease_moves_it_no_more(database: Database) -> None:
    await upgrade(database, "0006")
    old = text("UPDATE outbox SET position = :position WHERE name = 'jetstream'")
    row = text("INSERT INTO outbox (name, position) VALUES ('jetstream', 42)")
    await database.write(lambda connection: connection.execute(row))
    await upgrade(database)

    def rows(connection: Connection) -> list[tuple[object, ...]]:
        return [tuple(row) for row in connection.execute(text("SELECT name, published, epoch FROM outbox"))]

    assert await database.read(rows) == [("jetstream", 42, 0)]
    with pytest.raises(SQLAlchemyError, match="position"):
        await database.write(lambda connection: connection.execute(old, {"position": 41}))
    assert await database.read(rows) == [("jetstream", 42, 0)]
    await downgrade(database, "0006")
    await database.write(lambda connection: connection.execute(old, {"position": 43}))
    await upgrade(database)
    assert await database.read(rows) == [("jetstream", 43, 0)]


async def test_ids_become_unique_per_rule_with_events_in_the_table(database: Database) -> None:
    await upgrade(database, "0003")
    await _insert(database, 1, 2)
    other = {**_row(1), "rule_uid": "other"}
    with pytest.raises(Exception, match=r"ix_events_id|UNIQUE constraint failed: events\.id"):
        await database.write(lambda connection: connection.execute(METADATA.tables["events"].insert(), [other]))
    await upgrade(database)
    (outcome,) = await database.write(lambda connection: store_events(connection, rows=[_today(other)]))
    assert outcome.status is Status.STORED
    assert await _store(database, 1, 2) == [Status.DUPLICATE, Status.DUPLICATE]
    # Down only while no id is shared, and then with nothing changed.
    with pytest.raises(RuntimeError, match="1 event ids are used by more than one rule"):
        await downgrade(database, "0003")
    assert await current_revision(database) == newest_revision()
    await database.write(
        lambda connection: connection.execute(
            text("DELETE FROM events WHERE seq NOT IN (SELECT min(seq) FROM events GROUP BY id)")
        )
    )
    await downgrade(database, "0003")
    with pytest.raises(Exception, match=r"ix_events_id|UNIQUE constraint failed: events\.id"):
        await database.write(lambda connection: connection.execute(METADATA.tables["events"].insert(), [other]))
    await upgrade(database)
    assert await _store(database, 1, 2, 3) == [Status.DUPLICATE, Status.DUPLICATE, Status.STORED]


async def test_events_that_are_there_and_those_of_an_older_replica_have_no_trace(database: Database) -> None:
    await upgrade(database, "0005")
    await _insert(database, 1)
    await upgrade(database)
    await _insert(database, 2)  # by a replica that was not replaced yet
    traced = _today(_row(3), traceparent=TRACEPARENT)
    await database.write(lambda connection: store_events(connection, rows=[traced]))
    page = await read_page(database, where=EventFilter(), order="asc", beyond=None, limit=10)
    assert [event.traceparent for event in page.events] == ["", "", TRACEPARENT]
    assert [b"traceparent" in msgspec.json.encode(event) for event in page.events] == [False, False, True]
    await downgrade(database, "0005")
    await upgrade(database)
    page = await read_page(database, where=EventFilter(), order="asc", beyond=None, limit=10)
    assert [event.traceparent for event in page.events] == ["", "", ""]


async def test_a_migration_may_take_longer_than_a_statement(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index on millions of rows is made in minutes."""
    for module in ("database", "postgres"):
        monkeypatch.setattr(f"attune_api.storage.{module}.STATEMENT_TIMEOUT", 0.1)
    slow = "SELECT pg_sleep(0.3)" if isinstance(database, PostgresDatabase) else _SLOW_ON_SQLITE
    await database.migrate(lambda connection: connection.execute(text(slow)).scalar_one())


_SLOW_ON_SQLITE = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT count(*) FROM n"
)


async def test_a_failed_upgrade_leaves_the_tables_as_they_were(database: Database) -> None:
    await upgrade(database, "0001")
    await database.write(lambda connection: connection.execute(text("CREATE TABLE sensor_identities (a INTEGER)")))
    with pytest.raises(Exception, match="sensor_identities"):
        await upgrade(database)
    assert await current_revision(database) == "0001"
    assert "identities" not in await database.read(_tables)


async def test_seq_is_not_given_twice_after_the_newest_rows_were_deleted(database: Database) -> None:
    await upgrade(database)
    before = await database.write(lambda connection: store_events(connection, rows=[_today(_row(1)), _today(_row(2))]))
    await database.write(lambda connection: connection.execute(text("DELETE FROM events")))
    after = await database.write(lambda connection: store_events(connection, rows=[_today(_row(3))]))
    assert (before[1].seq or 0) < (after[0].seq or 0)


async def test_what_fails_is_rolled_back(database: Database) -> None:
    await upgrade(database)

    def fail(connection: Connection) -> None:
        store_events(connection, rows=[_today(_row(1))])
        raise LookupError("after storing")

    with pytest.raises(LookupError, match="after storing"):
        await database.write(fail)
    assert await _store(database, 1) == [Status.STORED]


async def test_sqlite_is_synced_before_a_commit_returns(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/new/attune.db")

    def pragma(name: str) -> Callable[[Connection], object]:
        return lambda connection: connection.execute(text(f"PRAGMA {name}")).scalar_one()

    assert await database.write(pragma("journal_mode")) == "wal"
    assert await database.write(pragma("synchronous")) == 2  # FULL
    with pytest.raises(OperationalError, match="readonly"):
        await database.read(lambda connection: connection.execute(text("CREATE TABLE t (a)")))
    await database.close()


def test_the_command_migrates_and_the_server_refuses_old_tables(tmp_path: Path) -> None:
    path = tmp_path / "attune.db"
    environment = {
        "ATTUNE_API_DATABASE_URL": f"sqlite:///{path}",
        "ATTUNE_API_MIGRATE_AT_START": "false",
        "ATTUNE_API_PORT": "0",
        "ATTUNE_API_HOST": "127.0.0.1",
    }
    program = [sys.executable, "-m", "attune_api"]
    served = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert served.returncode != 0
    assert "attune-api migrate" in served.stdout
    migrated = subprocess.run([*program, "migrate"], env=environment, capture_output=True, text=True, timeout=240)
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr
    assert json.loads(migrated.stdout.splitlines()[-1])["after"] == newest_revision()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (newest_revision(),)
    connection.close()
