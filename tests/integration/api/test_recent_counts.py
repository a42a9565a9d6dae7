"""Counts for a chart: as exact as those that read everything, and cut off where time is up, on SQLite and on PostgreSQL."""

import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest

from attune_api.events.ingest.sql import store_events
from attune_api.events.query.counts import count_events
from attune_api.events.query.filters import EventFilter
from attune_api.events.query.recent_counts import count_recent
from attune_api.settings import Settings
from attune_api.storage.database import Database
from attune_api.storage.migrate import upgrade
from attune_api.storage.opening import open_database

pytest_plugins = ["support.api_fixtures"]

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = 60
#: Events of two rules by turns, one a second; some of them come half an hour late, as from a sensor that was cut off.
EVENTS, LATE = 9000, 1800


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(Settings(database_url=database_url).database_url)
    await upgrade(opened)
    rng = random.Random(3)
    rows: list[dict[str, Any]] = []
    for k in range(EVENTS):
        late = LATE if 4000 <= k < 5000 and rng.random() < 0.5 else 0
        rows.append(
            {
                "id": uuid.UUID(int=k + 1),
                "trigger_type": "core.intervaltimer",
                "rule_uid": f"uid-{k % 2}",
                "rule_namespace": "team-a",
                "rule_name": f"rule-{k % 2}",
                "sensor_ref": "attune-system/core.timer",
                "occurred_at": START + timedelta(seconds=k - late),
                "received_at": START + timedelta(seconds=k),
                "payload": {"k": k},
                "traceparent": "",
                "tracestate": "",
            }
        )
    for start in range(0, EVENTS, 500):
        part = rows[start : start + 500]
        await opened.write(partial(store_events, rows=part))
    yield opened
    await opened.close()


def asked(**changes: Any) -> EventFilter:
    given: dict[str, Any] = {
        "rule_uid": "uid-0",
        "rule_namespace": "team-a",
        "rule_name": "rule-0",
        "occurred_after": START,
        "occurred_before": START + timedelta(seconds=EVENTS),
        **changes,
    }
    return EventFilter(**given)


async def exact(database: Database, where: EventFilter) -> dict[datetime, int]:
    found = await database.read(lambda connection: count_events(connection, where=where, interval=MINUTE))
    return {datetime.fromisoformat(each.at): each.count for rule in found for each in rule.counts}


async def test_with_time_enough_it_counts_what_reading_everything_does(database: Database) -> None:
    for where in (
        asked(),
        asked(rule_uid="uid-1", rule_name="rule-1"),
        asked(occurred_after=START + timedelta(minutes=31), occurred_before=START + timedelta(minutes=70)),
        asked(rule_name="another"),
        asked(rule_uid="uid-nobody"),
        asked(occurred_after=START - timedelta(days=2), occurred_before=START - timedelta(days=1)),
    ):
        for stretch in (100, 4500, 100_000):
            found = await count_recent(database, where=where, interval=MINUTE, stretch=stretch, patience=3600)
            assert (found.counts, found.since) == (await exact(database, where), None)


async def test_when_time_is_up_the_newest_intervals_are_whole_and_the_others_left_out(database: Database) -> None:
    whole = await exact(database, asked())
    seen: Counter[int] = Counter()
    for stretches in (1, 3, 5, 7, 20):
        ticks = count()  # the first look at the clock begins, and each further one comes after a stretch
        found = await count_recent(
            database,
            where=asked(),
            interval=MINUTE,
            stretch=500,
            patience=stretches,
            clock=lambda ticks=ticks: float(next(ticks)),  # type: ignore[misc]
        )
        if found.since is None:
            assert found.counts == whole
        else:
            assert found.counts == {at: number for at, number in whole.items() if at >= found.since}
        seen[len(found.counts)] += 1
    # A part of them at first, and all of them in the end.
    assert 0 < min(seen) < max(seen) == len(whole)


async def test_without_a_rule_or_its_times_nothing_is_counted(database: Database) -> None:
    for missing in ("rule_uid", "occurred_after", "occurred_before"):
        with pytest.raises(ValueError, match="need its uid and both times"):
            await count_recent(database, where=asked(**{missing: None}), interval=MINUTE)
