"""Notifications of a real PostgreSQL server that become events."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry
from support.eventually import until
from support.harness_events import payloads
from support.postgres import PostgresServer

from attune_postgres.__main__ import handler
from attune_sensor import AckState, Rule, SensorContext, SourceHandler
from attune_sensor.testing import FakeApi, SensorHarness

pytest_plugins = ["support.api_fixtures"]

TYPE = "core.postgres"


def sensor(
    postgres: PostgresServer, api: FakeApi | None = None, program: Callable[[SensorContext], SourceHandler] = handler
) -> SensorHarness:
    config = {"servers": {"default": {"url": postgres.url("postgres")}}}
    return SensorHarness(program, trigger_types=[TYPE], config=config, api=api)


async def active(harness: SensorHarness, channel: str) -> Rule:
    rule = harness.apply(TYPE, {"mode": "listen", "channel": channel})
    await harness.wait_for(rule, AckState.ACTIVE)
    return rule


async def test_notifications_become_events(postgres: PostgresServer) -> None:
    async with sensor(postgres) as harness:
        rule = await active(harness, "New Orders")
        postgres.query("""NOTIFY "New Orders", '{"n": 1}'""")
        postgres.query("""NOTIFY "new orders", 'another channel'""")
        postgres.query("""NOTIFY "New Orders", 'größer'""")
        first, second = await payloads(harness, 2)
        assert first == {
            "server": "default",
            "channel": "New Orders",
            "rule": rule.ref,
            "encoding": "json",
            "body": {"n": 1},
        }
        assert (second["encoding"], second["body"]) == ("text", "größer")


async def test_what_was_said_without_a_connection_is_lost_and_this_is_said(postgres: PostgresServer) -> None:
    async with sensor(postgres) as harness:
        rule = await active(harness, "gap")
        listening = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR application_name LIKE 'attune %'"
        postgres.query(f"SELECT pg_terminate_backend(pid) FROM ({listening}) AS them")
        await until(lambda: "what was sent while the connection was lost did not arrive" in harness.message(rule))
        postgres.query("NOTIFY gap, 'after'")
        assert [payload["body"] for payload in await payloads(harness, 1)] == ["after"]


async def test_one_replica_reports_and_another_takes_its_turn(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune_postgres.channel._BLOCK", 0.1)
    api = FakeApi()
    async with sensor(postgres, api) as two:
        async with sensor(postgres, api) as one:
            await active(one, "turns")
            await active(two, "turns")
            postgres.query("NOTIFY turns, 'first'")
            postgres.query("NOTIFY turns, 'second'")
            assert [payload["body"] for payload in await payloads(one, 2)] == ["first", "second"]
        postgres.query("NOTIFY turns, 'nobody'")
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        await until(lambda: postgres.query(held) == "1")
        postgres.query("NOTIFY turns, 'third'")
        await until(lambda: any(event.payload["body"] == "third" for event in api.events))
        assert len({event.id for event in api.events}) == len(api.events)


async def test_no_more_wait_than_there_is_room_for(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune_postgres.channel.MOST_WAITING", 3)
    api = FakeApi()
    registries: list[CollectorRegistry] = []

    def watched(context: SensorContext) -> SourceHandler:
        registries.append(context.metrics.registry)
        return handler(context)

    async with sensor(postgres, api, watched) as harness:
        rule = await active(harness, "many")
        api.available = False
        postgres.query("NOTIFY many, 'first'")
        await until(lambda: harness.undelivered > 0)
        postgres.query("DO $$ BEGIN FOR n IN 1..10 LOOP PERFORM pg_notify('many', n::text); END LOOP; END $$")
        [registry] = registries
        await until(lambda: registry.get_sample_value("attune_postgres_dropped_notifications_total") == 7)
        api.available = True
        assert [payload["body"] for payload in await payloads(harness, 4)] == ["first", 1, 2, 3]
        await until(lambda: "more than 3 notifications waited for the API" in harness.message(rule))
