"""Accepted events leave for JetStream: each, in order, with a stable id, whatever fails in between."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig
from support.api_process import ApiProcess, report
from support.eventually import until
from support.nats_client import connect
from support.nats_server import NatsServer
from support.postgres import PostgresServer
from support.tcp_relay import TcpRelay

from attune_api.events.ingest.sql import store_events
from attune_api.settings import Settings
from attune_api.storage.migrate import upgrade
from attune_api.storage.opening import open_database
from attune_api.streams.outbox import next_events
from attune_contract.subjects import ALL_EVENTS, EVENTS_STREAM, event_subject

pytest_plugins = ["support.api_fixtures"]
pytestmark = pytest.mark.nats


@pytest.fixture
def passing_on(tmp_path: Path, nats_server: NatsServer) -> Iterator[ApiProcess]:
    """The API with a NATS server to pass events on to."""
    with ApiProcess(tmp_path / "api", nats_url=nats_server.url, check_rules="false") as process:
        yield process


@asynccontextmanager
async def _listening(server: NatsServer) -> AsyncIterator["asyncio.Queue[Msg]"]:
    """Everything in the stream, from its first message, as it comes. Waits for the stream to be there."""
    client = await connect(server.url)
    received: asyncio.Queue[Msg] = asyncio.Queue()
    jetstream = client.jetstream(timeout=60)
    config = ConsumerConfig(ack_policy=AckPolicy.NONE)
    await until(
        lambda: jetstream.subscribe(ALL_EVENTS, stream=EVENTS_STREAM, cb=received.put, config=config), within=20
    )
    try:
        yield received
    finally:
        await client.close()


async def _take(received: "asyncio.Queue[Msg]", count: int) -> list[Msg]:
    async with asyncio.timeout(150):
        return [await received.get() for _ in range(count)]


async def _post(api: ApiProcess, *ks: int) -> None:
    async with api.client() as sensor:
        answer = await sensor.post("/api/v1/events/batch", json={"events": [report(k) for k in ks]})
        assert answer.status_code == 200


async def test_an_event_becomes_a_cloudevent(passing_on: ApiProcess, nats_server: NatsServer) -> None:
    async with passing_on.client() as sensor, passing_on.reader() as reader:
        body = report(1)
        await sensor.post("/api/v1/events", json=body)
        event = (await reader.get(f"/api/v1/events/{body['id']}")).json()["data"]
    async with _listening(nats_server) as received:
        (message,) = await _take(received, 1)
    assert message.subject == event_subject("default", body["rule_uid"])
    assert msgspec.json.decode(message.data) == event
    assert message.headers is not None
    expected = {
        "ce-specversion": "1.0",
        "ce-id": body["id"],
        "ce-type": "dev.attune.event",
        "ce-source": "/attune/sensors/attune-system/core.timer",
        "ce-time": body["occurred_at"],
        "ce-subject": "default/echo-every-second",
        "content-type": "application/json",
        "Nats-Msg-Id": f"{body['rule_uid']}/{body['id']}",
    }
    assert {name: message.headers[name] for name in expected} == expected


async def test_the_trace_of_an_event_is_in_its_cloudevent(passing_on: ApiProcess, nats_server: NatsServer) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    traced = report(1, traceparent=traceparent, tracestate="a=1")
    async with passing_on.client() as sensor, passing_on.reader() as reader:
        for body in (traced, report(2)):
            assert (await sensor.post("/api/v1/events", json=body)).status_code == 201
        read = (await reader.get("/api/v1/events?order=asc")).json()["data"]
    async with _listening(nats_server) as received:
        messages = await _take(received, 2)
    names = ("ce-traceparent", "ce-tracestate")
    assert [[(message.headers or {}).get(name) for name in names] for message in messages] == [
        [traceparent, "a=1"],
        [None, None],
    ]
    assert [msgspec.json.decode(message.data) for message in messages] == read
    assert [each.get("traceparent") for each in read] == [traceparent, None]


async def test_events_leave_in_the_order_in_which_they_were_stored(
    passing_on: ApiProcess, nats_server: NatsServer
) -> None:
    for start in range(0, 3000, 500):
        await _post(passing_on, *range(start, start + 500))
    async with _listening(nats_server) as received:
        messages = await _take(received, 3000)
    assert [msgspec.json.decode(message.data)["payload"]["k"] for message in messages] == list(range(3000))


async def test_an_id_that_two_rules_share_is_two_messages(passing_on: ApiProcess, nats_server: NatsServer) -> None:
    """JetStream drops a repeated Nats-Msg-Id whatever the subject, so it must not be the id alone."""
    mine, theirs = report(1), report(2, rule_uid="other-rule")
    async with passing_on.client() as sensor:
        for body in (mine, {**theirs, "id": mine["id"]}):
            assert (await sensor.post("/api/v1/events", json=body)).status_code == 201
    async with _listening(nats_server) as received:
        messages = await _take(received, 2)
    assert [msgspec.json.decode(message.data)["rule_uid"] for message in messages] == [mine["rule_uid"], "other-rule"]


async def test_nats_away_holds_up_no_sensor_and_loses_nothing(passing_on: ApiProcess, nats_server: NatsServer) -> None:
    await _post(passing_on, 1)
    async with _listening(nats_server) as received:
        await _take(received, 1)
    nats_server.kill()
    await _post(passing_on, 2, 3)
    async with passing_on.client() as sensor:
        assert (await sensor.get("/ready")).status_code == 200
    nats_server.start()
    await _post(passing_on, 4)
    async with _listening(nats_server) as received:
        assert [msgspec.json.decode(m.data)["payload"]["k"] for m in await _take(received, 4)] == [1, 2, 3, 4]


async def test_a_kill_between_commit_and_publish_publishes_once_all_the_same(
    passing_on: ApiProcess, nats_server: NatsServer
) -> None:
    nats_server.kill()
    await _post(passing_on, *range(50))
    passing_on.kill()
    nats_server.start()
    passing_on.start()
    await _post(passing_on, 50)
    async with _listening(nats_server) as received:
        messages = await _take(received, 51)
        assert [msgspec.json.decode(message.data)["payload"]["k"] for message in messages] == list(range(51))
        assert received.empty()


async def test_killed_at_any_moment_it_goes_on_where_it_was(passing_on: ApiProcess, nats_server: NatsServer) -> None:
    for round_ in range(3):
        await _post(passing_on, *range(round_ * 400, round_ * 400 + 400))
        passing_on.kill()
        passing_on.start()
    async with _listening(nats_server) as received:
        messages = await _take(received, 1200)
    ks = [msgspec.json.decode(message.data)["payload"]["k"] for message in messages]
    assert ks == list(range(1200))


async def test_a_stream_that_was_deleted_is_made_again_with_bounds(
    passing_on: ApiProcess, nats_server: NatsServer
) -> None:
    await _post(passing_on, 1)
    async with _listening(nats_server) as received:
        await _take(received, 1)
    client = await connect(nats_server.url)
    config = (await client.jetstream(timeout=60).stream_info(EVENTS_STREAM)).config
    assert (config.max_age, config.max_bytes) == (7 * 24 * 3600, 256 * 1024 * 1024)
    await client.jetstream(timeout=60).delete_stream(EVENTS_STREAM)
    await client.close()
    await _post(passing_on, 2)
    async with _listening(nats_server) as received:
        (message,) = await _take(received, 1)
    assert msgspec.json.decode(message.data)["payload"]["k"] == 2


async def test_one_that_is_too_large_for_the_server_goes_without_its_payload(
    passing_on: ApiProcess, nats_server: NatsServer
) -> None:
    large = report(1, payload={"x": "y" * 1_048_000})
    async with passing_on.client() as sensor:
        assert (await sensor.post("/api/v1/events", json=large)).status_code == 201
    await _post(passing_on, 2)
    async with _listening(nats_server) as received:
        first, second = await _take(received, 2)
    assert first.headers is not None
    assert first.headers["ce-dataref"] == f"/api/v1/events/{large['id']}?rule_uid={large['rule_uid']}"
    assert "payload" not in msgspec.json.decode(first.data)
    assert msgspec.json.decode(second.data)["payload"] == {"k": 2}


async def test_what_is_read_at_once_is_bounded_in_bytes(database_url: str) -> None:
    database = open_database(Settings(database_url=database_url).database_url)
    await upgrade(database)
    small, large = {"k": 1}, {"text": "x" * 1_000_000}
    payloads = [small] * 200 + [large] * 20 + [small] * 10
    rows = [
        {
            "id": uuid.UUID(int=k + 1),
            "trigger_type": "core.webhook",
            "rule_uid": "rule",
            "rule_namespace": "default",
            "rule_name": "rule",
            "sensor_ref": "attune-system/core.webhook",
            "occurred_at": datetime(2026, 11, 23, tzinfo=UTC),
            "received_at": datetime(2026, 11, 23, tzinfo=UTC),
            "payload": payload,
            "traceparent": "",
            "tracestate": "",
        }
        for k, payload in enumerate(payloads)
    ]
    await database.write(lambda connection: store_events(connection, rows=rows) and None)
    position, seqs = 0, []
    while True:
        found = await database.read(partial(next_events, beyond=position))
        assert sum(len(event.payload) for event in found.events) < 4 * 1024 * 1024 + 1_000_100
        seqs += [event.seq for event in found.events]
        if found.reached is None:
            break
        position = found.reached
    assert seqs == list(range(1, len(payloads) + 1))
    await database.close()


async def test_of_two_replicas_one_publishes_and_the_other_takes_over(
    tmp_path: Path, nats_server: NatsServer, postgres: PostgresServer
) -> None:
    url = postgres.create_database()
    first = ApiProcess(tmp_path / "first", database_url=url, nats_url=nats_server.url, check_rules="false")
    second = ApiProcess(tmp_path / "second", database_url=url, nats_url=nats_server.url, check_rules="false")
    with first, second:
        await _post(first, *range(100))
        await _post(second, *range(100, 200))
        await until(lambda: first.events_logged("outbox_leads") or second.events_logged("outbox_leads"))
        assert len(first.events_logged("outbox_leads")) + len(second.events_logged("outbox_leads")) == 1
        leader, other = (first, second) if first.events_logged("outbox_leads") else (second, first)
        leader.kill()
        await _post(other, *range(200, 300))
        async with _listening(nats_server) as received:
            messages = await _take(received, 300)
        assert [msgspec.json.decode(message.data)["payload"]["k"] for message in messages] == list(range(300))
        assert len(other.events_logged("outbox_leads")) == 1


async def test_what_a_leader_that_stood_still_has_sent_is_refused(
    tmp_path: Path, nats_server: NatsServer, postgres: PostgresServer
) -> None:
    """It reaches JetStream only after another replica went on, and after the window in which repetitions are known."""
    url = postgres.create_database()
    client = await connect(nats_server.url)
    jetstream = client.jetstream(timeout=60)
    await jetstream.add_stream(StreamConfig(name=EVENTS_STREAM, subjects=[ALL_EVENTS], duplicate_window=0.5))
    async with TcpRelay(nats_server.port) as way:
        far = f"nats://127.0.0.1:{way.port}"
        first = ApiProcess(tmp_path / "first", database_url=url, nats_url=far, check_rules="false", lease="2")
        second = ApiProcess(
            tmp_path / "second", database_url=url, nats_url=nats_server.url, check_rules="false", lease="2"
        )
        try:
            await asyncio.to_thread(first.start)
            await _post(first, 0)
            await until(partial(_last_number, jetstream, 1))
            await asyncio.to_thread(second.start)
            way.hold()
            await _post(first, 1, 2, 3)
            await until(lambda: way.held > 1500, what="the first has sent them")
            first.freeze()
            await until(partial(_last_number, jetstream, 4), what="the second has published them")
            # What is published again now is new to JetStream.
            window = time.monotonic() + 1.0
            await _post(second, 4)
            await until(partial(_last_number, jetstream, 5))
            await until(lambda: time.monotonic() > window, what="the window is over")
            way.let_go()
            first.thaw()
            await until(lambda: first.events_logged("outbox_waits"), what="the first knows that it leads no more")
            await _post(first, 5)
            await until(partial(_last_number, jetstream, 6))
            async with _listening(nats_server) as received:
                messages = await _take(received, 6)
                assert [msgspec.json.decode(message.data)["payload"]["k"] for message in messages] == list(range(6))
                assert received.empty()
        finally:
            way.let_go()
            first.thaw()
            await asyncio.to_thread(first.stop)
            await asyncio.to_thread(second.stop)
            await client.close()


async def _last_number(jetstream: JetStreamContext, number: int) -> bool:
    state = (await jetstream.stream_info(EVENTS_STREAM)).state
    return bool(state.last_seq >= number)


async def test_what_was_published_but_not_noted_is_not_published_again(
    tmp_path: Path, nats_server: NatsServer, postgres: PostgresServer
) -> None:
    """The replica ended in between, and another begins after the window in which JetStream knows repetitions."""
    url = postgres.create_database()
    client = await connect(nats_server.url)
    jetstream = client.jetstream(timeout=60)
    await jetstream.add_stream(StreamConfig(name=EVENTS_STREAM, subjects=[ALL_EVENTS], duplicate_window=0.1))
    with ApiProcess(tmp_path, database_url=url, nats_url=nats_server.url, check_rules="false") as api:
        await _post(api, *range(70))
        await until(partial(_last_number, jetstream, 70))
        api.kill()
        postgres.query("UPDATE outbox SET published = 3", url.rpartition("/")[2])
        api.start()
        await _post(api, 70)
        async with _listening(nats_server) as received:
            messages = await _take(received, 71)
            assert [msgspec.json.decode(message.data)["payload"]["k"] for message in messages] == list(range(71))
            assert received.empty()
    await client.close()
