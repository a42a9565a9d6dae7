"""Runs in the database, on SQLite and PostgreSQL: the newest report stays, pages find it, numbers go with it."""

import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from support.run_reports import START, run

from attune_api.metrics import Metrics
from attune_api.runs.query import RunFilter, count_runs, place_of, read_page, read_summaries, walk
from attune_api.runs.retention import RunRetention
from attune_api.runs.sql import Stored, delete_older, store_runs
from attune_api.runs.summaries import BUCKETS
from attune_api.runs.table import RUNS, get_run, newest_seq, run_of, view
from attune_api.settings import Settings
from attune_api.storage.database import Database
from attune_api.storage.leases import Leases
from attune_api.storage.migrate import upgrade
from attune_api.storage.opening import open_database
from attune_contract.actions import Attempt, Run, RunReason, RunState

pytest_plugins = ["support.api_fixtures"]

DAY = timedelta(days=1)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(Settings(database_url=database_url).database_url)
    await upgrade(opened)
    yield opened
    await opened.close()


async def _store(database: Database, *runs: Run, now: Any = START) -> Stored:
    return await database.write(lambda connection: store_runs(connection, runs=runs, now=now))


async def _summary(database: Database, uid: str = "rule-1") -> Any:
    rows = await database.read(lambda connection: read_summaries(connection, beyond=0, limit=10, rule_uids=[uid]))
    return rows[0] if rows else None


async def test_a_run_comes_out_as_it_went_in(database: Database) -> None:
    attempt = Attempt(
        number=1, started_at=START, seconds=0.5, outcome=RunReason.TARGET_REFUSED, status=503, answer="busy\0"
    )
    sent = run(
        1,
        state=RunState.WAITING,
        reason=RunReason.TARGET_REFUSED,
        message="503\0",
        next_attempt_at=START + DAY,
        attempts_made=1,
        attempts=(attempt,),
        request="POST https://example.org",
        result={"kind": "Job", "deep": {"list": [1, None, 1e300]}},
    )
    await _store(database, sent)
    row = await database.read(lambda connection: get_run(connection, run_id=sent.id))
    assert row is not None
    read = run_of(row)
    assert read.message == "503\ufffd"
    assert read == type(sent)(
        **{**{name: getattr(sent, name) for name in sent.__struct_fields__}, "message": read.message}
    )
    assert view(row).next_attempt_at == "2026-11-24T12:00:00.000000Z"


async def test_the_highest_revision_stays_whatever_the_order(database: Database) -> None:
    first, second, third = (
        run(1, revision=k, state=state) for k, state in ((1, "Running"), (2, "Waiting"), (3, "Failed"))
    )
    assert await _store(database, second, first) == Stored(changed=1, stale=1)
    assert await _store(database, first, second) == Stored(changed=0, stale=2)
    assert await _store(database, third) == Stored(changed=1, stale=0)
    assert await _store(database, third, second) == Stored(changed=0, stale=2)
    page = await read_page(database, where=RunFilter(), order="asc", beyond=None, limit=10)
    assert [entry.state for entry in page.runs] == ["Failed"]


async def test_numbers_are_those_of_the_table_after_any_reports(database: Database) -> None:
    """A thousand reports in random order, in batches of random size, some of them twice; then some are deleted."""
    chance = random.Random(20)
    reports = [
        run(
            k,
            revision=revision,
            rule_uid=f"rule-{k % 5}",
            rule_name=f"name-{k % 5}",
            state=chance.choice(list(RunState)),
            updated_at=START + timedelta(seconds=chance.randrange(1000)),
        )
        for k in range(250)
        for revision in range(1, 5)
    ]
    reports += chance.sample(reports, 100)
    chance.shuffle(reports)
    while reports:
        size = chance.randrange(1, 60)
        batch, reports = reports[:size], reports[size:]
        await _store(database, *batch, now=START + timedelta(seconds=len(reports)))
    await _compare(database)
    await _sweep(database, now=START + DAY + timedelta(seconds=500), max_age=DAY)
    await _compare(database)
    await _sweep(database, now=START, most_per_rule=7)
    await _compare(database)
    ended = await database.read(
        lambda connection: connection.execute(
            select(func.count()).where(RUNS.c.state.in_(["Succeeded", "Failed", "Skipped"]))
        ).scalar_one()
    )
    assert ended <= 5 * 7


async def _compare(database: Database) -> None:
    rows = await database.read(
        lambda connection: connection.execute(
            select(RUNS.c.rule_uid, RUNS.c.state, func.count()).group_by(RUNS.c.rule_uid, RUNS.c.state)
        ).all()
    )
    counted: Counter[tuple[str, str]] = Counter()
    for uid, state, count in rows:
        counted[uid, BUCKETS[state]] += count
    summaries = await database.read(lambda connection: read_summaries(connection, beyond=0, limit=100))
    told = {(row["rule_uid"], bucket): row[bucket] for row in summaries for bucket in set(BUCKETS.values())}
    assert {key: count for key, count in told.items() if count} == dict(counted)


async def _sweep(database: Database, *, now: Any, **options: Any) -> int:
    wanted: dict[str, Any] = {"max_age": None, "most_per_rule": None, **options}
    leases = Leases(database)
    retention = RunRetention(
        database=database, leases=leases, metrics=Metrics(), interval=600, now=lambda: now, **wanted
    )
    async with leases.hold("sweep") as held:
        return await retention.sweep(held)


async def test_a_run_that_has_not_ended_is_never_deleted(database: Database) -> None:
    await _store(database, *(run(k, state=state) for k, state in enumerate(RunState)))
    assert await _sweep(database, now=START + 10 * DAY, max_age=DAY) == 3
    page = await read_page(database, where=RunFilter(), order="asc", beyond=None, limit=10)
    assert {entry.state for entry in page.runs} == {"Pending", "Running", "Waiting"}
    assert (await _summary(database))["waiting"] == 3


async def test_numbers_of_a_rule_go_when_none_of_its_runs_is_left(database: Database) -> None:
    await _store(database, run(1), now=START)
    await _sweep(database, now=START + 10 * DAY, max_age=DAY)
    assert await _summary(database) is None


async def test_pages_have_each_run_once_in_both_directions(database: Database) -> None:
    for start in range(0, 100, 10):
        runs = [
            run(k, rule_uid=f"rule-{k % 3}", state="Failed" if k % 7 == 0 else "Succeeded")
            for k in range(start, start + 10)
        ]
        await _store(database, *runs)
    for where, wanted in (
        (RunFilter(), set(range(100))),
        (RunFilter(rule_uid="rule-1"), {k for k in range(100) if k % 3 == 1}),
        (RunFilter(state="Failed"), {k for k in range(100) if k % 7 == 0}),
        (RunFilter(rule_uid="rule-1", state="Failed"), {k for k in range(100) if k % 3 == 1 and k % 7 == 0}),
        (RunFilter(rule_namespace="default", rule_name="retry-import"), set(range(100))),
        (RunFilter(rule_namespace="other"), set()),
        (RunFilter(event_id=uuid.UUID(int=5)), {5}),
        (RunFilter(updated_after=START + timedelta(seconds=90)), set(range(90, 100))),
        (RunFilter(updated_before=START + timedelta(seconds=5), action="tell"), set(range(5))),
    ):
        for order in ("asc", "desc"):
            found: list[int] = []
            beyond: int | None = None
            while True:
                page = await read_page(database, where=where, order=order, beyond=beyond, limit=7, patience=0)
                found += [entry.event_seq for entry in page.runs]
                if page.more is None:
                    break
                beyond = page.more
            assert found == sorted(wanted, reverse=order == "desc"), (where, order)


async def test_a_walk_looks_at_no_more_rows_than_it_may(database: Database) -> None:
    await _store(database, *(run(k, action="rare" if k == 95 else "tell") for k in range(100)))

    def walks(connection: Connection) -> tuple[list[int], int]:
        found: list[int] = []
        low, steps = 0, 0
        while True:
            steps += 1
            step = walk(
                connection, where=RunFilter(action="rare"), order="asc", low=low, high=10**9, limit=5, budget=10
            )
            found += [entry.event_seq for entry in step.runs]
            if step.reached is None:
                return found, steps
            low = step.reached

    assert await database.read(walks) == ([95], 11)


async def test_a_run_that_changes_moves_to_the_end(database: Database) -> None:
    await _store(database, run(1), run(2), run(3))
    page = await read_page(database, where=RunFilter(), order="asc", beyond=None, limit=10)
    await _store(database, run(2, revision=2, state="Failed"))
    rest = await read_page(database, where=RunFilter(), order="asc", beyond=page.seen, limit=10)
    assert [(entry.event_seq, entry.state) for entry in rest.runs] == [(2, "Failed")]


async def test_places_of_times_are_found(database: Database) -> None:
    for k in range(50):
        await _store(database, run(k), now=START + timedelta(seconds=k))
    for second in (-1, 0, 1, 25, 49, 50):
        time = START + timedelta(seconds=second)
        place = await database.read(lambda connection, time=time: place_of(connection, time=time))  # type: ignore[misc]
        assert place == max(second, 0) + 1, second


async def test_numbers_are_not_given_twice_after_the_newest_runs_were_deleted(database: Database) -> None:
    await _store(database, run(1), run(2))
    before = await database.read(newest_seq)
    await _sweep(database, now=START + 10 * DAY, max_age=DAY)
    await _store(database, run(3), now=START + 10 * DAY)
    page = await read_page(database, where=RunFilter(), order="asc", beyond=None, limit=10)
    assert page.runs[0].seq > before


async def test_counts_by_rule_action_and_state(database: Database) -> None:
    await _store(database, *(run(k, state="Failed" if k % 4 == 0 else "Succeeded", reason="") for k in range(20)))
    rows = await database.read(
        lambda connection: count_runs(connection, where=RunFilter(updated_after=START), limit=10)
    )
    assert [(row["action"], row["state"], row["count"]) for row in rows] == [
        ("tell", "Succeeded", 15),
        ("tell", "Failed", 5),
    ]


async def test_summaries_that_share_a_place_are_on_one_page(database: Database) -> None:
    await _store(database, *(run(k, rule_uid=f"rule-{k}") for k in range(6)))
    await database.write(lambda connection: delete_older(connection, beyond=0, before=START + DAY))
    await _store(database, run(9, rule_uid="rule-9"))
    rows = await database.read(lambda connection: read_summaries(connection, beyond=0, limit=1))
    assert [row["rule_uid"] for row in rows] == [f"rule-{k}" for k in range(6)]
    beyond = rows[-1]["seq"]
    rest = await database.read(lambda connection: read_summaries(connection, beyond=beyond, limit=10))
    assert [row["rule_uid"] for row in rest] == ["rule-9"]
