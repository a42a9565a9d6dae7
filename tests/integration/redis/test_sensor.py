"""The Redis sensor against a real Redis server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.eventually import until
from support.harness_events import payloads
from support.redis_server import RedisServer

from attune_redis.__main__ import handler
from attune_sensor import AckState, Rule, SettingsError
from attune_sensor.testing import FakeApi, SensorHarness

TYPE = "core.redisstream"
GROUP = "attune.default.under-test"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of this test's own, which the test may kill."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


def sensor(
    redis: RedisServer, *, api: FakeApi | None = None, secrets: Path | None = None, **server: Any
) -> SensorHarness:
    return SensorHarness(
        handler,
        trigger_types=[TYPE],
        config={"servers": {"default": {"url": redis.url, **server}}},
        settings={"secrets_dir": secrets},
        api=api,
    )


async def active(harness: SensorHarness, name: str = "rule", **parameters: Any) -> Rule:
    rule = harness.apply(TYPE, {"stream": "orders", **parameters}, name=name)
    await harness.wait_for(rule, AckState.ACTIVE)
    return rule


async def test_entries_become_events_with_their_ids_times_and_fields(redis: RedisServer) -> None:
    redis.add("orders", n="before")
    async with sensor(redis) as harness:
        rule = await active(harness, body="data")
        added = redis.add("orders", data='{"price": 7}', kind="größer", raw=b"\xff")
        event = await harness.next_event()
        assert event.payload == {
            "server": "default",
            "stream": "orders",
            "id": added,
            "rule": rule.ref,
            "encoding": "json",
            "body": {"price": 7},
            "fields": {"kind": "größer", "raw": "/w=="},
            "base64": ["raw"],
        }
        assert int(event.occurred_at.timestamp() * 1000) == int(added.split("-")[0])
        await until(lambda: redis.pending("orders", GROUP) == 0)


async def test_from_the_beginning(redis: RedisServer) -> None:
    for number in range(3):
        redis.add("orders", f"1-{number + 1}", n=number)
    async with sensor(redis) as harness:
        await active(harness, **{"from": "beginning"})
        assert [payload["id"] for payload in await payloads(harness, 3)] == ["1-1", "1-2", "1-3"]


async def test_what_comes_while_the_sensor_is_down_is_read_after_its_start(redis: RedisServer) -> None:
    api = FakeApi()
    async with sensor(redis, api=api) as harness:
        await active(harness)
    redis.add("orders", "1-1", n=1)
    async with sensor(redis, api=api) as harness:
        await active(harness)
        assert [payload["id"] for payload in await payloads(harness, 1)] == ["1-1"]


async def test_a_server_that_is_restarted_is_told_and_nothing_is_lost(redis: RedisServer) -> None:
    async with sensor(redis) as harness:
        rule = await active(harness)
        redis.add("orders", "1-1", n=1)
        assert [payload["id"] for payload in await payloads(harness, 1)] == ["1-1"]
        redis.kill()
        assert f"127.0.0.1:{redis.port}" in await harness.wait_for(rule, AckState.FAILING)
        redis.start()
        redis.add("orders", "1-2", n=2)
        await harness.wait_for(rule, AckState.ACTIVE)
        assert [payload["id"] for payload in await payloads(harness, 1)] == ["1-2"]


async def test_a_group_that_was_deleted_goes_on_where_it_was(redis: RedisServer) -> None:
    async with sensor(redis) as harness:
        await active(harness)
        redis.add("orders", "1-1", n=1)
        await payloads(harness, 1)
        await until(lambda: redis.pending("orders", GROUP) == 0)
        client = redis.client()
        with client.pipeline() as both:
            both.xgroup_destroy("orders", GROUP)
            both.xadd("orders", {"n": "2"}, id="1-2")
            both.execute()
        client.close()
        assert [payload["id"] for payload in await payloads(harness, 1)] == ["1-2"]


async def test_what_is_no_stream_is_said(redis: RedisServer) -> None:
    client = redis.client()
    client.set("orders", "a text")
    client.close()
    async with sensor(redis) as harness:
        rule = harness.apply(TYPE, {"stream": "orders"})
        assert "holds no stream" in await harness.wait_for(rule, AckState.FAILING)


async def test_an_entry_that_is_too_large_is_reported_by_reference(redis: RedisServer) -> None:
    async with sensor(redis) as harness:
        rule = await active(harness, body="data")
        redis.add("orders", "1-1", data="x" * 800_000)
        redis.add("orders", "1-2", data="\x01" * 400_000)  # six times as long in JSON
        redis.add("orders", "1-3", data="{not json")
        first, second, third = await payloads(harness, 3)
        reference = {"server": "default", "stream": "orders", "rule": rule.ref, "truncated": True}
        assert first == {**reference, "id": "1-1", "bytes": 800_004}
        assert second == {**reference, "id": "1-2", "bytes": 400_004}
        assert (third["encoding"], third["body"]) == ("text", "{not json")


async def test_an_entry_that_was_trimmed_before_it_was_stored_is_told(redis: RedisServer) -> None:
    api = FakeApi()
    async with sensor(redis, api=api) as harness:
        await active(harness)
        api.available = False
        redis.add("orders", "1-1", n=1)
        await until(lambda: redis.pending("orders", GROUP) == 1)
    client = redis.client()
    client.xtrim("orders", maxlen=0, approximate=False)
    client.close()
    api.available = True
    async with sensor(redis, api=api) as harness:
        await active(harness)
        [payload] = await payloads(harness, 1)
        assert (payload["id"], payload["trimmed"]) == ("1-1", True)
        await until(lambda: redis.pending("orders", GROUP) == 0)


async def test_what_a_replica_left_behind_is_taken_over(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune_redis.source._REVIEW", 0.0)
    monkeypatch.setattr("attune_redis.source._IDLE", 1)
    async with sensor(redis) as harness:
        await active(harness)
        client = redis.client()
        # Read by the same consumer in another process, which then goes away.
        with client.pipeline() as both:
            both.xadd("orders", {"n": "1"}, id="1-1")
            both.xreadgroup(GROUP, "attune", {"orders": ">"})
            [_, read] = both.execute()
        client.close()
        assert read
        assert [payload["id"] for payload in await payloads(harness, 1)] == ["1-1"]


async def test_two_rules_with_groups_of_their_own_read_by_themselves(redis: RedisServer) -> None:
    async with sensor(redis) as harness:
        await active(harness, name="one")
        await active(harness, name="two", group="another", **{"from": "beginning"})
        redis.add("orders", n=1)
        assert len({payload["rule"] for payload in await payloads(harness, 2)}) == 2
        await until(lambda: redis.pending("orders", "another") == 0)


async def test_the_password_comes_from_a_secret_and_a_missing_one_is_said(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis", password="s3cret") as redis:
        async with sensor(redis, secrets=tmp_path, password="attune-redis/password") as harness:
            rule = harness.apply(TYPE, {"stream": "orders"})
            assert "attune-redis/password is not mounted" in await harness.wait_for(rule, AckState.FAILING)
            (tmp_path / "attune-redis").mkdir()
            (tmp_path / "attune-redis" / "password").write_text("wrong\n")
            await until(lambda: "does not accept the credentials" in harness.message(rule))
            (tmp_path / "attune-redis" / "password").write_text("s3cret\n")
            await harness.wait_for(rule, AckState.ACTIVE)


async def test_a_server_that_the_sensor_does_not_know_is_rejected(redis: RedisServer) -> None:
    async with sensor(redis) as harness:
        rule = harness.apply(TYPE, {"stream": "orders", "server": "other"})
        assert "no server 'other'" in await harness.wait_for(rule, AckState.REJECTED)


def test_a_configuration_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(SettingsError, match="holds credentials"):
        SensorHarness(
            handler, trigger_types=[TYPE], config={"servers": {"default": {"url": "redis://:secret@redis:6379"}}}
        )
