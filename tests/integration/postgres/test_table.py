"""Rows of tables of a real PostgreSQL server that become events."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from support.certificates import Authority
from support.eventually import until
from support.harness_events import payloads
from support.postgres import PostgresServer
from support.rule_stream import rule_state

from attune_kit.backoff import Backoff
from attune_postgres.config import connect_url, servers_of
from attune_postgres.kind import PostgresSources
from attune_postgres.parameters import TableSubscription, subscription_of
from attune_postgres.table import OutboxTable
from attune_sensor import AckState, Message, Rule, SensorContext, SettingsError, SourceHandler
from attune_sensor.testing import FakeApi, SensorHarness

pytest_plugins = ["support.api_fixtures"]

TYPE = "core.postgres"
OUTBOX = {"mode": "table", "table": "outbox", "done": "delete"}


class Table:
    """An outbox in a database of the test's own."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.url = server.create_database()
        self.database = self.url.rpartition("/")[2]
        self.ask("CREATE TABLE outbox (id bigint PRIMARY KEY, n int, data jsonb, at timestamptz, done boolean)")

    def ask(self, statement: str) -> str:
        return self.server.query(statement, self.database)

    def add(self, *numbers: int) -> None:
        for number in numbers:
            self.ask(f"INSERT INTO outbox (id, n, data) VALUES ({number}, {number}, jsonb_build_object('n', {number}))")

    def left(self) -> int:
        return int(self.ask("SELECT count(*) FROM outbox WHERE done IS NOT TRUE"))


@pytest.fixture
def table(postgres: PostgresServer) -> Table:
    return Table(postgres)


@pytest.fixture
def own() -> Iterator[PostgresServer]:
    """A server of this test's own, which the test may kill."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def impatient(context: SensorContext) -> SourceHandler:
    """The sensor, which tries again at once."""
    return SourceHandler(context, PostgresSources(context), retry=Backoff(initial=0.05, maximum=0.2))


def sensor(url: str, *, api: FakeApi | None = None, secrets: Path | None = None, **server: Any) -> SensorHarness:
    return SensorHarness(
        impatient,
        trigger_types=[TYPE],
        config={"servers": {"default": {"url": url, **server}}},
        settings={"secrets_dir": secrets},
        api=api,
    )


def apply(harness: SensorHarness, name: str = "rule", **parameters: Any) -> Rule:
    return harness.apply(TYPE, {**OUTBOX, **parameters}, name=name)


async def active(harness: SensorHarness, name: str = "rule", **parameters: Any) -> Rule:
    rule = apply(harness, name, **parameters)
    await harness.wait_for(rule, AckState.ACTIVE)
    return rule


async def ids(harness: SensorHarness, number: int) -> list[str]:
    return [payload["id"] for payload in await payloads(harness, number)]


@contextlib.asynccontextmanager
async def transaction(table: Table) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else's transaction, which is rolled back."""
    connection = await asyncpg.connect(table.url)
    try:
        await connection.execute("BEGIN")
        yield connection
    finally:
        await connection.close()


async def test_rows_become_events_and_are_deleted_then(table: Table) -> None:
    table.ask("INSERT INTO outbox VALUES (7, 1, '{\"price\": 7}', '2026-11-28T03:00:00.5+02:00')")
    async with sensor(table.url) as harness:
        rule = await active(harness, body="data", time="at")
        event = await harness.next_event()
        assert event.payload == {
            "server": "default",
            "table": "public.outbox",
            "id": "7",
            "rule": rule.ref,
            "encoding": "json",
            "body": {"price": 7},
            "row": {"id": 7, "n": 1, "at": "2026-11-28T01:00:00.5+00:00", "done": None},
        }
        assert event.occurred_at.isoformat() == "2026-11-28T01:00:00.500000+00:00"
        await until(lambda: table.left() == 0)
        table.add(8)
        assert await ids(harness, 1) == ["8"]


async def test_rows_are_marked_and_come_in_the_order_of_a_column(table: Table) -> None:
    table.ask("INSERT INTO outbox (id, n) VALUES (1, 3), (2, 1), (3, 2), (4, 1)")
    table.ask("INSERT INTO outbox (id, n, done) VALUES (5, 0, true)")
    async with sensor(table.url) as harness:
        await active(harness, done="mark", mark="done", order="n")
        assert await ids(harness, 4) == ["2", "4", "3", "1"]
        await until(lambda: table.left() == 0)
    assert table.ask("SELECT count(*) FROM outbox") == "5"


async def test_names_and_keys_of_any_kind(table: Table) -> None:
    name = '"Shop ""x""".claimed'
    table.ask('CREATE SCHEMA "Shop ""x"""')
    table.ask(f'CREATE TABLE {name} ("Key" uuid UNIQUE NOT NULL, line text, claimed int)')
    table.ask(f"INSERT INTO {name} VALUES ('00000000-0000-0000-0000-00000000000a', 'größer', 1)")
    async with sensor(table.url) as harness:
        await active(harness, schema='Shop "x"', table="claimed", id="Key", body="line")
        [payload] = await payloads(harness, 1)
        assert (payload["id"], payload["body"]) == ("00000000-0000-0000-0000-00000000000a", "größer")
        await until(lambda: table.ask(f"SELECT count(*) FROM {name}") == "0")


async def test_what_comes_while_the_sensor_is_down_is_read_after_its_start(table: Table) -> None:
    api = FakeApi()
    async with sensor(table.url, api=api) as harness:
        await active(harness)
    table.add(1)
    async with sensor(table.url, api=api) as harness:
        await active(harness)
        assert await ids(harness, 1) == ["1"]


async def test_rows_that_somebody_has_locked_are_passed_and_come_later(table: Table) -> None:
    table.add(1, 2)
    async with transaction(table) as other:
        await other.execute("SELECT FROM outbox WHERE id = 1 FOR UPDATE")
        async with sensor(table.url) as harness:
            await active(harness)
            assert await ids(harness, 1) == ["2"]
            await other.execute("ROLLBACK")
            assert await ids(harness, 1) == ["1"]


async def test_while_the_api_is_away_rows_stay_and_nobody_else_gets_them(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune_postgres.table._RENEW", 0.0)  # so that locks are taken anew meanwhile
    monkeypatch.setattr("attune_sensor._source_consumer._HOLD", 0.2)
    api = FakeApi()
    async with sensor(table.url, api=api) as harness:
        await active(harness)
        began = "SELECT count(DISTINCT xact_start) FROM pg_stat_activity WHERE application_name LIKE 'attune default/%'"
        api.available = False
        table.add(1, 2)
        free = "SELECT count(*) FROM (SELECT FROM outbox FOR UPDATE SKIP LOCKED) AS free"
        await until(lambda: table.ask(free) == "0")
        first = table.ask(began.replace("count(DISTINCT xact_start)", "min(xact_start)"))
        await until(
            lambda: table.ask(began.replace("count(DISTINCT xact_start)", "min(xact_start)")) not in ("", first)
        )
        assert table.left() == 2
        api.available = True
        assert await ids(harness, 2) == ["1", "2"]
        await until(lambda: table.left() == 0)


async def test_replicas_share_the_rows(table: Table) -> None:
    api = FakeApi()
    async with sensor(table.url, api=api) as one, sensor(table.url, api=api) as two:
        await active(one)
        await active(two)
        table.ask("INSERT INTO outbox (id, n) SELECT n, n FROM generate_series(1, 300) AS n")
        await until(lambda: table.left() == 0)
        assert sorted(int(event.payload["id"]) for event in api.events) == list(range(1, 301))


async def test_a_row_that_is_too_large_is_reported_by_reference(table: Table) -> None:
    table.ask("ALTER TABLE outbox ADD COLUMN line text")
    table.ask("INSERT INTO outbox (id, line) VALUES (1, repeat('x', 800000)), (2, '{no json')")
    async with sensor(table.url) as harness:
        await active(harness, body="line")
        first, second = await payloads(harness, 2)
        assert (first["id"], first["truncated"]) == ("1", True)
        assert first["bytes"] > 800_000
        assert (second["encoding"], second["body"]) == ("text", "{no json")


@pytest.mark.parametrize(
    ("of_type", "value", "name"),
    [
        ("char(10)", "'ab'", "ab"),
        ("varchar(5)", "'größe'", "größe"),
        ("bit(4)", "'0101'", "0101"),
        ("numeric(9, 3)", "1.5", "1.500"),
        ("timestamptz", "'2026-11-28T03:00:00.000001+02:00'", "2026-11-28 01:00:00.000001+00"),
        ("bytea", "'\\xff00'", "\\xff00"),
    ],
)
async def test_ids_of_any_type(of_type: str, value: str, name: str, table: Table) -> None:
    table.ask(f"ALTER DATABASE {table.database} SET datestyle = 'German'")
    table.ask(f"ALTER DATABASE {table.database} SET bytea_output = 'escape'")
    table.ask(f"CREATE TABLE keyed (id {of_type} PRIMARY KEY)")
    table.ask(f"INSERT INTO keyed VALUES ({value})")
    async with sensor(table.url) as harness:
        await active(harness, table="keyed")
        assert await ids(harness, 1) == [name]
        await until(lambda: table.ask("SELECT count(*) FROM keyed") == "0")


async def test_a_batch_of_large_rows_is_small(table: Table) -> None:
    table.ask("ALTER TABLE outbox ADD COLUMN line text")
    table.ask("INSERT INTO outbox (id, line) SELECT n, repeat('x', 500000) FROM generate_series(1, 20) AS n")
    [server] = servers_of({"servers": {"default": {"url": table.url}}}).values()
    rule = Rule(state=rule_state(trigger_type=TYPE, parameters=OUTBOX), since_us=0)
    wanted = subscription_of(rule, servers=["default"])
    assert isinstance(wanted, TableSubscription)
    source = OutboxTable(connect_url(server, password=None, ca_file=None), wanted, where="here", name="test")
    await source.open()
    try:
        read: list[Message] = []
        while len(read) < 20:
            batch = await source.read()
            assert sum(message.size for message in batch) < 5_000_000
            await source.acknowledge(batch)
            read += batch
        assert [message.handle for message in read] == [str(number) for number in range(1, 21)]
    finally:
        await source.close()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"table": "none"}, "there is no table public.none"),
        ({"id": "n"}, "have a unique index of its own"),
        ({"order": "none"}, "has no column none; it has at, data, done, id, n"),
        ({"table": "seen"}, "there is no table public.seen"),  # a view
    ],
)
async def test_a_table_that_cannot_be_read_is_told(parameters: dict[str, Any], said: str, table: Table) -> None:
    table.ask("CREATE VIEW seen AS SELECT * FROM outbox")
    async with sensor(table.url) as harness:
        assert said in await harness.wait_for(apply(harness, **parameters), AckState.FAILING)


async def test_a_table_that_keeps_its_rows_is_told(table: Table) -> None:
    table.ask("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    table.ask("CREATE TRIGGER keep BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION keep()")
    table.add(1)
    async with sensor(table.url) as harness:
        assert "rows of public.outbox stay as they were" in await harness.wait_for(apply(harness), AckState.FAILING)


async def test_a_server_that_is_restarted_is_told_and_nothing_is_lost(own: PostgresServer) -> None:
    table = Table(own)
    async with sensor(table.url) as harness:
        rule = await active(harness)
        table.add(1)
        assert await ids(harness, 1) == ["1"]
        own.kill()
        assert f"127.0.0.1:{own.port}" in await harness.wait_for(rule, AckState.FAILING)
        own.start()
        table.add(2)
        await harness.wait_for(rule, AckState.ACTIVE)
        assert await ids(harness, 1) == ["2"]


async def test_a_standby_that_takes_over_is_found(own: PostgresServer) -> None:
    table = Table(own)
    standby = own.standby()
    try:
        both = table.url.replace(f":{own.port}", f":{standby.port},127.0.0.1:{own.port}")
        async with sensor(both) as harness:
            rule = await active(harness)  # by the second address: the first one is a standby
            table.add(1)
            assert await ids(harness, 1) == ["1"]
            own.kill()
            await harness.wait_for(rule, AckState.FAILING)
            standby.promote()
            table.server = standby
            table.add(2)
            await harness.wait_for(rule, AckState.ACTIVE)
            assert await ids(harness, 1) == ["2"]
    finally:
        standby.remove()


async def test_who_it_is_and_whom_it_trusts_comes_from_secrets(tmp_path: Path) -> None:
    own = PostgresServer(ssl="on")
    authority, secret = Authority(), tmp_path / "attune-postgres"
    certificate, key = authority.issue("localhost")
    for name, content in (("server.crt", certificate), ("server.key", key)):
        own.place(name, content)
    own.place("hba.conf", "host all attune 127.0.0.1/32 trust\nhostssl all reader 127.0.0.1/32 scram-sha-256\n")
    own.configure(
        ssl_cert_file=str(own.directory / "server.crt"),
        ssl_key_file=str(own.directory / "server.key"),
        hba_file=str(own.directory / "hba.conf"),
    )
    own.start()
    try:
        table = Table(own)
        table.ask("CREATE USER reader PASSWORD 's3cret'")
        url = table.url.replace("attune@127.0.0.1", "reader@localhost")
        access: dict[str, Any] = {"password": "attune-postgres/password", "ca": "attune-postgres/ca.crt"}
        async with sensor(url, secrets=tmp_path, **access) as harness:
            rule = apply(harness)
            assert "attune-postgres/password is not mounted" in await harness.wait_for(rule, AckState.FAILING)
            secret.mkdir()
            (secret / "ca.crt").write_text(Authority().pem)
            (secret / "password").write_text("wrong\n")
            await until(lambda: "CERTIFICATE_VERIFY_FAILED" in harness.message(rule))
            (secret / "ca.crt").write_text(authority.pem)
            await until(lambda: "does not accept the credentials" in harness.message(rule))
            (secret / "password").write_text("s3cret\n")
            await until(lambda: "does not allow it: permission denied for table outbox" in harness.message(rule))
            table.ask("GRANT SELECT, DELETE ON outbox TO reader")
            await until(lambda: "permission denied" in harness.message(rule))  # rows are locked, too
            table.ask("GRANT UPDATE ON outbox TO reader")
            await harness.wait_for(rule, AckState.ACTIVE)
    finally:
        own.remove()


async def test_a_server_that_the_sensor_does_not_know_is_rejected(table: Table) -> None:
    async with sensor(table.url) as harness:
        rule = apply(harness, server="other")
        assert "no server 'other'" in await harness.wait_for(rule, AckState.REJECTED)


def test_a_configuration_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(SettingsError, match="holds a password"):
        sensor("postgresql://attune:secret@db/shop")
