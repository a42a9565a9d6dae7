"""The Redis sensor's rules, payloads and configuration; and that its manifest agrees with its program."""

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
from attune_redis.config import Server, servers_of
from attune_redis.parameters import Parameters, Subscription, subscription_of
from attune_redis.payload import occurred_at, payload_of
from attune_redis.source import entries_of, next_count
from attune_sensor import InvalidRuleError, Rule, SettingsError

PACK = Path(__file__).parents[3] / "packs" / "redis" / "core.redis.yaml"
SENSOR = SensorResource.from_object(yaml.safe_load(PACK.read_text()))
DECLARED = SENSOR.spec.canonical("core.redisstream")
assert DECLARED is not None
PAYLOADS = jsonschema.Draft202012Validator(DECLARED.payload_schema or {})
PARAMETERS = jsonschema.Draft202012Validator(DECLARED.parameters_schema or {})


def rule(**parameters: Any) -> Rule:
    return Rule(state=rule_state(trigger_type="core.redisstream", parameters=parameters), since_us=0)


@pytest.mark.parametrize(
    ("parameters", "good"),
    [
        ({"stream": "orders"}, True),
        ({"stream": "orders", "server": "default", "group": "g", "from": "beginning", "body": "data"}, True),
        ({}, False),
        ({"stream": ""}, False),
        ({"stream": 5}, False),
        ({"stream": "x" * 513}, False),
        ({"stream": "orders", "from": "yesterday"}, False),
        ({"stream": "orders", "group": ""}, False),
        ({"stream": "orders", "body": ""}, False),
        ({"stream": "orders", "password": "secret"}, False),
    ],
)
def test_the_manifest_and_the_program_agree(parameters: dict[str, Any], good: bool) -> None:
    assert PARAMETERS.is_valid(parameters) == good
    if good:
        subscription_of(rule(**parameters), servers=["default"], group="own")
    else:
        with pytest.raises(InvalidRuleError):
            subscription_of(rule(**parameters), servers=["default"], group="own")


def test_the_samples_and_the_configuration_of_the_pack_can_be_used() -> None:
    for sample in (DECLARED.parameters_schema or {})["examples"] if DECLARED else []:
        subscription_of(rule(**sample), servers=servers_of(SENSOR.spec.config or {}), group="own")


def test_rules_share_what_they_read_alike() -> None:
    def read(**parameters: Any) -> Subscription:
        return subscription_of(rule(stream="orders", **parameters), servers=["default", "other"], group="own")

    assert read() == read(body="data") == read(group="own", server="default")
    assert len({read(), read(group="g"), read(server="other"), read(**{"from": "beginning"})}) == 4


def test_a_server_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(InvalidRuleError, match=r"no server 'default' .* it has a, b"):
        subscription_of(rule(stream="orders"), servers=["b", "a"], group="own")


@given(
    st.none() | st.dictionaries(st.binary(), st.binary()),
    st.sampled_from([None, "data", "größer"]),
    st.booleans(),
    st.binary(),
)
def test_payloads_are_json_that_the_manifest_declares(
    fields: dict[bytes, bytes] | None, body: str | None, whole: bool, value: bytes
) -> None:
    if fields is not None and body is not None:
        fields = {**fields, body.encode(): value}
    parameters = Parameters(stream="orders", body=body)
    made = payload_of("shop/orders", parameters, entry="1-1", fields=fields, whole=whole)
    text = msgspec.json.encode(made)
    payload = msgspec.json.decode(text)
    PAYLOADS.validate(payload)
    assert b"\\u0000" not in text.replace(b"\\\\", b"")
    if fields is not None and whole:
        assert len(payload["fields"]) <= len(fields)
        assert ("body" in payload) == (body is not None)


def test_times_come_from_ids_that_are_times() -> None:
    assert occurred_at("1764298800123-7") == datetime(2025, 11, 28, 3, 0, 0, 123000, tzinfo=UTC)
    assert occurred_at("1-1") is None
    assert occurred_at("18446744073709551615-0") is None


def test_batches_grow_slowly_and_stay_small_in_bytes() -> None:
    assert next_count(32, []) == 32
    assert next_count(32, [100] * 32) == 64
    assert next_count(500, [100] * 500) == 500
    assert next_count(32, [1_000_000] * 32) == 4
    assert next_count(4, [100_000_000]) == 1


@pytest.mark.parametrize(
    "answer",
    [
        [[b"s", [(b"1-1", {b"a": b"b"}), (b"1-2", {})]]],
        {b"s": [[(b"1-1", {b"a": b"b"}), (b"1-2", None)]]},
    ],
)
def test_answers_of_both_protocols_are_read(answer: Any) -> None:
    assert entries_of(answer) == [(b"1-1", {b"a": b"b"}), (b"1-2", None)]
    assert entries_of(None) == entries_of([]) == []


def test_servers_are_read() -> None:
    config = {
        "servers": {
            "default": {"url": "redis://redis"},
            "tls": {"url": "rediss://[::1]:6380/3", "username": "u", "password": "s/password", "ca": "s/ca.crt"},
        }
    }
    plain = Server(
        name="default", host="redis", port=6379, database=0, tls=False, username=None, password=None, ca=None
    )
    assert servers_of(config) == {
        "default": plain,
        "tls": Server(
            name="tls", host="::1", port=6380, database=3, tls=True, username="u", password="s/password", ca="s/ca.crt"
        ),
    }


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"server": {}}, "unknown field `server`"),
        ({"servers": {"a": {}}}, "missing required field `url`"),
        ({"servers": {"a/b": {"url": "redis://r"}}}, "no name"),
        ({"servers": {"a": {"url": "http://r"}}}, "not like redis://"),
        ({"servers": {"a": {"url": "redis://u:p@r"}}}, "holds credentials"),
        ({"servers": {"a": {"url": "redis://r/x"}}}, "not the number of a database"),
        ({"servers": {"a": {"url": "redis://r:99999"}}}, "no number from 1 to 65535"),
        ({"servers": {"a": {"url": "redis://r", "ca": "s/ca"}}}, "write rediss://"),
        ({"servers": {"a": {"url": "redis://r", "password": "../../etc/passwd"}}}, "regex"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_why(config: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        servers_of(config)
