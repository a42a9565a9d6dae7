"""On PostgreSQL no number of an event is drawn before the lock is held under which numbers are in the order of commits."""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

import asyncpg
from support.eventually import until
from support.postgres import PostgresServer

from attune_api.events.ingest.postgresql import SEQUENCE_LOCK
from attune_api.events.ingest.sql import Status, store_events
from attune_api.settings import Settings
from attune_api.storage.migrate import upgrade
from attune_api.storage.opening import open_database

pytest_plugins = ["support.api_fixtures"]

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def _row(k: int) -> dict[str, Any]:
    return {
        "id": uuid.UUID(int=k),
        "trigger_type": "core.intervaltimer",
        "rule_uid": "rule",
        "rule_namespace": "default",
        "rule_name": "echo",
        "sensor_ref": "attune-system/core.timer",
        "occurred_at": NOW,
        "received_at": NOW,
        "payload": {"k": k},
        "traceparent": "",
        "tracestate": "",
    }


async def test_no_number_is_drawn_without_the_lock(postgres: PostgresServer) -> None:
    url = postgres.create_database()
    database = open_database(Settings(database_url=url).database_url)
    await upgrade(database)
    other = await asyncpg.connect(url)
    try:
        await other.execute(f"SELECT pg_advisory_lock({SEQUENCE_LOCK})")
        storing = asyncio.create_task(
            database.write(lambda connection: store_events(connection, rows=[_row(k) for k in (1, 2, 3)]))
        )
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        await until(lambda: other.fetchval(waiting), what="storing waits for the lock")
        assert not await other.fetchval("SELECT is_called FROM events_seq_seq")
        await other.execute(f"SELECT pg_advisory_unlock({SEQUENCE_LOCK})")
        outcomes = await storing
        assert [(outcome.status, outcome.seq) for outcome in outcomes] == [(Status.STORED, seq) for seq in (1, 2, 3)]
        blocks = await other.fetch("SELECT block, first_occurred, last_occurred FROM event_blocks")
        assert [tuple(block) for block in blocks] == [(0, NOW, NOW)]
    finally:
        await other.close()
        await database.close()
