"""The MQTT sensor against a real Mosquitto."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.certificates import Authority
from support.eventually import until
from support.harness_events import payloads
from support.mosquitto_server import MosquittoServer

from attune_mqtt.__main__ import handler
from attune_mqtt.client import SessionClient
from attune_mqtt.config import servers_of
from attune_sensor import AckState, Rule, SettingsError
from attune_sensor.testing import FakeApi, SensorHarness

TYPE = "core.mqtttopic"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[MosquittoServer]:
    """A broker of this test's own."""
    with MosquittoServer(tmp_path / "mosquitto") as server:
        yield server


@pytest.fixture
def secrets(broker: MosquittoServer, tmp_path: Path) -> Path:
    """Where the broker's password is, with the newline that an editor leaves."""
    broker.place_password(tmp_path / "secrets", end="\n")
    return tmp_path / "secrets"


def sensor(broker: MosquittoServer, secrets: Path, *, api: FakeApi | None = None, **server: Any) -> SensorHarness:
    return SensorHarness(
        handler,
        trigger_types=[TYPE],
        config={"servers": {"default": {**broker.access, **server}}},
        settings={"secrets_dir": secrets},
        api=api,
    )


async def active(harness: SensorHarness, topic: str, *, name: str = "rule", **parameters: Any) -> Rule:
    rule = harness.apply(TYPE, {"topic": topic, **parameters}, name=name)
    await harness.wait_for(rule, AckState.ACTIVE)
    return rule


async def send(broker: MosquittoServer, topic: str, *bodies: bytes, **given: Any) -> None:
    await asyncio.to_thread(partial(broker.send, topic, *bodies, **given))


async def keeps(broker: MosquittoServer, number: int) -> None:
    """Wait until the broker has so many messages that nobody has acknowledged."""
    await until(lambda: asyncio.to_thread(lambda: broker.kept() == number), within=60)


async def test_messages_become_events_and_are_gone_when_these_are_stored(
    broker: MosquittoServer, secrets: Path
) -> None:
    async with sensor(broker, secrets) as harness:
        rule = await active(harness, "plant/+/temperature", idProperty="event-id")
        await send(broker, "plant/b/humidity", b"1")
        await send(
            broker,
            "plant/ä/temperature",
            b'{"celsius": 7}',
            UserProperty=[("event-id", "m-1"), ("unit", "\ufeffgrößer")],
            ContentType="application/json",
            ResponseTopic="answers",
            CorrelationData=b"\xff",
        )
        event = await harness.next_event()
        assert event.payload == {
            "server": "default",
            "topic": "plant/ä/temperature",
            "qos": 1,
            "retained": False,
            "redelivered": False,
            "rule": rule.ref,
            "id": "m-1",
            "properties": {"event-id": "m-1", "unit": "\ufeffgrößer"},
            "contentType": "application/json",
            "responseTopic": "answers",
            "correlationData": "/w==",
            "encoding": "json",
            "body": {"celsius": 7},
        }
    await keeps(broker, 0)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_what_was_read_and_not_stored_comes_again_first_also_of_quality_two(
    version: str, broker: MosquittoServer, secrets: Path
) -> None:
    api = FakeApi()
    async with sensor(broker, secrets, api=api, version=version) as harness:
        await active(harness, "orders")
        api.available = False
        await send(broker, "orders", b"1", b"2", qos=2)
        await until(lambda: harness.undelivered > 0)
    await send(broker, "orders", b"3", qos=2)
    api.available = True
    async with sensor(broker, secrets, api=api, version=version) as harness:
        await active(harness, "orders")
        found = await payloads(harness, 3)
        assert [(payload["body"], payload["redelivered"]) for payload in found] == [(1, True), (2, True), (3, False)]


async def test_a_message_that_is_published_twice_is_one_event_if_it_has_a_name(
    broker: MosquittoServer, secrets: Path
) -> None:
    async with sensor(broker, secrets) as harness:
        await active(harness, "names/#", idProperty="id", idField="meta.id")
        await send(broker, "names/a", b"1", b"1", UserProperty=("id", "one"))
        await send(broker, "names/a", b'{"meta": {"id": 2}}', b'{"meta": {"id": 2}}')
        await send(broker, "names/b", b'{"meta": {"id": 2}}')  # each topic has names of its own
        await send(broker, "names/a", b"3", b"3")
        await send(broker, "names/a", b"4", UserProperty=("id", "four"))
        found = await payloads(harness, 6)
        assert [payload["body"] for payload in found] == [1, *[{"meta": {"id": 2}}] * 2, 3, 3, 4]
        assert [payload.get("id") for payload in found] == ["one", "2", "2", None, None, "four"]


async def test_rules_with_the_same_topic_share_what_it_has_in_order(broker: MosquittoServer, secrets: Path) -> None:
    async with sensor(broker, secrets, prefetch=7) as harness:
        rules = {(await active(harness, "many", name=name)).ref for name in ("one", "two")}
        await send(broker, "many", *(b"%d" % number for number in range(60)))
        found = await payloads(harness, 120)
        for rule in rules:
            assert [payload["body"] for payload in found if payload["rule"] == rule] == list(range(60))


async def test_two_sensors_divide_a_shared_subscription(broker: MosquittoServer, secrets: Path) -> None:
    async with sensor(broker, secrets) as one, sensor(broker, secrets) as other:
        await active(one, "$share/workers/jobs/#", idProperty="one")
        await active(other, "$share/workers/jobs/#", idProperty="other")  # another session
        await send(broker, "jobs/x", *(b"%d" % number for number in range(20)))
        await keeps(broker, 0)
        await until(lambda: one.undelivered + other.undelivered == 0)
        bodies = [event.payload["body"] for harness in (one, other) for event in harness.api.events]
        assert sorted(bodies) == list(range(20))


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_what_the_broker_retains_is_an_event_if_the_rule_says_so(
    version: str, broker: MosquittoServer, secrets: Path
) -> None:
    await send(broker, "state/door", b'"open"', retain=True)
    async with sensor(broker, secrets, version=version) as harness:
        await active(harness, "state/#", name="without")
        await active(harness, "state/+", name="with", retained=True)
        assert [(payload["body"], payload["retained"]) for payload in await payloads(harness, 1)] == [("open", True)]
        await send(broker, "state/door", b'"closed"', retain=True)  # to those who have subscribed already it is news
        found = [(payload["body"], payload["retained"]) for payload in await payloads(harness, 2)]
        assert found == [("closed", False)] * 2
    await keeps(broker, 0)


async def test_a_message_that_is_too_large_or_strange_is_an_event_too(broker: MosquittoServer, secrets: Path) -> None:
    async with sensor(broker, secrets) as harness:
        await active(harness, "strange")
        await send(broker, "strange", b"x" * 800_000, b"{not json", b"\xff", b"")
        await send(broker, "strange", b"0", qos=0)
        large, text, binary, empty, unkept = await payloads(harness, 5)
        assert (large["truncated"], large["bytes"], "body" in large) == (True, 800_000, False)
        assert (text["encoding"], text["body"]) == ("text", "{not json")
        assert (binary["encoding"], binary["body"]) == ("base64", "/w==")
        assert (empty["encoding"], empty["body"]) == ("none", None)
        assert (unkept["qos"], unkept["body"]) == (0, 0)


async def test_the_password_comes_from_a_secret_and_a_wrong_one_is_said(broker: MosquittoServer, secrets: Path) -> None:
    file = secrets / "attune-mqtt" / "password"
    file.unlink()
    async with sensor(broker, secrets) as harness:
        rule = harness.apply(TYPE, {"topic": "secret"})
        assert "attune-mqtt/password is not mounted" in await harness.wait_for(rule, AckState.FAILING)
        file.write_text("wrong\n")
        await until(lambda: "does not accept the credentials" in harness.message(rule))
        assert "wrong" not in harness.message(rule)
        broker.place_password(secrets, end="\n")
        await harness.wait_for(rule, AckState.ACTIVE)


# The client leaves a socket to the garbage collector when a handshake fails.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
async def test_a_certificate_is_checked(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("localhost")
    files = (tmp_path / "tls.crt", tmp_path / "tls.key")
    files[0].write_text(certificate)
    files[1].write_text(key)
    secrets = tmp_path / "secrets"
    with MosquittoServer(tmp_path / "mosquitto", tls=files) as broker:
        broker.place_password(secrets)
        ca = secrets / "attune-mqtt" / "ca.crt"
        ca.write_text(Authority().pem)
        url = f"mqtts://localhost:{broker.port}"
        async with sensor(broker, secrets, url=url, ca="attune-mqtt/ca.crt") as harness:
            rule = harness.apply(TYPE, {"topic": "a"})
            assert "CERTIFICATE_VERIFY_FAILED" in await harness.wait_for(rule, AckState.FAILING)
            ca.write_text(authority.pem)
            await harness.wait_for(rule, AckState.ACTIVE)
            await send(broker, "a", b"1")
            assert [payload["body"] for payload in await payloads(harness, 1)] == [1]


async def test_a_broker_that_ends_is_told_and_what_is_under_way_is_one_event(
    broker: MosquittoServer, secrets: Path
) -> None:
    api = FakeApi()
    async with sensor(broker, secrets, api=api) as harness:
        rule = await active(harness, "again")
        await send(broker, "again", b"1")
        await payloads(harness, 1)
        api.available = False
        await send(broker, "again", b"2", b"2")  # without names
        await until(lambda: harness.undelivered > 0)
        await asyncio.to_thread(broker.stop)
        assert f"127.0.0.1:{broker.port}" in await harness.wait_for(rule, AckState.FAILING)
        await asyncio.to_thread(broker.start)
        await harness.wait_for(rule, AckState.ACTIVE)
        api.available = True
        await send(broker, "again", b"3")
        assert [payload["body"] for payload in await payloads(harness, 3)] == [2, 2, 3]
        await keeps(broker, 0)
        assert [event.payload["body"] for event in api.events] == [1, 2, 2, 3]


async def test_another_process_takes_the_session_over(broker: MosquittoServer, secrets: Path) -> None:
    async with sensor(broker, secrets) as first:
        rule = await active(first, "one")
        async with sensor(broker, secrets) as second:
            second.apply(TYPE, {"topic": "one"})
            await first.wait_for(rule, AckState.FAILING)
        await first.wait_for(rule, AckState.ACTIVE)
        await send(broker, "one", b"1")
        assert [payload["body"] for payload in await payloads(first, 1)] == [1]


def test_a_configuration_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(SettingsError, match="holds credentials"):
        SensorHarness(handler, trigger_types=[TYPE], config={"servers": {"default": {"url": "mqtt://u:p@mosquitto"}}})


async def test_a_session_with_much_in_it_is_read_to_the_end_and_waits_in_the_connection(
    broker: MosquittoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune_mqtt.client._KEEPALIVE", 1)
    given = {"servers": {"default": {**broker.access, "url": f"mqtt://127.0.0.1:{broker.plain_port}"}}}
    # A limit that lets everything come at once, as brokers do that heed none.
    server = msgspec.structs.replace(servers_of(given)["default"], prefetch=60_000)
    numbers: list[int] = []
    signs: list[None] = []

    async def client() -> SessionClient:
        found = SessionClient(server, client_id="large", password=broker.password, tls=None)
        await found.__aenter__()
        await found.read_topic("many", retained=False)
        return found

    await (await client()).leave()
    await send(broker, "many", *(b"%d" % number for number in range(6000)))
    reader = await client()
    send_sign = reader._client._send_pingreq

    def count() -> Any:
        signs.append(None)
        return send_sign()

    monkeypatch.setattr(reader._client, "_send_pingreq", count)
    await until(lambda: len(reader.waiting) == 1000, within=30)
    signs.clear()
    await until(lambda: len(signs) >= 4, within=30)  # longer than what a silent broker is taken for lost after
    assert reader.ended is None
    while len(numbers) < 6000:
        await until(lambda: len(reader.waiting) > 0, within=30, every=0.01)
        assert len(reader.waiting) <= 1000
        message = reader.take()
        reader.acknowledge(message)
        numbers.append(int(message.payload))
    assert numbers == list(range(6000))
    await reader.leave()
