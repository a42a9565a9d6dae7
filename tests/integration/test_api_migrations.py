"""The tables come up, go down and come up again on both databases, with data in them, and are what the models say."""

import json
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from attune_api.events.store import EventFilter, Status, list_events, store_events
from attune_api.settings import Settings
from attune_api.storage.database import Database, open_database
from attune_api.storage.migrate import current_revision, downgrade, newest_revision, upgrade
from attune_api.storage.tables import METADATA

pytest_plugins = ["support.api_fixtures"]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(Settings(database_url=database_url).database_url)
    yield opened
    await opened.close()


def _row(k: int) -> dict[str, object]:
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


async def _store(database: Database, *ks: int) -> list[Status]:
    async with database.writer.begin() as connection:
        return [outcome.status for outcome in await store_events(connection, rows=[_row(k) for k in ks])]


def _tables(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names()) - {"alembic_version"}


async def test_models_and_migrations_do_not_differ(database: Database) -> None:
    await upgrade(database)

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA))

    async with database.writer.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_up_down_and_up_again_with_events_in_it(database: Database) -> None:
    assert await current_revision(database) is None
    await upgrade(database, "0001")
    assert await _store(database, 1, 2) == [Status.STORED, Status.STORED]
    await upgrade(database)
    assert await current_revision(database) == newest_revision()
    async with database.reader.connect() as connection:
        events = await list_events(connection, where=EventFilter(), order="asc", beyond=None, limit=10)
    assert [(event.id.int, event.occurred_at) for event in events] == [
        (1, "2026-01-01T00:00:01.000005Z"),
        (2, "2026-01-01T00:00:02.000005Z"),
    ]
    await downgrade(database, "0001")
    assert await _store(database, 2, 3) == [Status.DUPLICATE, Status.STORED]
    await downgrade(database, "base")
    async with database.writer.connect() as connection:
        assert await connection.run_sync(_tables) == set()
    await upgrade(database)
    assert await _store(database, 1) == [Status.STORED]


async def test_a_failed_upgrade_leaves_the_tables_as_they_were(database: Database) -> None:
    await upgrade(database, "0001")
    async with database.writer.begin() as connection:
        await connection.execute(text("CREATE TABLE sensor_identities (in_the_way INTEGER)"))
    with pytest.raises(Exception, match="sensor_identities"):
        await upgrade(database)
    assert await current_revision(database) == "0001"
    async with database.writer.connect() as connection:
        assert "identities" not in await connection.run_sync(_tables)


async def test_seq_is_not_given_twice_after_the_newest_rows_were_deleted(database: Database) -> None:
    await upgrade(database)
    async with database.writer.begin() as connection:
        before = (await store_events(connection, rows=[_row(1), _row(2)]))[-1].seq
        await connection.execute(text("DELETE FROM events"))
    async with database.writer.begin() as connection:
        after = (await store_events(connection, rows=[_row(3)]))[0].seq
    assert before is not None
    assert after is not None
    assert after > before


async def test_sqlite_is_synced_before_a_commit_returns(tmp_path: Path) -> None:
    database = open_database(f"sqlite+aiosqlite:///{tmp_path}/new/attune.db")
    async with database.writer.connect() as connection:
        assert (await connection.execute(text("PRAGMA journal_mode"))).scalar_one() == "wal"
        assert (await connection.execute(text("PRAGMA synchronous"))).scalar_one() == 2  # FULL
    async with database.reader.connect() as connection:
        with pytest.raises(Exception, match="readonly"):
            await connection.execute(text("CREATE TABLE t (a)"))
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
    served = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert served.returncode != 0
    assert "attune-api migrate" in served.stdout
    migrated = subprocess.run([*program, "migrate"], env=environment, capture_output=True, text=True, timeout=60)
    assert migrated.returncode == 0, migrated.stdout + migrated.stderr
    assert json.loads(migrated.stdout.splitlines()[-1])["after"] == newest_revision()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (newest_revision(),)
    connection.close()
