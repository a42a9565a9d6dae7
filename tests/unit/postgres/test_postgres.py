"""The PostgreSQL sensor's rules, statements, payloads and configuration; and that its manifest agrees with its program."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.rule_stream import rule_state

from attune_contract.resources import Sensor as SensorResource
from attune_postgres.channel import lock_of
from attune_postgres.config import connect_url, servers_of
from attune_postgres.parameters import (
    ListenParameters,
    Subscription,
    TableParameters,
    TableSubscription,
    subscription_of,
)
from attune_postgres.payload import Notification, Row, body_of, notification_payload, row_payload, time_of
from attune_postgres.statements import Column, problem_of, quoted, statements_of
from attune_postgres.table import next_count
from attune_sensor import InvalidRuleError, Rule, SettingsError

PACK = Path(__file__).parents[3] / "packs" / "postgres" / "core.postgres.yaml"
SENSOR = SensorResource.from_object(yaml.safe_load(PACK.read_text()))
DECLARED = SENSOR.spec.canonical("core.postgres")
assert DECLARED is not None
PAYLOADS = jsonschema.Draft202012Validator(DECLARED.payload_schema or {})
PARAMETERS = jsonschema.Draft202012Validator(DECLARED.parameters_schema or {})
TABLE = {"mode": "table", "table": "outbox", "done": "delete"}
LISTEN = {"mode": "listen", "channel": "orders"}


def rule(parameters: dict[str, Any]) -> Rule:
    return Rule(state=rule_state(trigger_type="core.postgres", parameters=parameters), since_us=0)


def subscription(**parameters: Any) -> Subscription:
    return subscription_of(rule(parameters), servers=["default", "other"])


@pytest.mark.parametrize(
    ("parameters", "good"),
    [
        (TABLE, True),
        (
            {**TABLE, "schema": "Shop", "id": "key", "order": "n", "body": "data", "time": "at", "server": "default"},
            True,
        ),
        ({**TABLE, "done": "mark", "mark": "done_at"}, True),
        ({**TABLE, "done": "mark"}, False),
        ({**TABLE, "mark": "done_at"}, False),
        ({**TABLE, "done": "forget"}, False),
        ({**TABLE, "table": ""}, False),
        ({**TABLE, "table": "x" * 64}, False),
        ({**TABLE, "table": "a\0b"}, False),
        ({**TABLE, "id": 5}, False),
        ({**TABLE, "channel": "orders"}, False),
        ({**TABLE, "where": "true"}, False),
        ({"mode": "table", "table": "outbox"}, False),
        ({"mode": "table", "done": "delete"}, False),
        (LISTEN, True),
        ({**LISTEN, "server": "default"}, True),
        ({**LISTEN, "body": "data"}, False),
        ({**LISTEN, "table": "outbox", "done": "delete"}, False),
        ({"mode": "listen"}, False),
        ({"mode": "poll", "table": "outbox"}, False),
        ({"table": "outbox", "done": "delete"}, False),
        ({}, False),
    ],
)
def test_the_manifest_and_the_program_agree(parameters: dict[str, Any], good: bool) -> None:
    assert PARAMETERS.is_valid(parameters) == good
    if good:
        subscription_of(rule(parameters), servers=["default"])
    else:
        with pytest.raises(InvalidRuleError):
            subscription_of(rule(parameters), servers=["default"])


def test_the_samples_and_the_configuration_of_the_pack_can_be_used() -> None:
    samples = (DECLARED.parameters_schema or {})["examples"] if DECLARED else []
    assert len(samples) == 3
    for sample in samples:
        assert PARAMETERS.is_valid(sample)
        subscription_of(rule(sample), servers=servers_of(SENSOR.spec.config or {}))


def test_a_rule_that_cannot_be_used_is_told_what_to_do() -> None:
    with pytest.raises(InvalidRuleError, match=r"parameters\.mark: name the column"):
        subscription(**{**TABLE, "done": "mark"})
    with pytest.raises(InvalidRuleError, match=r"missing required field `done`"):
        subscription(mode="table", table="outbox")
    with pytest.raises(InvalidRuleError, match=r"no server 'third' in spec\.config\.servers; it has default, other"):
        subscription(**TABLE, server="third")


def test_rules_share_what_they_read_alike() -> None:
    assert subscription(**TABLE) == subscription(**TABLE, body="data", server="default", id="id", schema="public")
    different = [
        TABLE,
        {**TABLE, "order": "n"},
        {**TABLE, "server": "other"},
        {**TABLE, "done": "mark", "mark": "m"},
        LISTEN,
    ]
    assert len({subscription(**each) for each in different}) == len(different)


# -- statements --------------------------------------------------------------------------------------------------------------


def wanted(**changed: Any) -> TableSubscription:
    found = subscription(**{**TABLE, **changed})
    assert isinstance(found, TableSubscription)
    return found


COLUMNS = {
    "id": Column(type="bigint", key=True),
    "n": Column(type="integer", key=False),
    "done_at": Column(type="timestamp with time zone", key=False),
    "done": Column(type="boolean", key=False),
}


@pytest.mark.parametrize(
    ("changed", "columns", "said"),
    [
        ({}, {}, "there is no table public.outbox, or the user may not see it"),
        (
            {"id": "key"},
            COLUMNS,
            "parameters.id: the table public.outbox has no column key; it has done, done_at, id, n",
        ),
        ({"order": "key"}, COLUMNS, "parameters.order: the table public.outbox has no column key"),
        ({"id": "n"}, COLUMNS, "it must be NOT NULL and have a unique index of its own"),
        ({"done": "mark", "mark": "n"}, COLUMNS, "must be a timestamp or a boolean"),
        ({"time": "n"}, COLUMNS, "must be a timestamp"),
    ],
)
def test_a_table_that_cannot_be_read_is_told(changed: dict[str, Any], columns: dict[str, Column], said: str) -> None:
    assert said in str(problem_of(wanted(**changed), columns))


def test_statements_delete_or_mark() -> None:
    assert problem_of(wanted(), COLUMNS) is None
    deleting = statements_of(wanted(), COLUMNS)
    assert deleting.finish == 'DELETE FROM "public"."outbox" WHERE "id" = ANY($1::text[]::bigint[])'
    assert 'WHERE true ORDER BY "id" LIMIT' in deleting.claim
    marking = statements_of(wanted(order="n", done="mark", mark="done_at"), COLUMNS)
    assert 'WHERE "done_at" IS NULL ORDER BY "n", "id" LIMIT' in marking.claim
    assert 'SET "done_at" = pg_catalog.now() WHERE' in marking.finish
    flagging = statements_of(wanted(done="mark", mark="done"), COLUMNS)
    assert '"done" IS NOT TRUE' in flagging.claim
    assert 'SET "done" = true' in flagging.finish


@given(st.text(min_size=1).filter(lambda name: "\0" not in name))
def test_names_are_quoted_so_that_nothing_in_them_is_sql(name: str) -> None:
    sql = quoted(name)
    assert sql[0] == sql[-1] == '"'
    assert sql[1:-1].replace('""', "").count('"') == 0
    assert sql[1:-1].replace('""', '"') == name


def test_batches_grow_slowly_and_stay_small_in_bytes() -> None:
    assert next_count(32, []) == 32
    assert next_count(32, [100] * 32) == 64
    assert next_count(500, [100] * 500) == 500
    assert next_count(32, [1_000_000] * 32) == 4
    assert next_count(4, [100_000_000]) == 1


# -- payloads ----------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def row_of(columns: dict[str, Any], **types: str) -> Row:
    data = msgspec.json.encode(columns)
    return Row(id="7", size=len(data), data=data, types=types)


@given(st.dictionaries(st.text(), JSON), st.sampled_from([None, "data", "größer"]), st.booleans())
def test_payloads_are_json_that_the_manifest_declares(columns: dict[str, Any], body: str | None, whole: bool) -> None:
    parameters = TableParameters(table="outbox", done="delete", body=body)
    made = row_payload("shop/orders", parameters, row_of(columns), whole=whole)
    text = msgspec.json.encode(made)
    payload = msgspec.json.decode(text)
    PAYLOADS.validate(payload)
    assert b"\\u0000" not in text.replace(b"\\\\", b"")
    if whole:
        assert ("row" in payload) != ("rowText" in payload)
        assert ("body" in payload) == (body in columns)
        assert ("missing" in payload) == (body is not None and body not in columns)
    else:
        assert payload["truncated"]


def test_the_body_is_taken_out_of_the_row() -> None:
    parameters = TableParameters(table="outbox", done="delete", body="data")
    made = row_payload("shop/orders", parameters, row_of({"id": 7, "data": {"n": 1}}, data="jsonb"), whole=True)
    assert msgspec.json.decode(msgspec.json.encode(made)) == {
        "server": "default",
        "table": "public.outbox",
        "id": "7",
        "rule": "shop/orders",
        "encoding": "json",
        "body": {"n": 1},
        "row": {"id": 7},
    }


@pytest.mark.parametrize(
    ("value", "of_type", "encoding", "carried"),
    [
        (b"null", "jsonb", "none", None),
        (b'{"a":1}', "jsonb", "json", {"a": 1}),
        (b'"text"', "jsonb", "json", "text"),
        (b'"{\\"a\\":1}"', "text", "json", {"a": 1}),
        (b'"text"', "text", "text", "text"),
        (b'""', "text", "none", None),
        (b'"\\\\x7b7d"', "bytea", "json", {}),
        (b'"\\\\xff"', "bytea", "base64", "/w=="),
        (b'"\\\\x7b7d"', "text", "text", "\\x7b7d"),
        (b"12.50", "numeric", "json", 12.5),
        (b'{"a":"\\u0000"}', "json", "text", '{"a":"\\u0000"}'),
    ],
)
def test_a_column_is_carried_as_what_it_holds(value: bytes, of_type: str, encoding: str, carried: Any) -> None:
    body = body_of(value, of_type)
    made = body.carried
    assert (body.encoding, msgspec.json.decode(made) if isinstance(made, msgspec.Raw) else made) == (encoding, carried)


def test_a_row_that_is_too_large_is_told_without_its_columns() -> None:
    parameters = TableParameters(table="outbox", done="delete")
    made = row_payload("shop/orders", parameters, Row(id="7", size=10**9, data=None, types={}), whole=True)
    assert (made["id"], made["truncated"], made["bytes"]) == ("7", True, 10**9)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2025-11-28T03:00:00.123456+00:00", datetime(2025, 11, 28, 3, 0, 0, 123456, tzinfo=UTC)),
        ("2025-11-28T03:00:00.1+02:00", datetime(2025, 11, 28, 1, 0, 0, 100000, tzinfo=UTC)),
        ("2025-11-28T03:00:00", datetime(2025, 11, 28, 3, 0, tzinfo=UTC)),
        ("infinity", None),
        ("0044-03-15T00:00:00 BC", None),
        ("9999-12-31T23:59:59-10:00", None),
        (None, None),
    ],
)
def test_times_of_rows(written: str | None, read: datetime | None) -> None:
    assert time_of(msgspec.json.encode({"at": written}), "at") == read
    assert time_of(None, "at") is None
    assert time_of(b"{}", None) is None


@given(st.text(), st.booleans())
def test_notifications_are_payloads_that_the_manifest_declares(text: str, whole: bool) -> None:
    notification = Notification(text=text, heard_at=datetime(2025, 11, 28, tzinfo=UTC))
    made = notification_payload("shop/orders", ListenParameters(channel="orders"), notification, whole=whole)
    PAYLOADS.validate(msgspec.json.decode(msgspec.json.encode(made)))


def test_each_sensor_and_channel_has_a_lock_of_its_own() -> None:
    assert lock_of("a/b", "c") == lock_of("a/b", "c")
    assert len({lock_of("a/b", "c"), lock_of("a/b", "d"), lock_of("a/c", "c")}) == 3
    assert all(-(2**63) <= lock_of("a/b", str(number)) < 2**63 for number in range(100))


# -- configuration -----------------------------------------------------------------------------------------------------------


def servers(**server: Any) -> Any:
    return servers_of({"servers": {"default": server}})["default"]


def test_urls_are_read_as_people_have_them() -> None:
    server = servers(
        url="postgresql://attune@db1:5432,db2:5433/shop?sslmode=verify-full&target_session_attrs=read-write",
        password="attune-postgres/password",
        ca="attune-postgres/ca.crt",
    )
    assert (server.url.hosts, server.url.database, server.url.user) == (
        (("db1", 5432), ("db2", 5433)),
        "shop",
        "attune",
    )
    assert server.where == "db1:5432,db2:5433"
    url = connect_url(server, password="s3cret", ca_file=Path("/secrets/ca.crt"))
    assert url.password == "s3cret"
    assert dict(url.tls) == {"sslmode": "verify-full", "sslrootcert": "/secrets/ca.crt"}


@pytest.mark.parametrize(
    ("query", "ca", "tls"),
    [
        ("", None, {}),
        ("?sslmode=require", None, {"sslmode": "require"}),
        ("?sslmode=verify-full", None, {"sslmode": "verify-full", "sslrootcert": "system"}),
        ("", "s/ca.crt", {"sslmode": "verify-full", "sslrootcert": "/ca.crt"}),
        ("?sslmode=verify-ca", "s/ca.crt", {"sslmode": "verify-ca", "sslrootcert": "/ca.crt"}),
    ],
)
def test_how_the_certificate_is_checked(query: str, ca: str | None, tls: dict[str, str]) -> None:
    server = servers(url=f"postgresql://a@db/shop{query}", ca=ca)
    assert dict(connect_url(server, password=None, ca_file=Path("/ca.crt") if ca else None).tls) == tls


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"url": "redis://db/0"}, "not a database URL"),
        ({"url": "postgresql://a@/shop"}, "url is not like postgresql://user@host:5432/database"),
        ({"url": "postgresql://a@db"}, "url is not like"),
        ({"url": "postgresql://a:s3cret@db/shop"}, "url holds a password"),
        ({"url": "postgresql://a@db/shop?password=s3cret"}, "url holds a password"),
        ({"url": "postgresql://a@db/shop", "username": "b"}, "leave one of them out"),
        ({"url": "postgresql://db/shop"}, "no user"),
        ({"url": "postgresql://a@db/shop?sslrootcert=/ca.crt"}, "write ca as a reference like secret/ca.crt"),
        ({"url": "postgresql://a@db/shop?sslcert=/c&sslkey=/k"}, "the pod has no such file"),
        ({"url": "postgresql://a@db/shop?sslmode=prefer", "ca": "s/ca.crt"}, "so ca is never used"),
        ({"url": "postgresql://a@db/shop?passfile=/p"}, "url says passfile"),
        ({"url": "postgresql://a@db/shop?target_session_attrs=standby"}, "which cannot be had"),
        ({"url": "postgresql://a@db/shop", "password": "plain text"}, "password"),
        ({"url": "postgresql://a@db/shop", "port": 5}, "port"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_told(server: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as error:
        servers(**server)
    assert said in str(error.value)
    assert "s3cret" not in str(error.value)
