"""What becomes of groups of events on both databases: few and many, new and known, in several blocks."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select
from support.eventually import until

from attune_api.events.blocks import BLOCKS, SIZE
from attune_api.events.ingest.sql import Outcome, Status, store_events
from attune_api.events.table import EVENTS
from attune_api.settings import Settings
from attune_api.storage.database import Database
from attune_api.storage.faults import is_about_a_row
from attune_api.storage.migrate import upgrade
from attune_api.storage.opening import open_database

pytest_plugins = ["support.api_fixtures"]

NOW = datetime(2026, 11, 28, 10, tzinfo=UTC)


def _row(k: int, *, rule: str = "rule", sensor: str = "attune-system/core.timer") -> dict[str, Any]:
    return {
        "id": uuid.UUID(int=k),
        "trigger_type": "core.intervaltimer",
        "rule_uid": rule,
        "rule_namespace": "default",
        "rule_name": rule,
        "sensor_ref": sensor,
        "occurred_at": NOW + timedelta(microseconds=k),
        "received_at": NOW,
        "payload": {"k": k},
        "traceparent": "",
        "tracestate": "",
    }


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(Settings(database_url=database_url).database_url)
    await upgrade(opened)
    yield opened
    await opened.close()


async def _store(database: Database, rows: list[dict[str, Any]]) -> list[Outcome]:
    return await database.write(lambda connection: store_events(connection, rows=rows))


async def _stored(database: Database) -> list[tuple[int, int, str, Any]]:
    columns = (EVENTS.c.seq, EVENTS.c.id, EVENTS.c.rule_uid, EVENTS.c.occurred_at)

    def read(connection: Connection) -> list[tuple[int, int, str, Any]]:
        found = connection.execute(select(*columns).order_by(EVENTS.c.seq))
        return [(seq, key.int, rule, time) for seq, key, rule, time in found]

    return await database.read(read)


async def test_groups_of_any_size_with_known_events_among_them(database: Database) -> None:
    chance = random.Random(118)
    seqs: dict[tuple[int, str], int] = {}  # of what is stored, by key
    last = 0
    for size in (1, 2, 63, 64, 300, 65, 500, 3, 700, 1, 256, 128):
        # The first groups are all new, so that many are copied; then some are known, and some are twice in their group.
        fresh = size * 1000
        ks = [fresh + n for n in range(size)] if size != 500 else [chance.randrange(4000) for _ in range(size)]
        if size in (3, 700, 256):
            ks = [*ks[: size // 2], *(chance.choice(sorted(seqs))[0] for _ in range(size - size // 2))]
            chance.shuffle(ks)
        rows = [_row(k, rule=chance.choice(["a", "b"])) for k in ks]
        outcomes = await _store(database, rows)
        assert len(outcomes) == len(rows)
        for row, outcome in zip(rows, outcomes, strict=True):
            key = row["id"].int, row["rule_uid"]
            assert outcome.seq is not None
            if key in seqs:
                assert (outcome.status, outcome.seq) == (Status.DUPLICATE, seqs[key])
            else:
                assert outcome.status is Status.STORED
                assert outcome.seq > last, "numbers are in the order of the events"
                last = seqs[key] = outcome.seq
    assert [(seq, (k, rule)) for seq, k, rule, _ in await _stored(database)] == [(s, key) for key, s in seqs.items()]


async def test_another_sensor_s_event_is_a_conflict_in_its_place(database: Database) -> None:
    await _store(database, [_row(7)])
    outcomes = await _store(database, [_row(k, sensor="default/other") for k in range(100)])
    assert [outcome.conflict for outcome in outcomes] == [k == 7 for k in range(100)]
    assert len(await _stored(database)) == 100


async def test_blocks_cover_the_times_of_what_is_in_them(database: Database) -> None:
    for start in range(0, SIZE + 1000, 700):
        await _store(database, [_row(start + n) for n in range(700)])
    blocks = {
        block: (first, last)
        for block, first, last in await database.read(lambda connection: connection.execute(select(BLOCKS)).all())
    }
    assert set(blocks) == {0, 1}
    for seq, *_, time in await _stored(database):
        first, last = blocks[seq // SIZE]
        assert first <= time <= last


@pytest.mark.parametrize("size", [1, 200])
async def test_a_row_that_the_database_refuses_leaves_nothing_of_its_group(database: Database, size: int) -> None:
    rows = [_row(k) for k in range(size)]
    rows[-1]["rule_name"] = None
    with pytest.raises(Exception, match=r"(?i)null") as caught:
        await _store(database, rows)
    assert is_about_a_row(caught.value)
    assert await _stored(database) == []
    assert {outcome.status for outcome in await _store(database, rows[:-1] or [_row(1)])} == {Status.STORED}


async def test_replicas_that_store_at_once_share_no_number(database: Database) -> None:
    groups = [[_row(start + n) for n in range(150)] for start in range(0, 1500, 150)]
    outcomes = await asyncio.gather(*(_store(database, group) for group in groups))
    for group in outcomes:
        seqs = [outcome.seq for outcome in group]
        assert seqs == sorted(seqs, key=lambda seq: seq or 0)
    assert len({outcome.seq for group in outcomes for outcome in group}) == 1500


async def test_sqlite_copies_its_log_when_nothing_is_written(tmp_path: Path) -> None:
    """Fewer pages than those at which a commit would do it."""
    file = tmp_path / "attune.db"
    opened = open_database(Settings(database_url=f"sqlite:///{file}").database_url)
    await upgrade(opened)
    await _store(opened, [_row(k) for k in range(1000)])
    await until(lambda: file.stat().st_size > 300_000, within=30, what="the events are in the file itself")
    assert len(await _stored(opened)) == 1000
    await opened.close()
