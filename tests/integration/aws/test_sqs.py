"""The AWS sensor against a real ElasticMQ server."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.elasticmq_server import ACCOUNT, PRESENT, ElasticMq
from support.eventually import until
from support.harness_events import payloads

from attune_aws.__main__ import handler
from attune_sensor import AckState, Rule
from attune_sensor.testing import FakeApi, SensorHarness

pytestmark = pytest.mark.skipif(not PRESENT, reason="needs Java and Maven")

TYPE = "core.sqsqueue"


@pytest.fixture(scope="module")
def sqs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElasticMq]:
    """A server for this module: each test has a queue of its own."""
    with ElasticMq(tmp_path_factory.mktemp("elasticmq")) as server:
        yield server


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    ElasticMq.place_keys(tmp_path / "secrets")
    return tmp_path / "secrets"


def sensor(sqs: ElasticMq, secrets: Path | None, *, api: FakeApi | None = None, **server: Any) -> SensorHarness:
    return SensorHarness(
        handler,
        trigger_types=[TYPE],
        config={"servers": {"default": {**sqs.access, **server}}},
        settings={"secrets_dir": secrets},
        api=api,
    )


async def active(harness: SensorHarness, queue: str, name: str = "rule", **parameters: Any) -> Rule:
    rule = harness.apply(TYPE, {"queue": queue, **parameters}, name=name)
    await harness.wait_for(rule, AckState.ACTIVE)
    return rule


async def empty(sqs: ElasticMq, queue: str) -> None:
    await until_in_thread(lambda: sqs.counts(queue) == (0, 0))


async def until_in_thread(check: Any) -> None:
    await until(lambda: asyncio.to_thread(check), within=60)


async def in_thread(call: Any, *arguments: Any, **given: Any) -> Any:
    return await asyncio.to_thread(call, *arguments, **given)


async def test_messages_become_events_and_are_deleted(sqs: ElasticMq, secrets: Path) -> None:
    await in_thread(sqs.make, "orders")
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    attributes = {
        "kind": {"DataType": "String", "StringValue": "größer"},
        "price": {"DataType": "Number", "StringValue": "7.10"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\xff"},
        "traceparent": {"DataType": "String", "StringValue": trace},
    }
    [sent] = await in_thread(sqs.send, "orders", '{"price": 7}', MessageAttributes=attributes)
    async with sensor(sqs, secrets) as harness:
        rule = await active(harness, "orders")
        event = await harness.next_event()
        assert event.payload == {
            "server": "default",
            "queue": "orders",
            "id": sent,
            "rule": rule.ref,
            "receiveCount": 1,
            "attributes": {
                "kind": "größer",
                "price": "7.10",
                "raw": "/w==",
                "traceparent": trace,
            },
            "base64": ["raw"],
            "encoding": "json",
            "body": {"price": 7},
        }
        assert event.traceparent == trace
        await empty(sqs, "orders")


async def test_rules_of_one_queue_share_its_messages(sqs: ElasticMq, secrets: Path) -> None:
    await in_thread(sqs.make, "shared")
    async with sensor(sqs, secrets) as harness:
        await active(harness, "shared", "one")
        await active(harness, "shared", "two", unwrap="sns")
        await in_thread(sqs.send, "shared", "1", "2", "3")
        found = await payloads(harness, 6)
        assert {(payload["rule"].split("/")[1], payload["body"]) for payload in found} == {
            (name, body) for name in ("one", "two") for body in (1, 2, 3)
        }
        # Under its URL it is the same queue, and would have another reader.
        other = harness.apply(TYPE, {"queue": sqs.url("shared")}, name="three")
        assert "write it alike" in await harness.wait_for(other, AckState.FAILING)
        await empty(sqs, "shared")


async def test_groups_keep_their_order_and_a_url_names_a_queue(sqs: ElasticMq, secrets: Path) -> None:
    await in_thread(sqs.make, "groups.fifo", ContentBasedDeduplication="true")
    for group in range(2):
        bodies = [json.dumps({"n": number}) for number in range(group, 15, 2)]
        await in_thread(sqs.send, "groups.fifo", *bodies, MessageGroupId=f"g{group}")
    async with sensor(sqs, secrets) as harness:
        await active(harness, f"https://sqs.eu-central-1.amazonaws.com/{ACCOUNT}/groups.fifo")
        found = await payloads(harness, 15)
        for group in range(2):
            numbers = [payload["body"]["n"] for payload in found if payload["group"] == f"g{group}"]
            assert numbers == list(range(group, 15, 2))
        await empty(sqs, "groups.fifo")


async def test_what_is_not_stored_is_held_and_is_one_event_after_a_restart(sqs: ElasticMq, secrets: Path) -> None:
    await in_thread(sqs.make, "held")
    api = FakeApi()
    async with sensor(sqs, secrets, api=api, visibilitySeconds=10) as harness:
        await active(harness, "held")
        api.available = False
        [sent] = await in_thread(sqs.send, "held", "1")
        await until_in_thread(lambda: sqs.counts("held") == (0, 1))
    # It is given back at once.
    await until_in_thread(lambda: sqs.counts("held") == (1, 0))
    api.available = True
    async with sensor(sqs, secrets, api=api) as harness:
        await active(harness, "held")
        [payload] = await payloads(harness, 1)
        assert (payload["id"], payload["receiveCount"]) == (sent, 2)
        await empty(sqs, "held")


async def test_a_notification_of_s3_is_an_event_for_each_object(sqs: ElasticMq, secrets: Path) -> None:
    await in_thread(sqs.make, "objects")
    records = [
        {
            "eventName": "ObjectCreated:Put",
            "eventTime": "2026-11-28T13:00:00.000Z",
            "s3": {"bucket": {"name": "inbox"}, "object": {"key": key, "size": 5, "sequencer": f"0{number}"}},
        }
        for number, key in enumerate(["a+b.csv", "%C3%A9.csv"])
    ]
    notification = json.dumps({"Records": records})
    envelope = json.dumps({"Type": "Notification", "MessageId": "m-1", "TopicArn": "arn:t", "Message": notification})
    async with sensor(sqs, secrets) as harness:
        await active(harness, "objects", unwrap="s3")
        # Told twice, once through a topic: S3 delivers at least once.
        await in_thread(sqs.send, "objects", '{"Event": "s3:TestEvent"}', notification, envelope, "poison")
        found = await payloads(harness, 3)
        assert sorted(payload["s3"]["key"] for payload in found if "s3" in payload) == ["a b.csv", "é.csv"]
        assert [payload["body"] for payload in found if "s3" not in payload] == ["poison"]
        await empty(sqs, "objects")


async def test_what_cannot_be_read_is_said(sqs: ElasticMq, secrets: Path) -> None:
    async with sensor(sqs, secrets) as harness:
        missing = harness.apply(TYPE, {"queue": "nothing"}, name="missing")
        assert "has no queue nothing" in await harness.wait_for(missing, AckState.FAILING)
        unknown = harness.apply(TYPE, {"queue": "orders", "server": "other"}, name="unknown")
        assert "no server 'other'" in await harness.wait_for(unknown, AckState.REJECTED)
        await in_thread(sqs.make, "nothing")
        await harness.wait_for(missing, AckState.ACTIVE)


async def test_a_server_that_is_restarted_is_told_and_nothing_is_lost(sqs: ElasticMq, secrets: Path) -> None:
    await in_thread(sqs.make, "restarted")
    async with sensor(sqs, secrets) as harness:
        rule = await active(harness, "restarted")
        sqs.kill()
        assert f"127.0.0.1:{sqs.port}" in await harness.wait_for(rule, AckState.FAILING)
        await in_thread(sqs.start)
        await in_thread(sqs.send, "restarted", "1")
        assert [payload["body"] for payload in await payloads(harness, 1)] == [1]
        await empty(sqs, "restarted")


async def test_missing_keys_are_said(sqs: ElasticMq, tmp_path: Path) -> None:
    async with sensor(sqs, tmp_path) as harness:
        rule = harness.apply(TYPE, {"queue": "orders"})
        assert "attune-aws/access-key-id is not mounted" in await harness.wait_for(rule, AckState.FAILING)
