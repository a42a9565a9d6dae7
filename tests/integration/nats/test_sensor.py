"""The NATS sensor against a real NATS server with JetStream."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.eventually import until
from support.harness_events import payloads
from support.nats_server import NatsServer

from attune_kit.nats.connection import NatsEndpoint, open_connection
from attune_nats.__main__ import handler
from attune_nats.parameters import own_consumer
from attune_sensor import AckState, Rule, SettingsError
from attune_sensor.testing import FakeApi, SensorHarness

pytestmark = pytest.mark.nats

TYPE = "core.natsstream"
SENSOR = "default/under-test"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of this test's own, which the test may kill."""
    (tmp_path / "broker").mkdir()
    server = NatsServer(tmp_path / "broker")
    server.start()
    yield server
    server.stop()


@contextlib.asynccontextmanager
async def jetstream(broker: NatsServer, **given: Any) -> AsyncIterator[Any]:
    async with open_connection(NatsEndpoint(url=broker.url, **given)) as connection:
        yield connection.jetstream


async def make_stream(broker: NatsServer, **given: Any) -> None:
    async with jetstream(broker, **given) as js:
        await js.add_stream(name="ORDERS", subjects=["orders.>"])


async def send(broker: NatsServer, *bodies: bytes, subject: str = "orders.new", **headers: str) -> None:
    async with jetstream(broker) as js:
        for body in bodies:
            await js.publish(subject, body, headers=headers or None)


async def pending(broker: NatsServer, consumer: str) -> int:
    """Messages that the consumer has not delivered, or nobody has acknowledged."""
    async with jetstream(broker) as js:
        info = await js.consumer_info("ORDERS", consumer)
        return int(info.num_pending) + int(info.num_ack_pending)


def sensor(
    broker: NatsServer, *, api: FakeApi | None = None, secrets: Path | None = None, **server: Any
) -> SensorHarness:
    return SensorHarness(
        handler,
        trigger_types=[TYPE],
        config={"servers": {"default": {"url": broker.url, **server}}},
        settings={"secrets_dir": secrets},
        api=api,
    )


async def active(harness: SensorHarness, name: str = "rule", **parameters: Any) -> Rule:
    rule = harness.apply(TYPE, {"stream": "ORDERS", **parameters}, name=name)
    await harness.wait_for(rule, AckState.ACTIVE)
    return rule


async def test_messages_become_events_with_their_place_headers_and_body(broker: NatsServer) -> None:
    await make_stream(broker)
    await send(broker, b"before")
    async with sensor(broker) as harness:
        rule = await active(harness)
        await send(broker, b'{"price": 7}', **{"X-Kind": "new", "Status": "404"})
        assert await payloads(harness, 1) == [
            {
                "server": "default",
                "stream": "ORDERS",
                "subject": "orders.new",
                "sequence": 2,
                "rule": rule.ref,
                "headers": {"X-Kind": "new", "Status": "404"},
                "encoding": "json",
                "body": {"price": 7},
            }
        ]
        consumer = own_consumer(SENSOR, None, "new")
        await until(lambda: _is_zero(broker, consumer))


async def _is_zero(broker: NatsServer, consumer: str) -> bool:
    return await pending(broker, consumer) == 0


async def test_from_the_beginning_and_by_subject(broker: NatsServer) -> None:
    await make_stream(broker)
    await send(broker, b"1")
    await send(broker, b"2", subject="orders.old")
    await send(broker, b"3")
    async with sensor(broker) as harness:
        await active(harness, subject="orders.new", **{"from": "beginning"})
        assert [payload["sequence"] for payload in await payloads(harness, 2)] == [1, 3]


async def test_what_comes_while_the_sensor_is_down_is_read_after_its_start(broker: NatsServer) -> None:
    await make_stream(broker)
    api = FakeApi()
    async with sensor(broker, api=api) as harness:
        await active(harness)
    await send(broker, b"1")
    async with sensor(broker, api=api) as harness:
        await active(harness)
        assert [payload["body"] for payload in await payloads(harness, 1)] == [1]


async def test_what_was_read_and_not_stored_comes_again_before_what_is_new(broker: NatsServer) -> None:
    await make_stream(broker)
    api = FakeApi()
    async with sensor(broker, api=api) as harness:
        await active(harness)
        api.available = False
        await send(broker, b"1", b"2")
        await until(lambda: harness.undelivered > 0)
    await send(broker, b"3")
    api.available = True
    api.events.clear()
    async with sensor(broker, api=api) as harness:
        await active(harness)
        assert [payload["body"] for payload in await payloads(harness, 3)] == [1, 2, 3]


async def test_a_server_that_is_restarted_is_told_and_nothing_is_lost(broker: NatsServer) -> None:
    await make_stream(broker)
    async with sensor(broker) as harness:
        rule = await active(harness)
        await send(broker, b"1")
        await payloads(harness, 1)
        broker.kill()
        assert broker.url in await harness.wait_for(rule, AckState.FAILING)
        broker.start()
        await harness.wait_for(rule, AckState.ACTIVE)
        await send(broker, b"2")
        assert [payload["body"] for payload in await payloads(harness, 1)] == [2]


async def test_a_consumer_that_was_deleted_goes_on_where_it_was(broker: NatsServer) -> None:
    await make_stream(broker)
    async with sensor(broker) as harness:
        await active(harness, consumer="mine")
        await send(broker, b"1")
        await payloads(harness, 1)
        async with jetstream(broker) as js:
            await js.delete_consumer("ORDERS", "mine")
            await js.publish("orders.new", b"2")
        assert [payload["body"] for payload in await payloads(harness, 1)] == [2]


async def test_a_stream_that_is_not_there_and_a_consumer_that_does_not_fit_are_said(broker: NatsServer) -> None:
    async with sensor(broker) as harness:
        rule = harness.apply(TYPE, {"stream": "ORDERS", "consumer": "pushed"})
        assert "the stream ORDERS is not there" in await harness.wait_for(rule, AckState.FAILING)
        await make_stream(broker)
        await harness.wait_for(rule, AckState.ACTIVE)
        other = harness.apply(TYPE, {"stream": "ORDERS", "consumer": "pushed", "subject": "orders.old"}, name="other")
        assert "its subject is" in await harness.wait_for(other, AckState.FAILING)


async def test_a_message_that_is_too_large_is_reported_by_reference(broker: NatsServer) -> None:
    await make_stream(broker)
    async with sensor(broker) as harness:
        await active(harness)
        await send(broker, b"x" * 800_000, b"{not json", b"\xff")
        first, second, third = await payloads(harness, 3)
        assert (first["truncated"], first["bytes"], first["sequence"]) == (True, 800_000, 1)
        assert (second["encoding"], second["body"]) == ("text", "{not json")
        assert (third["encoding"], third["body"]) == ("base64", "/w==")


async def test_the_password_comes_from_a_secret_and_a_missing_one_is_said(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    server = NatsServer(tmp_path / "broker", extra_config='authorization {user: "attune", password: "s3cr@t:/"}\n')
    server.start()
    try:
        await make_stream(server, username="attune", password="s3cr@t:/")
        given: dict[str, Any] = {"username": "attune", "password": "attune-nats-sensor/password"}
        async with sensor(server, secrets=tmp_path, **given) as harness:
            rule = harness.apply(TYPE, {"stream": "ORDERS"})
            assert "attune-nats-sensor/password is not mounted" in await harness.wait_for(rule, AckState.FAILING)
            (tmp_path / "attune-nats-sensor").mkdir()
            (tmp_path / "attune-nats-sensor" / "password").write_text("wrong\n")
            await until(lambda: "Authorization Violation" in harness.message(rule))
            (tmp_path / "attune-nats-sensor" / "password").write_text("s3cr@t:/\n")
            await harness.wait_for(rule, AckState.ACTIVE)
    finally:
        server.stop()


async def test_a_server_that_the_sensor_does_not_know_is_rejected(broker: NatsServer) -> None:
    async with sensor(broker) as harness:
        rule = harness.apply(TYPE, {"stream": "ORDERS", "server": "other"})
        assert "no server 'other'" in await harness.wait_for(rule, AckState.REJECTED)


def test_a_configuration_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(SettingsError, match="holds credentials"):
        SensorHarness(handler, trigger_types=[TYPE], config={"servers": {"default": {"url": "nats://u:p@nats"}}})
