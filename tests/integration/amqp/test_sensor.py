"""The AMQP sensor against a real RabbitMQ server."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.eventually import until
from support.harness_events import payloads
from support.rabbitmq_server import NoName, RabbitServer

from attune_amqp.__main__ import handler
from attune_sensor import AckState, Rule, SettingsError
from attune_sensor.testing import FakeApi, SensorHarness

TYPE = "core.amqpqueue"


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """One server for this module: it takes seconds to start. Each test has a queue of its own."""
    with RabbitServer(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture
def secrets(rabbit: RabbitServer, tmp_path: Path) -> Path:
    """Where the server's password is, with the newline that an editor leaves."""
    rabbit.place_password(tmp_path, end="\n")
    return tmp_path


def sensor(rabbit: RabbitServer, secrets: Path, *, api: FakeApi | None = None, **server: Any) -> SensorHarness:
    return SensorHarness(
        handler,
        trigger_types=[TYPE],
        config={"servers": {"default": {**rabbit.access, **server}}},
        settings={"secrets_dir": secrets},
        api=api,
    )


async def active(harness: SensorHarness, queue: str, name: str = "rule") -> Rule:
    rule = harness.apply(TYPE, {"queue": queue}, name=name)
    await harness.wait_for(rule, AckState.ACTIVE)
    return rule


async def holds(rabbit: RabbitServer, queue: str, number: int) -> bool:
    return await rabbit.ready(queue) == number


async def test_messages_become_events_and_are_gone_when_these_are_stored(rabbit: RabbitServer, secrets: Path) -> None:
    await rabbit.declare("orders")
    sent_at = datetime(2026, 11, 28, 6, 0, tzinfo=UTC)
    async with sensor(rabbit, secrets) as harness:
        rule = await active(harness, "orders")
        await rabbit.send(
            "orders",
            b'{"price": 7}',
            message_id="m-1",
            app_id="shop",
            content_type="application/json",
            timestamp=sent_at,
            headers={"kind": "größer", "raw": bytearray(b"\xff")},
        )
        event = await harness.next_event()
        assert event.payload == {
            "server": "default",
            "queue": "orders",
            "id": "m-1",
            "exchange": "",
            "routingKey": "orders",
            "redelivered": False,
            "properties": {
                "appId": "shop",
                "contentType": "application/json",
                "messageId": "m-1",
                "timestamp": "2026-11-28T06:00:00+00:00",
            },
            "rule": rule.ref,
            "headers": {"kind": "größer", "raw": "/w=="},
            "base64": ["raw"],
            "encoding": "json",
            "body": {"price": 7},
        }
        assert event.occurred_at == sent_at
    await until(lambda: holds(rabbit, "orders", 0))  # the sensor is gone: what it had not acknowledged would be back


async def test_what_was_read_and_not_stored_comes_again_first(rabbit: RabbitServer, secrets: Path) -> None:
    await rabbit.declare("again", **{"x-queue-type": "quorum"})
    api = FakeApi()
    async with sensor(rabbit, secrets, api=api) as harness:
        await active(harness, "again")
        api.available = False
        await rabbit.send("again", b"1", b"2")
        await until(lambda: harness.undelivered > 0)
    await until(lambda: holds(rabbit, "again", 2))
    await rabbit.send("again", b"3")
    api.available = True
    async with sensor(rabbit, secrets, api=api) as harness:
        await active(harness, "again")
        found = await payloads(harness, 3)
        assert [payload["body"] for payload in found] == [1, 2, 3]
        assert [payload["redelivered"] for payload in found] == [True, True, False]


async def test_a_message_that_is_published_twice_is_one_event_and_unnamed_ones_are_two(
    rabbit: RabbitServer, secrets: Path
) -> None:
    await rabbit.declare("names")
    async with sensor(rabbit, secrets, idHeader="id") as harness:
        await active(harness, "names")
        await rabbit.send("names", b"1", b"1", message_id="one")
        await rabbit.send("names", b"2", b"2", headers={"id": "two"})  # and random message ids
        await rabbit.send("names", b"3", b"3", message_id=NoName())
        await rabbit.send("names", b"4", message_id="four")
        assert [payload["body"] for payload in await payloads(harness, 5)] == [1, 2, 3, 3, 4]
    await until(lambda: holds(rabbit, "names", 0))


async def test_rules_with_the_same_queue_share_what_it_has(rabbit: RabbitServer, secrets: Path) -> None:
    await rabbit.declare("shared")
    async with sensor(rabbit, secrets) as harness:
        rules = {(await active(harness, "shared", name=name)).ref for name in ("one", "two")}
        await rabbit.send("shared", b"1", b"2")
        found = await payloads(harness, 4)
        assert {(payload["rule"], payload["body"]) for payload in found} == {
            (rule, n) for rule in rules for n in (1, 2)
        }


async def test_more_messages_than_may_be_under_way_keep_their_order(rabbit: RabbitServer, secrets: Path) -> None:
    await rabbit.declare("many")
    await rabbit.send("many", *(str(number).encode() for number in range(300)))
    async with sensor(rabbit, secrets, prefetch=7) as harness:
        await active(harness, "many")
        assert [payload["body"] for payload in await payloads(harness, 300)] == list(range(300))
    await until(lambda: holds(rabbit, "many", 0))


async def test_a_message_that_is_too_large_or_strange_is_an_event_too(rabbit: RabbitServer, secrets: Path) -> None:
    await rabbit.declare("strange")
    async with sensor(rabbit, secrets) as harness:
        await active(harness, "strange")
        await rabbit.send("strange", b"x" * 800_000, b"{not json", b"\xff", b"")
        large, text, binary, empty = await payloads(harness, 4)
        assert (large["truncated"], large["bytes"], "body" in large) == (True, 800_000, False)
        assert (text["encoding"], text["body"]) == ("text", "{not json")
        assert (binary["encoding"], binary["body"]) == ("base64", "/w==")
        assert (empty["encoding"], empty["body"]) == ("none", None)


async def test_a_queue_that_is_not_there_or_is_deleted_is_said(rabbit: RabbitServer, secrets: Path) -> None:
    async with sensor(rabbit, secrets) as harness:
        rule = harness.apply(TYPE, {"queue": "late"})
        assert "the queue late is not there" in await harness.wait_for(rule, AckState.FAILING)
        await rabbit.declare("late")
        await harness.wait_for(rule, AckState.ACTIVE)
        await rabbit.delete("late")
        await harness.wait_for(rule, AckState.FAILING)
        await rabbit.declare("late")
        await harness.wait_for(rule, AckState.ACTIVE)
        await rabbit.send("late", b"1")
        assert [payload["body"] for payload in await payloads(harness, 1)] == [1]


async def test_a_stream_is_refused_when_its_first_message_comes(rabbit: RabbitServer, secrets: Path) -> None:
    await rabbit.declare("log", **{"x-queue-type": "stream"})
    async with sensor(rabbit, secrets) as harness:
        rule = await active(harness, "log")
        await rabbit.send("log", b"1")
        assert f"log of 127.0.0.1:{rabbit.port} is a stream" in await harness.wait_for(rule, AckState.FAILING)


async def test_the_password_comes_from_a_secret_and_a_wrong_one_is_said(rabbit: RabbitServer, secrets: Path) -> None:
    await rabbit.declare("secret")
    file = secrets / "attune-amqp" / "password"
    file.unlink()
    async with sensor(rabbit, secrets) as harness:
        rule = harness.apply(TYPE, {"queue": "secret"})
        assert "attune-amqp/password is not mounted" in await harness.wait_for(rule, AckState.FAILING)
        file.write_text("wrong\n")
        await until(lambda: "does not accept the credentials" in harness.message(rule))
        assert "wrong" not in harness.message(rule)
        rabbit.place_password(secrets, end="\n")
        await harness.wait_for(rule, AckState.ACTIVE)


async def test_a_virtual_host_and_a_server_that_are_not_there_are_said(rabbit: RabbitServer, secrets: Path) -> None:
    async with sensor(rabbit, secrets, url=f"{rabbit.url}/elsewhere") as harness:
        rule = harness.apply(TYPE, {"queue": "orders"})
        assert "does not open the virtual host elsewhere" in await harness.wait_for(rule, AckState.FAILING)
        other = harness.apply(TYPE, {"queue": "orders", "server": "other"}, name="other")
        assert "no server 'other'" in await harness.wait_for(other, AckState.REJECTED)


async def test_a_server_that_is_killed_is_told_and_nothing_is_lost(rabbit: RabbitServer, secrets: Path) -> None:
    await rabbit.declare("durable")
    async with sensor(rabbit, secrets) as harness:
        rule = await active(harness, "durable")
        await rabbit.send("durable", b"1")
        await payloads(harness, 1)
        await asyncio.to_thread(rabbit.kill)
        assert f"127.0.0.1:{rabbit.port}" in await harness.wait_for(rule, AckState.FAILING)
        await asyncio.to_thread(rabbit.start)
        # RabbitMQ writes its definitions down with a delay: one that was killed may not know the queue any more.
        await rabbit.declare("durable")
        await rabbit.send("durable", b"2")
        await harness.wait_for(rule, AckState.ACTIVE)
        assert [payload["body"] for payload in await payloads(harness, 1)] == [2]


def test_a_configuration_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(SettingsError, match="holds credentials"):
        SensorHarness(handler, trigger_types=[TYPE], config={"servers": {"default": {"url": "amqp://u:p@rabbit"}}})
