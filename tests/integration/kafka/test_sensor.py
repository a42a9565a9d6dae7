"""The Kafka sensor against a real broker."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.eventually import until
from support.harness_events import payloads
from support.jars import JarsError, jars
from support.kafka_server import PRESENT, KafkaServer

from attune_kafka.__main__ import handler
from attune_kafka.parameters import own_group
from attune_sensor import AckState, Rule, SensorContext, SourceHandler
from attune_sensor.testing import FakeApi, SensorHarness

TYPE = "core.kafkatopic"

pytestmark = pytest.mark.skipif(not PRESENT, reason="needs Java and Maven")


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """One broker for this module: it takes seconds to start. Each test has a topic of its own."""
    try:
        asyncio.run(jars("kafka"))
    except JarsError as error:
        pytest.skip(f"Apache Kafka cannot be had here: {error}")
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture
def topic(kafka: KafkaServer, request: pytest.FixtureRequest) -> str:
    """A topic with one partition, of this test's own."""
    name = str(request.node.name)[:200].replace("[", "-").replace("]", "")
    kafka.make(name)
    return name


def sensor(
    kafka: KafkaServer,
    *,
    api: FakeApi | None = None,
    secrets: Path | None = None,
    contexts: list[SensorContext] | None = None,
    **server: Any,
) -> SensorHarness:
    def noted(context: SensorContext) -> SourceHandler:
        if contexts is not None:
            contexts.append(context)
        return handler(context)

    access = {"bootstrapServers": kafka.address, "sessionSeconds": 2}
    return SensorHarness(
        noted,
        trigger_types=[TYPE],
        config={"servers": {"default": {**access, **server}}},
        settings={"secrets_dir": secrets},
        api=api,
    )


async def active(harness: SensorHarness, topic: str, name: str = "rule", **parameters: Any) -> Rule:
    rule = harness.apply(TYPE, {"topic": topic, **parameters}, name=name)
    await harness.wait_for(rule, AckState.ACTIVE)
    return rule


async def acknowledged(kafka: KafkaServer, topic: str) -> None:
    """Wait until all records are."""
    group = own_group("default/under-test", topic, "latest")

    def is_so() -> bool:
        return kafka.behind(topic, group) == 0

    await until(lambda: asyncio.to_thread(is_so), every=0.1)


async def offsets(harness: SensorHarness, number: int) -> list[int]:
    return [payload["offset"] for payload in await payloads(harness, number)]


async def test_records_become_events_with_their_keys_headers_and_times(kafka: KafkaServer, topic: str) -> None:
    kafka.send(topic, "before")
    async with sensor(kafka) as harness:
        rule = await active(harness, topic)
        headers = [("trace", b"a"), ("trace", "größer".encode()), ("raw", b"\xff"), ("none", None)]
        kafka.send(topic, '{"price": 7}', key="k-1", headers=headers, timestamp=1_764_298_800_123)
        event = await harness.next_event()
        assert event.payload == {
            "server": "default",
            "topic": topic,
            "partition": 0,
            "offset": 1,
            "rule": rule.ref,
            "key": "k-1",
            "headers": {"trace": "größer", "raw": "/w==", "none": None},
            "base64": ["headers.raw"],
            "encoding": "json",
            "body": {"price": 7},
        }
        assert int(event.occurred_at.timestamp() * 1000) == 1_764_298_800_123
        kafka.send(topic, None, "not json", b"\xff", "x" * 800_000, key=b"\xff")
        tombstone, text, binary, large = await payloads(harness, 4)
        assert (tombstone["tombstone"], tombstone["encoding"], tombstone["body"]) == (True, "none", None)
        assert (text["encoding"], text["body"], text["key"], text["base64"]) == ("text", "not json", "/w==", ["key"])
        assert (binary["encoding"], binary["body"]) == ("base64", "/w==")
        assert (large["truncated"], large["bytes"]) == (True, 800_001)
        await acknowledged(kafka, topic)


async def test_what_comes_while_the_sensor_is_down_is_read_after_its_start(kafka: KafkaServer, topic: str) -> None:
    api = FakeApi()
    async with sensor(kafka, api=api) as harness:
        await active(harness, topic)
    kafka.send(topic, "1")
    async with sensor(kafka, api=api) as harness:
        await active(harness, topic)
        assert await offsets(harness, 1) == [0]


async def test_from_the_earliest_and_two_rules_share_what_they_read_alike(kafka: KafkaServer, topic: str) -> None:
    kafka.send(topic, "1", "2")
    async with sensor(kafka) as harness:
        await active(harness, topic, name="one", **{"from": "earliest"})
        await active(harness, topic, name="two", **{"from": "earliest"})
        await active(harness, topic, name="three", group="another")
        seen = await payloads(harness, 4)
        assert sorted((payload["rule"], payload["offset"]) for payload in seen if payload["offset"] < 2) == [
            ("default/one", 0), ("default/one", 1), ("default/two", 0), ("default/two", 1),
        ]  # fmt: skip
        kafka.send(topic, "3")
        assert sorted(payload["rule"] for payload in await payloads(harness, 3)) == [
            "default/one", "default/three", "default/two",
        ]  # fmt: skip


async def test_a_topic_that_comes_later_is_read_from_its_beginning(kafka: KafkaServer) -> None:
    async with sensor(kafka) as harness:
        rule = harness.apply(TYPE, {"topic": "later"})
        assert "the topic later is not there" in await harness.wait_for(rule, AckState.FAILING)
        assert "later" not in kafka.admin.list_topics(timeout=30).topics  # it is the broker that would make it
        kafka.make("later")
        kafka.send("later", "1")
        assert await offsets(harness, 1) == [0]
        await harness.wait_for(rule, AckState.ACTIVE)


async def test_a_topic_that_is_made_again_has_other_events(kafka: KafkaServer, topic: str) -> None:
    async with sensor(kafka) as harness:
        rule = await active(harness, topic)
        kafka.send(topic, "1")
        assert await offsets(harness, 1) == [0]
        kafka.delete(topic)
        await harness.wait_for(rule, AckState.FAILING)
        kafka.make(topic)
        kafka.send(topic, "2")
        [payload] = await payloads(harness, 1)
        assert (payload["offset"], payload["body"]) == (0, 2)


async def test_records_that_retention_took_are_said_and_counted(kafka: KafkaServer, topic: str) -> None:
    api = FakeApi()
    async with sensor(kafka, api=api) as harness:
        await active(harness, topic)
        kafka.send(topic, "0")
        await offsets(harness, 1)
        await acknowledged(kafka, topic)
    kafka.send(topic, *"12345")
    kafka.forget(topic, 4)
    contexts: list[SensorContext] = []
    async with sensor(kafka, api=api, contexts=contexts) as harness:
        rule = await active(harness, topic)
        assert await offsets(harness, 2) == [4, 5]
        await until(lambda: "deleted the offsets 1 to 3 (retention)" in harness.message(rule))
        assert contexts[-1].metrics.registry.get_sample_value("attune_kafka_lost_records_total") == 3
        await acknowledged(kafka, topic)


async def test_the_records_of_a_new_partition_are_all_read(kafka: KafkaServer, topic: str) -> None:
    api = FakeApi()
    async with sensor(kafka, api=api) as harness:
        await active(harness, topic)
    kafka.widen(topic, 2)
    kafka.send(topic, "1", "2", partition=1)
    async with sensor(kafka, api=api) as harness:
        await active(harness, topic)
        assert await offsets(harness, 2) == [0, 1]


async def test_while_the_api_is_away_another_replica_gets_its_part(kafka: KafkaServer) -> None:
    kafka.make("shared", partitions=2)
    api = FakeApi()
    async with sensor(kafka, api=api) as one:
        await active(one, "shared")
        api.available = False
        for partition in (0, 1):
            kafka.send("shared", *"123", partition=partition)
        await until(lambda: one.undelivered > 0)
        async with sensor(kafka) as two:  # with an API that is there
            await active(two, "shared")
            # One partition moves to it, with what its first reader has not acknowledged.
            moved = await payloads(two, 3)
            [partition] = {payload["partition"] for payload in moved}
            assert [payload["offset"] for payload in moved] == [0, 1, 2]
            api.available = True
            kept: list[int] = []
            while len(kept) < 3:
                payload = (await one.next_event()).payload
                kept += [payload["offset"]] if payload["partition"] != partition else []
            assert kept == [0, 1, 2]
            await acknowledged(kafka, "shared")


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_with_tls_and_a_password(kafka: KafkaServer, topic: str, mechanism: str, tmp_path: Path) -> None:
    access = kafka.secure_access(mechanism)
    async with sensor(kafka, secrets=tmp_path, **access) as harness:
        rule = harness.apply(TYPE, {"topic": topic})
        assert "attune-kafka/password is not mounted" in await harness.wait_for(rule, AckState.FAILING)
        kafka.place_secrets(tmp_path, password="wrong")
        await until(lambda: "does not accept the credentials" in harness.message(rule))
        kafka.place_secrets(tmp_path)
        await harness.wait_for(rule, AckState.ACTIVE)
        kafka.send(topic, "1")
        assert await offsets(harness, 1) == [0]


async def test_a_broker_of_another_authority_is_not_trusted(kafka: KafkaServer, topic: str, tmp_path: Path) -> None:
    access = {**kafka.secure_access("PLAIN"), "ca": None}
    kafka.place_secrets(tmp_path)
    async with sensor(kafka, secrets=tmp_path, **access) as harness:
        rule = harness.apply(TYPE, {"topic": topic})
        assert "the TLS connection to" in await harness.wait_for(rule, AckState.FAILING)


async def test_a_broker_that_is_restarted_is_told_and_nothing_is_lost(kafka: KafkaServer, topic: str) -> None:
    async with sensor(kafka) as harness:
        rule = await active(harness, topic)
        kafka.send(topic, "1")
        assert await offsets(harness, 1) == [0]
        await acknowledged(kafka, topic)
        kafka.kill()
        assert f"{kafka.address} cannot be reached" in await harness.wait_for(rule, AckState.FAILING)
        await asyncio.to_thread(kafka.start)
        kafka.send(topic, "2")
        await harness.wait_for(rule, AckState.ACTIVE)
        assert await offsets(harness, 1) == [1]
        await acknowledged(kafka, topic)
