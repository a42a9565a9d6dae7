"""The Kafka sensor's rules, payloads, positions and configuration; and that its manifest agrees with its program."""

import asyncio
import threading
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
from attune_kafka.config import connection_settings, consumer_settings, servers_of
from attune_kafka.parameters import Subscription, own_group, subscription_of
from attune_kafka.payload import Content, header_of, occurred_at, occurrence_of, payload_of, size_of
from attune_kafka.positions import Gap, Place, Turns, is_new
from attune_kafka.reader import TopicReader
from attune_kafka.source import KafkaTopic
from attune_sensor import InvalidRuleError, Rule, SettingsError

PACK = Path(__file__).parents[3] / "packs" / "kafka" / "core.kafka.yaml"
SENSOR = SensorResource.from_object(yaml.safe_load(PACK.read_text()))
DECLARED = SENSOR.spec.canonical("core.kafkatopic")
assert DECLARED is not None
PAYLOADS = jsonschema.Draft202012Validator(DECLARED.payload_schema or {})
PARAMETERS = jsonschema.Draft202012Validator(DECLARED.parameters_schema or {})


def rule(**parameters: Any) -> Rule:
    return Rule(state=rule_state(trigger_type="core.kafkatopic", parameters=parameters), since_us=0)


@pytest.mark.parametrize(
    ("parameters", "good"),
    [
        ({"topic": "orders"}, True),
        ({"topic": "shop.orders_v-2", "server": "default", "group": "g", "from": "earliest"}, True),
        ({}, False),
        ({"topic": ""}, False),
        ({"topic": 5}, False),
        ({"topic": "x" * 250}, False),
        ({"topic": "two words"}, False),
        ({"topic": "orders", "from": "yesterday"}, False),
        ({"topic": "orders", "group": ""}, False),
        ({"topic": "orders", "password": "secret"}, False),
    ],
)
def test_the_manifest_and_the_program_agree(parameters: dict[str, Any], good: bool) -> None:
    assert PARAMETERS.is_valid(parameters) == good
    if good:
        subscription_of(rule(**parameters), servers=["default"], sensor="a/b")
    else:
        with pytest.raises(InvalidRuleError):
            subscription_of(rule(**parameters), servers=["default"], sensor="a/b")


def test_the_samples_and_the_configuration_of_the_pack_can_be_used() -> None:
    for sample in (DECLARED.parameters_schema or {})["examples"] if DECLARED else []:
        subscription_of(rule(**sample), servers=servers_of(SENSOR.spec.config or {}), sensor="a/b")


def test_rules_share_what_they_read_alike_and_groups_of_our_own_differ() -> None:
    def read(**parameters: Any) -> Subscription:
        return subscription_of(rule(**{"topic": "orders", **parameters}), servers=["default", "other"], sensor="a/b")

    assert read() == read(server="default", group="attune/a/b/orders")
    several = [
        read(),
        read(group="g"),
        read(server="other"),
        read(**{"from": "earliest"}),
        read(topic="orders.earliest"),
    ]
    assert len(set(several)) == len(several)
    assert own_group("a/b", "t", "latest") != own_group("a/b", "t", "earliest")


def test_a_server_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(InvalidRuleError, match=r"no server 'default' .* it has a, b"):
        subscription_of(rule(topic="orders"), servers=["b", "a"], sensor="a/b")


CONTENTS = st.builds(
    Content,
    server=st.just("default"),
    topic=st.just("orders"),
    partition=st.integers(0, 9),
    offset=st.integers(0, 2**63 - 1),
    timestamp=st.none() | st.integers(-(2**63), 2**63 - 1),
    key=st.none() | st.binary(),
    headers=st.lists(st.tuples(st.text(), st.none() | st.binary()), max_size=4),
    value=st.none() | st.binary() | st.sampled_from([b'{"a": 1}', b'"\\u0000"', b"text", b"[" * 50]),
)


@given(CONTENTS, st.booleans())
def test_every_record_has_a_payload_that_the_schema_allows_and_that_can_be_stored(
    content: Content, whole: bool
) -> None:
    payload = msgspec.json.decode(
        msgspec.json.encode(payload_of("shop/orders", content, size=size_of(content), whole=whole))
    )
    PAYLOADS.validate(payload)
    # A text that only mentions the escape has a backslash before it.
    assert "\\u0000" not in msgspec.json.encode({**payload, "body": None}).decode().replace("\\\\", "")
    time = occurred_at(content)
    assert time is None or datetime(2001, 1, 1, tzinfo=UTC) <= time <= datetime(2192, 1, 1, tzinfo=UTC)


def record(**given: Any) -> Content:
    usual: dict[str, Any] = {"server": "default", "topic": "orders", "partition": 3, "offset": 17}
    return Content(**{**usual, "timestamp": 1_764_298_800_000, "key": None, "headers": (), "value": b"1", **given})


def test_a_record_is_named_by_its_place_and_by_what_tells_apart_those_that_had_the_same_place() -> None:
    def name(content: Content, topic_id: str = "id", epoch: int | None = 2) -> str:
        return occurrence_of(content, topic_id=topic_id, leader_epoch=epoch)

    assert name(record()) == "default/orders/id/3/2/17"
    assert name(record(), epoch=None) == "default/orders/id/3//17"
    others = [name(record(partition=4)), name(record(offset=18)), name(record(), topic_id="x"), name(record(), epoch=3)]
    assert len({name(record()), name(record(server="other")), name(record(topic="o")), *others}) == 7


def test_the_last_value_of_a_header_counts() -> None:
    headers = [("traceparent", b"00-1"), ("other", None), ("traceparent", b"00-2")]
    assert [header_of(record(headers=headers), name) for name in ("traceparent", "other", "none")] == ["00-2", "", ""]


def test_a_tombstone_and_an_empty_value_differ() -> None:
    tombstone = payload_of("a/b", record(value=None, key=b"k"), size=1, whole=True)
    empty = payload_of("a/b", record(value=b"", key=b"k"), size=1, whole=True)
    assert (tombstone["tombstone"], tombstone["encoding"]) == (True, "none")
    assert ("tombstone" in empty, empty["encoding"]) == (False, "none")


def test_what_was_read_before_a_partition_went_away_is_not_committed() -> None:
    turns = Turns()
    turns.begin([0, 1])
    first, other = turns.of(0), turns.of(1)
    assert first is not None
    assert other is not None
    places = [Place(0, first, 4, 0), Place(1, other, 9, 1), Place(0, first, 5, 0)]
    assert turns.furthest(places) == [Place(0, first, 5, 0), Place(1, other, 9, 1)]
    turns.end([0])
    assert turns.furthest(places) == [Place(1, other, 9, 1)]
    turns.begin([0])  # it came back; another replica may have read on meanwhile
    assert turns.furthest(places) == [Place(1, other, 9, 1)]
    assert turns.partitions == [0, 1]


@pytest.mark.parametrize(
    ("committed", "new"), [({0: None, 1: None}, True), ({0: None, 1: 0}, False), ({0: 5}, False), ({}, True)]
)
def test_a_group_is_new_as_long_as_it_has_no_position_at_all(committed: dict[int, int | None], new: bool) -> None:
    assert is_new(committed) == new


def test_a_gap_says_what_is_lost() -> None:
    assert (Gap(1, 5, 9).lost, Gap(1, 9, 5).lost) == (4, 0)
    assert "offsets 5 to 8" in Gap(1, 5, 9).text
    assert "read again from its beginning" in Gap(1, 9, 5).text


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ({"bootstrapServers": "kafka"}, "not like host:9092"),
        ({"bootstrapServers": "kafka:9092,"}, "not like host:9092"),
        ({"bootstrapServers": "kafka:99999"}, "not like host:9092"),
        ({"bootstrapServers": "PLAINTEXT://kafka:9092"}, "not like host:9092"),
        ({"bootstrapServers": "kafka:9092", "ca": "a/b"}, "ca is never used"),
        ({"bootstrapServers": "kafka:9092", "username": "me"}, "belong together"),
        ({"bootstrapServers": "kafka:9092", "username": "me", "password": "a/b"}, "belong together"),
        ({"bootstrapServers": "kafka:9092", "username": "me", "password": "secret", "mechanism": "PLAIN"}, "password"),
        ({"bootstrapServers": "kafka:9092", "mechanism": "GSSAPI"}, "GSSAPI"),
        ({"bootstrapServers": "kafka:9092", "sessionSeconds": 0}, "sessionSeconds"),
        ({}, "bootstrapServers"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(server: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        servers_of({"servers": {"default": server}})


async def test_a_consumer_is_closed_although_whoever_waits_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, closed = threading.Event(), threading.Event()
    monkeypatch.setattr(TopicReader, "read", lambda self, *, wait: reading.wait(30) and [])
    monkeypatch.setattr(TopicReader, "close", lambda self: closed.set())
    wanted = subscription_of(rule(topic="orders"), servers=["default"], sensor="a/b")
    server = servers_of({"servers": {"default": {"bootstrapServers": "127.0.0.1:9"}}})["default"]
    source = KafkaTopic(
        wanted,
        connection=connection_settings(server, name="n", password=None, ca_file=None),
        consumer=consumer_settings(server, group=wanted.group),
        seen={},
        on_gap=lambda gap: None,
    )
    read = asyncio.create_task(source.read())
    await asyncio.sleep(0)
    closing = asyncio.create_task(source.close())
    await asyncio.sleep(0)
    for task in (read, closing):
        task.cancel()
    await asyncio.wait({read, closing})
    assert not closed.is_set()  # the read before it still runs
    reading.set()
    assert await asyncio.to_thread(closed.wait, 30)


def test_names_of_servers_are_part_of_event_ids() -> None:
    with pytest.raises(SettingsError, match="is no name"):
        servers_of({"servers": {"a/b": {"bootstrapServers": "kafka:9092"}}})


@pytest.mark.parametrize("address", ["kafka-0.kafka:9092, kafka-1.kafka:9092", "[::1]:9092", "127.0.0.1:9092"])
def test_addresses_that_can_be_used(address: str) -> None:
    assert servers_of({"servers": {"default": {"bootstrapServers": address}}})


def test_the_client_is_told_what_the_configuration_says_and_never_moves_a_position_by_itself() -> None:
    given = {
        "bootstrapServers": "k:9093",
        "tls": True,
        "username": "me",
        "password": "a/b",
        "mechanism": "SCRAM-SHA-256",
    }
    server = servers_of({"servers": {"default": given}})["default"]
    connection = connection_settings(server, name="n", password="s", ca_file="/ca")
    assert connection["security.protocol"] == "SASL_SSL"
    assert (connection["sasl.mechanism"], connection["sasl.username"], connection["sasl.password"]) == (
        "SCRAM-SHA-256", "me", "s",
    )  # fmt: skip
    assert connection["ssl.ca.location"] == "/ca"
    plain = servers_of({"servers": {"default": {"bootstrapServers": "k:9092"}}})["default"]
    assert connection_settings(plain, name="n", password=None, ca_file=None)["security.protocol"] == "PLAINTEXT"
    consumer = consumer_settings(server, group="g")
    assert (consumer["enable.auto.commit"], consumer["auto.offset.reset"]) == (False, "error")
    assert consumer["session.timeout.ms"] == 10_000
