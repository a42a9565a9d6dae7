"""Finding events again: every filter means the same on SQLite, on PostgreSQL and in memory; pages are whole, and bounded."""

import asyncio
import json
import random
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
import pytest
from sqlalchemy import Connection, text
from support.api_process import ApiProcess, report

from attune_api.events import blocks
from attune_api.events.blocks import SIZE
from attune_api.events.ingest.sql import store_events
from attune_api.events.query import service as query
from attune_api.events.query.filters import Candidate, EventFilter, PayloadFilter
from attune_api.events.query.service import Found, Page, Walk, read_page
from attune_api.events.query.sql import Shape, matching, survey
from attune_api.settings import Settings
from attune_api.storage.database import Database, QueryTooSlowError
from attune_api.storage.migrate import upgrade
from attune_api.storage.opening import open_database
from attune_contract.events import Event

pytest_plugins = ["support.api_fixtures"]

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
TYPES = ("core.intervaltimer", "core.webhook")
Order = Literal["asc", "desc"]

#: Payloads and filters on them: each filter on each payload must mean the same everywhere.
PAYLOADS: tuple[dict[str, Any], ...] = (
    {},
    {"a": "7"},
    {"a": 7},
    {"a": 7.0},
    {"a": 7.5},
    {"a": True},
    {"a": False},
    {"a": None},
    {"a": "true"},
    {"a": "null"},
    {"a": ""},
    {"a": '"7"'},
    {"a": "Ünïcode ☃ 'quote"},
    {"a": 'line\nbreak\t"and" \\ more'},
    {"a": {"b": {"c": "deep"}}},
    {"a": [{"b": 1}, {"b": 2}]},
    {"a": ["x", ["y"]]},
    {"a": {"0": "member"}},
    {"a b-c/é": "odd name"},
    {"a": 1e300},
    {"a": 12345678901234567890},
    {"a": -3},
    {"a": 0.1},
    {"a": [1], "b": "x"},
)
PAYLOAD_FILTERS = (
    *(
        ("a", value)
        for value in ("7", "7.0", "70e-1", '"7"', "07", "7.5", "true", "false", "null", "", '""', "x", "-3", "0.1")
    ),
    *(
        ("a", value)
        for value in ("1e300", "12345678901234567890", "Ünïcode ☃ 'quote", 'line\nbreak\t"and" \\ more', "{}", "[1]")
    ),
    ("a.b.c", "deep"),
    ("a.b", "deep"),
    ("a.0.b", "1"),
    ("a.1.b", "2"),
    ("a.2.b", "2"),
    ("a.0", "x"),
    ("a.0", "member"),
    ("a.1.0", "y"),
    ("a b-c/é", "odd name"),
    ("b", "x"),
    ("A", "7"),
    ("missing.path", "null"),
)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(Settings(database_url=database_url).database_url)
    await upgrade(opened)
    yield opened
    await opened.close()


def row(k: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": uuid.UUID(int=k + 1),
        "trigger_type": TYPES[0],
        "rule_uid": "rule-0",
        "rule_namespace": "default",
        "rule_name": "echo",
        "sensor_ref": "attune-system/core.timer",
        "occurred_at": START + timedelta(seconds=k),
        "received_at": START + timedelta(seconds=k),
        "payload": {"k": k},
        "traceparent": "",
        "tracestate": "",
        **changes,
    }


async def store(database: Database, rows: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(rows), 1000):
        chunk = rows[start : start + 1000]
        await database.write(lambda connection, chunk=chunk: store_events(connection, rows=chunk))  # type: ignore[misc]


async def all_pages(database: Database, where: EventFilter, order: Order, limit: int, **options: Any) -> list[Page]:
    pages: list[Page] = []
    beyond = None
    while True:
        page = await read_page(database, where=where, order=order, beyond=beyond, limit=limit, **options)
        pages.append(page)
        if page.more is None:
            return pages
        beyond = page.more


def in_memory(event: Event) -> Candidate:
    fields = {
        name: getattr(event, name) for name in ("rule_uid", "rule_namespace", "rule_name", "trigger_type", "sensor_ref")
    }
    return Candidate(fields, occurred_at=datetime.fromisoformat(event.occurred_at), payload=event.payload)


async def test_payload_filters_mean_the_same_everywhere(database: Database) -> None:
    await store(database, [row(k, payload=payload) for k, payload in enumerate(PAYLOADS)])
    everything = (await read_page(database, where=EventFilter(), order="asc", beyond=None, limit=100)).events
    assert [json.loads(bytes(event.payload)) for event in everything] == list(PAYLOADS)
    found_any = 0
    for path, value in PAYLOAD_FILTERS:
        where = EventFilter(payload=(PayloadFilter.parse(path, value),))
        by_database = (await read_page(database, where=where, order="asc", beyond=None, limit=100)).events
        in_python = [event for event in everything if where.matches(in_memory(event))]
        assert [e.payload for e in by_database] == [e.payload for e in in_python], (path, value)
        found_any += bool(by_database)
    assert found_any > 20


async def test_what_a_payload_filter_finds(database: Database) -> None:
    await store(database, [row(k, payload=payload) for k, payload in enumerate(PAYLOADS)])

    async def found(path: str, value: str) -> list[Any]:
        where = EventFilter(payload=(PayloadFilter.parse(path, value),))
        page = await read_page(database, where=where, order="asc", beyond=None, limit=100)
        return [msgspec.json.decode(event.payload) for event in page.events]

    assert await found("a", "7") == [{"a": "7"}, {"a": 7}, {"a": 7.0}]
    assert await found("a", '"7"') == [{"a": "7"}]
    assert await found("a", "true") == [{"a": True}, {"a": "true"}]
    assert await found("a", "null") == [{"a": None}, {"a": "null"}]
    assert await found("a.0.b", "1") == [{"a": [{"b": 1}, {"b": 2}]}]
    assert await found("a.b.c", "deep") == [{"a": {"b": {"c": "deep"}}}]
    assert await found("missing", "") == []


def _mixed(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Events of many rules, in part late by hours, one in fifty of a rare type."""
    rng = random.Random(seed)
    rows = []
    for k in range(count):
        rule = rng.randrange(20)
        late = timedelta(hours=rng.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 5)))
        rows.append(
            row(
                k,
                rule_uid=f"rule-{rule}",
                rule_name=f"name-{rule}",
                rule_namespace=f"team-{rule % 3}",
                trigger_type=TYPES[rng.random() < 0.02],
                sensor_ref=f"attune-system/sensor-{rule % 2}",
                occurred_at=START + timedelta(seconds=k) - late,
                payload={"k": k, "rare": k % 97 == 0},
            )
        )
    return rows


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_every_combination_of_filters_finds_what_it_should_and_each_once(
    database: Database, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small walks, so that few events are enough to need several of each kind.
    monkeypatch.setattr(query, "_BUDGET", 50)
    monkeypatch.setattr(query, "_FIRST_BUDGET", 15)
    monkeypatch.setattr(query, "_PROBE", 20)
    monkeypatch.setattr(query, "_BLOCKS", 2)
    monkeypatch.setattr(blocks, "SIZE", 64)
    await store(database, _mixed(700, seed=6))
    everything = await database.read(lambda connection: _all_events(connection))
    rng = random.Random(7)
    pools: dict[str, list[Any]] = {
        "rule_uid": ["rule-3", "rule-nobody"],
        "rule_namespace": ["team-0", "team-2"],
        "rule_name": ["name-3", "name-4"],
        "trigger_type": list(TYPES),
        "sensor_ref": ["attune-system/sensor-0", "attune-system/sensor-1"],
        "occurred_after": [START + timedelta(seconds=300), START + timedelta(hours=3), START - timedelta(hours=4)],
        "occurred_before": [START + timedelta(seconds=360), START, START + timedelta(days=1)],
        "payload": [(PayloadFilter.parse("rare", "true"),)],
    }
    for _ in range(25):
        names = rng.sample(sorted(pools), rng.randint(0, 4))
        where = EventFilter(**{name: rng.choice(pools[name]) for name in names})
        wanted = [event.seq for event in everything if where.matches(in_memory(event))]
        pages = await all_pages(database, where, order, rng.choice((7, 100, 1000)))
        seqs = [event.seq for page in pages for event in page.events]
        assert seqs == (wanted if order == "asc" else wanted[::-1]), where


def _all_events(connection: Connection) -> list[Event]:
    return _walk(connection, EventFilter()).events


def _walk(connection: Connection, where: EventFilter, **changes: Any) -> Found:
    options: dict[str, Any] = {
        "order": "asc",
        "low": 0,
        "high": 2**63 - 1,
        "limit": 100_000,
        "budget": 5000,
        "most_bytes": 10**8,
    }
    options |= changes
    low, high = options.pop("low"), options.pop("high")
    return Walk(connection, where=where, **options).between(low, high)


async def test_a_search_without_an_index_is_handed_out_in_bounded_pages(database: Database) -> None:
    await store(database, [row(k, payload={"needle": k == 0}) for k in range(9000)])
    where = EventFilter(payload=(PayloadFilter.parse("needle", "true"),))
    pages = await all_pages(database, where, "desc", 10, patience=0)
    assert [event.seq for page in pages for event in page.events] == [1]
    assert len(pages) == 2  # 5,400 events, and the rest
    whole = await all_pages(database, where, "desc", 10, patience=60)
    assert [len(page.events) for page in whole] == [1]


async def test_a_page_of_large_payloads_ends_before_memory_does(database: Database) -> None:
    large = "x" * 900_000
    await store(database, [row(k, payload={"text": large}) for k in range(60)])
    pages = await all_pages(database, EventFilter(), "asc", 1000)
    assert [event.seq for page in pages for event in page.events] == list(range(1, 61))
    assert all(len(page.events) <= 12 for page in pages)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_small_payloads_do_not_let_large_ones_through(database: Database, order: Order) -> None:
    large = {"text": "x" * 900_000}
    rows = [row(k, payload=large if 20 <= k < 60 else {"k": k}, rule_name="ab"[k % 2]) for k in range(80)]
    await store(database, rows)
    for where in (EventFilter(), EventFilter(rule_namespace="default"), EventFilter(rule_name="a")):
        pages = await all_pages(database, where, order, 1000)
        seqs = [event.seq for page in pages for event in page.events]
        wanted = [k + 1 for k in range(80) if where.rule_name is None or k % 2 == 0]
        assert seqs == (wanted if order == "asc" else wanted[::-1])
        # 2 MiB, and what the last one has beyond that.
        assert all(sum(len(event.payload) > 900_000 for event in page.events) <= 3 for page in pages)


async def test_numbers_that_are_missing_hold_up_no_search(database: Database) -> None:
    await store(database, [row(0, payload={"needle": True}), *(row(k) for k in range(1, 20))])
    await database.write(
        lambda connection: connection.execute(text("UPDATE events SET seq = seq + 4000000000")) and None
    )
    await store(database, [row(99, payload={"needle": True})])  # on PostgreSQL below those, on SQLite above
    where = EventFilter(payload=(PayloadFilter.parse("needle", "true"),))
    for order in ("asc", "desc"):
        pages = await all_pages(database, where, order, 10)
        assert sorted(event.id.int for page in pages for event in page.events) == [1, 100]
        assert len(pages) < 10  # one, unless the machine is so busy that the time for a page is over


async def test_requests_that_differ_in_values_alone_share_their_statements(database: Database) -> None:
    def shape(where: EventFilter) -> Shape:
        return Shape.of(where, dialect="sqlite", driver=("rule_uid",), order="asc")

    one = shape(EventFilter(rule_uid="rule-1", occurred_after=START))
    other = shape(EventFilter(rule_uid="rule-2", occurred_after=START + timedelta(days=1)))
    assert matching(one) is matching(other)
    assert survey(one) is survey(other)
    assert matching(one) is not matching(shape(EventFilter(rule_uid="rule-1", occurred_before=START)))
    # And none is left with another's values.
    await store(database, [row(k, rule_uid=f"rule-{k % 3}") for k in range(30)])
    for uid in ("rule-1", "rule-2", "rule-1", "rule-0"):
        page = await read_page(database, where=EventFilter(rule_uid=uid), order="asc", beyond=None, limit=100)
        assert [event.rule_uid for event in page.events] == [uid] * 10


async def test_a_time_far_back_is_found_without_reading_what_came_since(database: Database) -> None:
    await store(database, [row(k) for k in range(3 * SIZE)])
    where = EventFilter(occurred_after=START + timedelta(seconds=10), occurred_before=START + timedelta(seconds=13))
    (page,) = await all_pages(database, where, "desc", 100, patience=0)
    assert [event.seq for event in page.events] == [13, 12, 11]


async def test_after_the_last_event_of_a_rule_its_namespace_is_not_read(database: Database) -> None:
    """PostgreSQL does not stop at the end of a range of rows by itself, and SQLite would sort what it need not read."""
    await store(database, [row(k, rule_name="b" if k % 500 else "a") for k in range(10_000)])
    await database.write(lambda connection: connection.execute(text("ANALYZE")) and None)

    def look(connection: Connection) -> list[str]:
        plans: list[str] = []
        original = connection.execute
        prefix = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN (ANALYZE, BUFFERS)"

        def explained(statement: Any, parameters: Any) -> Any:
            compiled = statement.params(parameters).compile(
                connection, compile_kwargs={"literal_binds": True, "render_postcompile": True}
            )
            plans.append("\n".join(str(r) for r in original(text(f"{prefix} {compiled}".replace(":", "\\:")))))
            return original(statement, parameters)

        connection.execute = explained  # type: ignore[assignment]
        where = EventFilter(rule_namespace="default", rule_name="a", sensor_ref="attune-system/core.timer")
        found = _walk(connection, where, limit=100)
        assert (len(found.events), found.reached) == (20, None)
        return plans

    for plan in await database.read(look):
        assert "TEMP B-TREE" not in plan
        # The index has 60 pages or more, of which a walk to the namespace's end reads all; 20 events are in as many.
        assert sum(int(n) for n in re.findall(r"shared hit=(\d+)", plan)[:1]) <= 40, plan


async def test_one_event_that_came_late_is_found_by_its_time(database: Database) -> None:
    await store(database, [row(k) for k in range(SIZE + 10)])
    await store(database, [row(99_999, occurred_at=START - timedelta(days=30))])
    where = EventFilter(occurred_before=START)
    (page,) = await all_pages(database, where, "desc", 100, patience=0)
    assert [event.seq for event in page.events] == [SIZE + 11]


async def test_a_follower_of_rare_events_goes_on_where_it_looked_last(database: Database) -> None:
    await store(database, [row(k) for k in range(500)])
    where = EventFilter(rule_uid="another")
    page = await read_page(database, where=where, order="asc", beyond=None, limit=10)
    assert (page.events, page.more, page.seen) == ([], None, 500)
    await store(database, [row(500, rule_uid="another")])
    page = await read_page(database, where=where, order="asc", beyond=page.seen, limit=10)
    assert [event.seq for event in page.events] == [501]


async def test_a_query_that_takes_too_long_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(connection: Any) -> Any:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET statement_timeout = '200ms'"))
            return connection.execute(text("SELECT pg_sleep(20)"))
        endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
        return connection.execute(text(endless)).scalar_one()

    monkeypatch.setattr("attune_api.storage.database.QUERY_TIMEOUT", 0.2)
    with pytest.raises(QueryTooSlowError):
        await database.read(slow)
    assert await database.read(lambda connection: connection.execute(text("SELECT 1")).scalar_one()) == 1


async def test_a_connection_that_died_in_the_pool_fails_no_reader(database: Database) -> None:
    await store(database, [row(1)])

    def end_all(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            mine = "pid <> pg_backend_pid() AND datname = current_database()"
            connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}"))

    async def look() -> Page:
        return await read_page(database, where=EventFilter(), order="desc", beyond=None, limit=10)

    await asyncio.gather(*(look() for _ in range(4)))  # connections in the pool
    await database.write(end_all)
    for page in await asyncio.gather(*(look() for _ in range(4))):
        assert len(page.events) == 1


async def test_counts_of_each_rule_and_interval(api_on_each: ApiProcess) -> None:
    events = [report(k, rule_uid=f"rule-{k % 2}", rule_name=f"name-{k % 2}") for k in range(0, 7300, 50)]
    async with api_on_each.client() as sensor, api_on_each.reader() as reader:
        assert (await sensor.post("/api/v1/events/batch", json={"events": events})).status_code == 200
        time = {"occurred_after": "2026-11-23T12:00:00Z", "occurred_before": "2026-11-23T15:00:00Z"}
        answer = (await reader.get("/api/v1/events/counts", params=time)).json()
        assert answer["interval_seconds"] == 3600
        assert (answer["occurred_after"], answer["rules_left_off"]) == ("2026-11-23T12:00:00.000000Z", 0)
        assert [(rule["rule_name"], rule["total"]) for rule in answer["data"]] == [("name-0", 146)]
        assert [(count["at"], count["count"]) for count in answer["data"][0]["counts"]] == [
            ("2026-11-23T12:00:00.000000Z", 72),
            ("2026-11-23T13:00:00.000000Z", 72),
            ("2026-11-23T14:00:00.000000Z", 2),
        ]
        half = await reader.get("/api/v1/events/counts", params={**time, "payload.k": "50", "interval": "1m"})
        assert [rule["counts"] for rule in half.json()["data"]] == [[{"at": "2026-11-23T12:00:00.000000Z", "count": 1}]]
        none = await reader.get("/api/v1/events/counts", params={**time, "rule_uid": "nobody"})
        assert none.json()["data"] == []


async def test_payload_filters_over_http(api_on_each: ApiProcess) -> None:
    async with api_on_each.client() as sensor, api_on_each.reader() as reader:
        events = [report(k, payload={"user": {"name": name}, "k": k}) for k, name in enumerate(("ann", "bob", "ann"))]
        assert (await sensor.post("/api/v1/events/batch", json={"events": events})).status_code == 200
        answer = await reader.get("/api/v1/events", params={"payload.user.name": "ann", "order": "asc"})
        assert [event["payload"]["k"] for event in answer.json()["data"]] == [0, 2]
        both = await reader.get("/api/v1/events", params={"payload.user.name": "ann", "payload.k": "2"})
        assert [event["payload"]["k"] for event in both.json()["data"]] == [2]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("rule_nane=x", "query.rule_nane: not known here; there are rule_uid,"),
        ("rule_uid=a&rule_uid=b", "query.rule_uid: given twice"),
        ("payload.=x", "empty name"),
        ("payload.a..b=x", "empty name"),
        ('payload.a"b=x', "cannot be a name"),
        ("payload.a=%00", "NUL"),
        ("payload." + ".".join("abcdefghi") + "=x", "9 names"),
        ("&".join(f"payload.a{n}=1" for n in range(5)), "more than 4 payload filters"),
    ],
)
async def test_a_filter_that_cannot_be_meant_says_so(shared_api: ApiProcess, query: str, words: str) -> None:
    async with shared_api.reader() as reader:
        for path in ("/api/v1/events", "/api/v1/events/counts"):
            answer = await reader.get(f"{path}?{query}")
            assert answer.status_code == 422, answer.text
            assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("interval=2h", "interval"),
        ("occurred_after=2026-01-02T00:00:00Z&occurred_before=2026-01-01T00:00:00Z", "earlier"),
        ("occurred_after=2026-01-01T00:00:00Z&occurred_before=2026-03-01T00:00:00Z&interval=1m", "1500 intervals"),
        ("occurred_before=0002-01-01T00:00:00Z", "earlier"),
    ],
)
async def test_counts_that_make_no_sense_say_so(shared_api: ApiProcess, query: str, words: str) -> None:
    async with shared_api.reader() as reader:
        answer = await reader.get(f"/api/v1/events/counts?{query}")
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["detail"]
