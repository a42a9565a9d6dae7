"""The timer sensor as the process that runs in a pod."""

import asyncio
import json
import os
import re
import resource
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_stream import SENSOR, RuleStream, rule_state
from support.scripted_api import ScriptedApi
from support.timer_process import timer_environment, timer_process

pytest_plugins = ["support.sensor_fixtures"]
pytestmark = pytest.mark.nats


async def output(started: asyncio.subprocess.Process) -> list[dict[str, Any]]:
    """All log lines until the process ended; each must be JSON."""
    assert started.stdout is not None
    text = await asyncio.wait_for(started.stdout.read(), 150)
    await started.wait()
    return [json.loads(line) for line in text.decode().splitlines()]


def resident_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+([0-9]+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found.group(1))


@pytest.fixture
def environment(nats_server: NatsServer, scripted_api: ScriptedApi, tmp_path: Path) -> dict[str, str]:
    url = nats_server.url.replace("nats://", "nats://user:hunter2@")
    return timer_environment(SENSOR, nats_url=url, api_url=scripted_api.url, directory=tmp_path)


async def test_sigterm_delivers_what_waits_and_ends_with_0(
    stream: RuleStream, scripted_api: ScriptedApi, environment: dict[str, str]
) -> None:
    await stream.put(rule_state(parameters={"interval": 0.1}))
    async with timer_process(environment) as sensor:
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 3, within=20)
        sensor.send_signal(signal.SIGTERM)
        log = await output(sensor)
    assert sensor.returncode == 0
    events = [line["event"] for line in log]
    assert events[0] == "sensor_starting"
    assert events[-1] == "sensor_stopped"
    assert log[-1]["events_lost"] == 0
    text = json.dumps(log)
    assert "a-secret-token" not in text
    assert "hunter2" not in text


async def test_kill_9_and_restart_keep_the_phase_and_the_spool(
    stream: RuleStream, scripted_api: ScriptedApi, environment: dict[str, str], tmp_path: Path
) -> None:
    await stream.put(rule_state(parameters={"interval": 0.1}))
    async with timer_process(environment) as sensor:
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 3, within=20)
        await scripted_api.stop()
        await until(lambda: sum(path.stat().st_size for path in (tmp_path / "spool").glob("*.segment")) >= 4000)
        sensor.kill()
        await sensor.wait()
    delivered = len(scripted_api.events)
    await scripted_api.start()
    async with timer_process(environment) as sensor:
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= delivered + 15, within=20)
        sensor.send_signal(signal.SIGTERM)
        await output(sensor)
    ks = [event["payload"]["k"] for event in scripted_api.events]
    assert ks == sorted(set(ks))
    assert ks[: delivered + 8] == list(range(ks[0], ks[0] + delivered + 8)), "what was in the spool came first"


@pytest.mark.timeout(900)
async def test_three_kills_lose_no_occurrence_by_default(
    stream: RuleStream, scripted_api: ScriptedApi, environment: dict[str, str]
) -> None:
    """``missed`` is not set. ``ATTUNE_AWAY=1,10,20`` is how long a kubelet waits before it starts a container again."""
    await stream.put(rule_state(parameters={"interval": 0.5}))
    for away in (float(each) for each in os.environ.get("ATTUNE_AWAY", "1,3,6").split(",")):
        async with timer_process(environment) as sensor:
            before = len(scripted_api.events)
            await scripted_api.wait_for(lambda: len(scripted_api.events) >= before + 6, within=40)  # noqa: B023
            sensor.kill()
            await sensor.wait()
        await asyncio.sleep(away)
    async with timer_process(environment) as sensor:
        before = len(scripted_api.events)
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= before + 25, within=60)
        sensor.send_signal(signal.SIGTERM)
        await output(sensor)
    ks = sorted({event["payload"]["k"] for event in scripted_api.events})
    print(f"{len(ks)} of {ks[-1] - ks[0] + 1} occurrences are stored")
    assert ks == list(range(ks[0], ks[-1] + 1))


async def test_disk_that_is_full_is_said_once_and_nothing_is_lost_or_damaged(
    stream: RuleStream, scripted_api: ScriptedApi, environment: dict[str, str]
) -> None:
    await stream.put_many([rule_state(number, parameters={"interval": 0.1}) for number in range(20)])
    metrics = f"http://127.0.0.1:{environment['ATTUNE_METRICS_PORT']}/metrics"
    async with timer_process(environment) as sensor, aiohttp.ClientSession() as session:
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 40, within=20)

        async def count(name: str) -> float:
            async with session.get(metrics) as answer:
                found = re.search(rf"^{name} ([0-9.e+]+)$", await answer.text(), re.MULTILINE)
            assert found is not None, name
            return float(found.group(1))

        # No file may grow beyond this, as if the disk were full.
        resource.prlimit(sensor.pid, resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
        await scripted_api.stop()

        async def full() -> bool:
            return (
                await count("attune_sensor_spool_errors_total") >= 2
                and await count("attune_sensor_queued_events") >= 50
            )

        await until(full, within=20)
        resource.prlimit(sensor.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        before = len(scripted_api.events)
        await scripted_api.start()
        await scripted_api.wait_for(lambda: len(scripted_api.events) > before + 100, within=40)

        async def empty() -> bool:
            return await count("attune_sensor_spool_events") == 0

        await until(empty, within=40)
        sensor.send_signal(signal.SIGTERM)
        log = await output(sensor)
    said = [line for line in log if line["event"] == "spool_unavailable"]
    assert len(said) == 1
    assert "cannot write to the spool: File too large; events wait in memory" in said[0]["error"]
    assert [line["event"] for line in log].count("spool_damaged") == 0
    for number in range(20):
        ks = [event["payload"]["k"] for event in scripted_api.events if event["rule_name"] == f"rule-{number}"]
        assert ks == list(range(ks[0], ks[-1] + 1)), "each once, in order, none missing"


async def test_idle_memory_is_small(stream: RuleStream, environment: dict[str, str]) -> None:
    port = environment["ATTUNE_METRICS_PORT"]
    async with timer_process(environment) as sensor, aiohttp.ClientSession() as session:

        async def ready() -> bool:
            async with session.get(f"http://127.0.0.1:{port}/ready") as answer:
                return answer.status == 200

        await until(ready, within=20)
        assert resident_kib(sensor.pid) <= 60 * 1024


async def test_a_thousand_rules_take_at_most_4_mib(stream: RuleStream, environment: dict[str, str]) -> None:
    metrics = f"http://127.0.0.1:{environment['ATTUNE_METRICS_PORT']}/metrics"
    environment["ATTUNE_TRIGGER_TYPES"] = "core.intervaltimer,core.crontimer"
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("core.intervaltimer", {"interval": 1, "unit": "hours", "missed": "all", "jitter": 30}),
        ("core.crontimer", {"cron": "30 6 * * MON-FRI", "timezone": "Europe/Berlin"}),
    ]
    async with timer_process(environment) as sensor, aiohttp.ClientSession() as session:

        async def wait_active(number: int) -> None:
            async def active() -> bool:
                async with session.get(metrics) as answer:
                    return f'attune_sensor_rules{{state="Active"}} {float(number)}\n' in await answer.text()

            await until(active, within=90, every=0.1)

        await stream.put_many([rule_state(9999)])
        await wait_active(1)
        before = resident_kib(sensor.pid)
        rules = [
            rule_state(number, trigger_type=kind, parameters=parameters, created_at=datetime.now(UTC))
            for number in range(3000)
            for kind, parameters in [kinds[number % 2]]
        ]
        await stream.put_many(rules)
        await wait_active(3001)
        assert resident_kib(sensor.pid) - before <= 3 * 4 * 1024


async def test_each_event_is_in_the_log_at_debug_with_its_rule_and_id(
    stream: RuleStream, scripted_api: ScriptedApi, environment: dict[str, str]
) -> None:
    await stream.put(rule_state(parameters={"interval": 0.1}))
    async with timer_process({**environment, "ATTUNE_LOG_LEVEL": "DEBUG"}) as sensor:
        await scripted_api.wait_for(lambda: len(scripted_api.events) >= 3, within=20)
        sensor.send_signal(signal.SIGTERM)
        log = await output(sensor)
    logged = {
        (line["rule"], line["rule_uid"], line["event_id"], line["result"])
        for line in log
        if line["event"] == "event_delivered"
    }
    assert logged == {("default/rule-1", event["rule_uid"], event["id"], "stored") for event in scripted_api.events}


async def test_environment_that_lacks_something_is_told_in_one_line() -> None:
    async with timer_process({"ATTUNE_SENSOR_REF": "attune-system/core.timer"}) as sensor:
        [line] = await output(sensor)
    assert sensor.returncode == 2
    assert line["event"] == "sensor_misconfigured"
    assert "ATTUNE_TRIGGER_TYPES, ATTUNE_API_URL, ATTUNE_API_TOKEN_FILE, ATTUNE_NATS_URL" in line["error"]


async def test_port_that_is_taken_ends_the_process_with_a_reason(
    environment: dict[str, str], scripted_api: ScriptedApi
) -> None:
    async with timer_process({**environment, "ATTUNE_METRICS_PORT": str(scripted_api.port)}) as sensor:
        log = await output(sensor)
    assert sensor.returncode == 1
    assert "address already in use" in json.dumps(log).lower()
