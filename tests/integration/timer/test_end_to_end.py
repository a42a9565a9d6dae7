"""The timer sensor in this process, with a real NATS server and a small server in the API's place."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nats.aio.client import Client
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_stream import SENSOR, RuleStream, changed, rule_state
from support.scripted_api import ScriptedApi

from attune_contract.messages import AckState
from attune_sensor import SensorRuntime, SensorSettings
from attune_timer.handler import TimerHandler

pytest_plugins = ["support.sensor_fixtures"]
pytestmark = pytest.mark.nats

Sensor = Callable[..., Any]


@pytest.fixture
def settings(nats_server: NatsServer, scripted_api: ScriptedApi, tmp_path: Path) -> SensorSettings:
    token = tmp_path / "token"
    token.write_text("the-token")
    return SensorSettings.from_environment(
        {
            "ATTUNE_SENSOR_REF": str(SENSOR),
            "ATTUNE_SENSOR_INSTANCE": "pod-1",
            "ATTUNE_TRIGGER_TYPES": "core.intervaltimer",
            "ATTUNE_API_URL": scripted_api.url,
            "ATTUNE_API_TOKEN_FILE": str(token),
            "ATTUNE_NATS_URL": nats_server.url,
            "ATTUNE_SPOOL_DIR": str(tmp_path / "spool"),
            "ATTUNE_METRICS_HOST": "127.0.0.1",
            "ATTUNE_METRICS_PORT": "0",
            "ATTUNE_GRACE_SECONDS": "5",
        }
    )


@contextlib.asynccontextmanager
async def running(settings: SensorSettings) -> AsyncIterator[SensorRuntime]:
    runtime = SensorRuntime(settings=settings, handler=TimerHandler)
    task = asyncio.create_task(runtime.run())
    try:
        async with asyncio.timeout(150):
            await asyncio.wait({task, asyncio.create_task(runtime.wait_snapshot())}, return_when="FIRST_COMPLETED")
        if task.done():
            task.result()
        yield runtime
    finally:
        runtime.stop()
        await asyncio.wait_for(task, 150)


def times(scripted_api: ScriptedApi) -> list[datetime]:
    return [datetime.fromisoformat(event["occurred_at"]) for event in scripted_api.events]


def spacing(moments: list[datetime]) -> set[timedelta]:
    return {later - earlier for earlier, later in itertools.pairwise(moments)}


async def test_rule_that_was_there_before_the_sensor_fires(
    stream: RuleStream, scripted_api: ScriptedApi, settings: SensorSettings
) -> None:
    rule = rule_state(parameters={"interval": 0.2})
    await stream.put(rule)
    async with running(settings):
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 6)
        await stream.wait_ack(rule, AckState.ACTIVE)
    assert spacing(times(scripted_api)) == {timedelta(seconds=0.2)}
    assert scripted_api.requests[0].token == "the-token"
    event = scripted_api.events[0]
    assert event["trigger_type"] == "core.intervaltimer"
    assert (event["rule_uid"], event["rule_namespace"], event["rule_name"]) == (rule.uid, "default", "rule-1")
    assert event["payload"]["rule"] == "default/rule-1"
    scheduled_at = datetime.fromisoformat(event["payload"]["scheduled_at"])
    assert scheduled_at == times(scripted_api)[0]
    assert scheduled_at == rule.created_at + event["payload"]["k"] * timedelta(seconds=0.2)


@pytest.mark.alone
async def test_events_are_exactly_an_interval_apart_and_prompt(
    stream: RuleStream, scripted_api: ScriptedApi, settings: SensorSettings
) -> None:
    async with running(settings):
        await stream.put(rule_state(parameters={"interval": 1}))
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 5)
    assert spacing(times(scripted_api)) == {timedelta(seconds=1)}
    lateness = sorted(
        datetime.fromisoformat(event["payload"]["fired_at"]) - datetime.fromisoformat(event["payload"]["scheduled_at"])
        for event in scripted_api.events[1:]
    )
    assert lateness[0] >= timedelta(0)
    assert lateness[len(lateness) // 2] < timedelta(milliseconds=50), "a busy machine may be late, but not mostly"


async def test_restart_keeps_the_phase(stream: RuleStream, scripted_api: ScriptedApi, settings: SensorSettings) -> None:
    rule = rule_state(parameters={"interval": 0.5}, created_at=datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=UTC))
    await stream.put(rule)
    async with running(settings):
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 2)
    before = len(scripted_api.events)
    async with running(settings):
        began = datetime.now(UTC)
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= before + 2)
    assert {(moment - rule.created_at) % timedelta(seconds=0.5) for moment in times(scripted_api)} == {timedelta(0)}
    assert times(scripted_api)[before] < began + timedelta(seconds=1)


@pytest.mark.alone
async def test_changes_take_effect_within_a_second(
    stream: RuleStream, scripted_api: ScriptedApi, settings: SensorSettings
) -> None:
    rule = rule_state(parameters={"interval": 0.1})
    async with running(settings):
        await stream.put(rule)
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 2)

        disabled = changed(rule, enabled=False)
        await stream.put(disabled)
        await stream.wait_ack(disabled, AckState.STOPPED, within=1)
        stopped_at = datetime.now(UTC)
        enabled = changed(disabled, enabled=True, parameters={"interval": 0.3})
        await stream.put(enabled)
        await stream.wait_ack(enabled, AckState.ACTIVE, within=1)
        await scripted_api.wait_for(lambda: times(scripted_api)[-1] > stopped_at + timedelta(seconds=0.6))
        after = [moment for moment in times(scripted_api) if moment > stopped_at]
        assert spacing(after) == {timedelta(seconds=0.3)}

        await stream.delete(enabled)
        other = rule_state(2, parameters={"interval": 0.1})
        await stream.put(other)
        await stream.wait_ack(other, AckState.ACTIVE)
        buried_at = datetime.now(UTC)
        await scripted_api.wait_for(lambda: times(scripted_api)[-1] > buried_at + timedelta(seconds=0.7))
        fired = [e["payload"]["fired_at"] for e in scripted_api.events if e["rule_name"] == "rule-1"]
        late = [moment for moment in fired if datetime.fromisoformat(moment) > buried_at]
        assert late == []


async def test_rule_with_wrong_parameters_is_rejected_and_others_go_on(
    stream: RuleStream, scripted_api: ScriptedApi, settings: SensorSettings
) -> None:
    wrong = rule_state(1, parameters={"interval": -1})
    async with running(settings):
        await stream.put(wrong)
        await stream.put(rule_state(2, parameters={"interval": 0.1}))
        ack = await stream.wait_ack(wrong, AckState.REJECTED)
        assert "shorter than 0.1 seconds" in ack.message
        assert ack.instance == "pod-1"
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 3)
    assert {event["rule_name"] for event in scripted_api.events} == {"rule-2"}


async def test_schedule_that_is_over_is_completed(
    stream: RuleStream, scripted_api: ScriptedApi, settings: SensorSettings
) -> None:
    over = rule_state(1, parameters={"interval": 1, "end": "2026-02-01T00:00:00Z"})
    endless = rule_state(2, parameters={"interval": 0.2})
    async with running(settings):
        await stream.put(over)
        await stream.put(endless)
        await stream.wait_ack(over, AckState.COMPLETED)
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 1)
        ending = datetime.now(UTC) + timedelta(seconds=1)
        ends = changed(endless, parameters={"interval": 0.2, "end": ending.isoformat()})
        await stream.put(ends)
        await stream.wait_ack(ends, AckState.COMPLETED)
    assert {event["rule_name"] for event in scripted_api.events} == {"rule-2"}


async def test_nats_and_api_away_lose_nothing(
    nats_server: NatsServer, stream: RuleStream, scripted_api: ScriptedApi, settings: SensorSettings
) -> None:
    rule = rule_state(parameters={"interval": 0.1})
    await stream.put(rule)
    async with running(settings) as runtime:
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 2)
        nats_server.kill()
        await scripted_api.stop()
        await until(lambda: runtime.emitter.waiting >= 10)
        await scripted_api.start()
        back = datetime.now(UTC)
        await scripted_api.wait_for(lambda: times(scripted_api)[-1] > back)
        nats_server.start()
        renewed = changed(rule, parameters={"interval": 0.4})
        await stream.put(renewed)
        await stream.wait_ack(renewed, AckState.ACTIVE)
    fast = [moment for moment in times(scripted_api) if moment <= back]
    assert spacing(fast) == {timedelta(seconds=0.1)}


async def test_health_and_metrics(stream: RuleStream, scripted_api: ScriptedApi, settings: SensorSettings) -> None:
    await stream.put(rule_state(parameters={"interval": 0.1}))
    async with running(settings) as runtime, aiohttp.ClientSession() as session:
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 1)
        base = f"http://127.0.0.1:{runtime.server.port}"
        async with session.get(f"{base}/live") as live:
            assert live.status == 200

        async def well() -> bool:
            async with session.get(f"{base}/ready") as ready:
                assert ready.status == 200
            async with session.get(f"{base}/metrics") as metrics:
                text = await metrics.text()
            return (
                'attune_sensor_rules{state="Active"} 1.0' in text
                and 'attune_sensor_events_total{result="stored"}' in text
            )

        await until(well)  # the API has an event a moment before the sensor has its answer

        settings.token_file.write_text("")
        async with session.get(f"{base}/ready") as ready:
            assert ready.status == 503
            assert "is empty" in (await ready.json())["problems"]["token"]


async def test_what_a_sensor_lacks_is_told_beside_its_readiness(
    nats_server: NatsServer, stream: RuleStream, scripted_api: ScriptedApi, settings: SensorSettings
) -> None:
    async with running(settings) as runtime, aiohttp.ClientSession() as session:

        async def notes() -> dict[str, str]:
            async with session.get(f"http://127.0.0.1:{runtime.server.port}/ready") as ready:
                assert ready.status == 200
                found: dict[str, str] = (await ready.json())["notes"]
                return found

        async def wait_notes(*names: str) -> dict[str, str]:
            async def wanted() -> list[dict[str, str]]:
                found = await notes()
                return [found] if set(found) == set(names) else []

            return (await until(wanted))[0]

        assert (await wait_notes("rules"))["rules"] == "no rule is bound to this sensor"
        await stream.put(rule_state(parameters={"interval": 0.1}))
        await wait_notes()
        await scripted_api.stop()
        assert "cannot reach" in (await wait_notes("api"))["api"]
        nats_server.kill()
        assert (await wait_notes("api", "nats"))["nats"]
        nats_server.start()
        await scripted_api.start()
        await wait_notes()


async def test_it_stops_and_delivers_though_nats_py_swallows_the_cancellation(
    settings: SensorSettings, stream: RuleStream, scripted_api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader is cancelled just while nats-py flushes, which is where it swallows cancellations (2.16)."""
    await stream.put(rule_state(parameters={"interval": 0.1}))
    runtime = SensorRuntime(settings=settings, handler=TimerHandler)
    task = asyncio.create_task(runtime.run())
    async with asyncio.timeout(150):
        await runtime.wait_snapshot()
    await until(lambda: len(scripted_api.events) >= 2)

    flushing = asyncio.Event()
    flush = Client._flush_pending

    async def slow_flush(self: Any, *args: Any, **kwargs: Any) -> Any:
        current = asyncio.current_task()
        if current is not None and current.get_name() == "rule reader" and not flushing.is_set():
            flushing.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:  # as nats-py does
                return None
        return await flush(self, *args, **kwargs)

    monkeypatch.setattr(Client, "_flush_pending", slow_flush)
    runtime._connector.reconnect("the test says so")  # the reader makes a new consumer, and so it flushes
    async with asyncio.timeout(150):
        await flushing.wait()
    runtime.stop()
    async with asyncio.timeout(150):
        await asyncio.shield(task)
    assert spacing(times(scripted_api)) == {timedelta(milliseconds=100)}
