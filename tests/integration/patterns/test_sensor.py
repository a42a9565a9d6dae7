"""The Sensor core.patterns as a process, with the real API and a real NATS server: kills, and whose events it may read."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.eventually import until
from support.nats_server import NatsServer
from support.pattern_model import SECOND, absent_of, entries_of, happened_of, of_each_key
from support.pattern_stage import BEAT, OTHERS, TYPES, Stage, pattern
from support.rule_stream import rule_state
from support.sensor_process import serve

from attune_contract.messages import AckState
from attune_patterns.events import instant

pytestmark = pytest.mark.nats


@pytest.fixture
async def stage(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path, nats_server)
    try:
        await stage.start()
        yield stage
    finally:
        await stage.end()


async def test_a_sensor_that_is_killed_over_a_deadline_tells_each_absence_once(stage: Stage) -> None:
    within = timedelta(seconds=3)
    absent = pattern(1, "core.absent", within="3s", key="event.payload.key", returns=True)
    count = pattern(2, "core.count", within="1h", count=3, key="event.payload.key", when="event.payload.key != 'b'")
    await serve(stage.rules, [absent, count])
    await stage.report("a", "b", "c")
    await stage.sensor.kill()
    at = await stage.report("c")
    await until(lambda: datetime.now(UTC) > at["c"] + within, within=30)
    await stage.sensor.start()
    await stage.count(absent, 3)
    await stage.sensor.kill()
    await stage.report("a", "c")
    await stage.sensor.start()

    async def as_the_model_says() -> bool:
        # What is missing depends on how long this machine took between two reports, so a model says it.
        log = await stage.events(BEAT)
        wanted = of_each_key(entries_of(log), absent_of, within=3 * SECOND, until=instant(datetime.now(UTC)))
        return happened_of(await stage.events(absent), log) == wanted and len(wanted) >= 7

    await until(as_the_model_says, within=60, every=0.2)
    [reached] = await stage.count(count, 1)  # over both kills
    assert reached["payload"]["key"] == "c"
    assert [each["rule"] for each in reached["payload"]["events"]] == ["beat"] * 3
    await stage.report("b")
    await until(as_the_model_says, within=60, every=0.2)
    assert len(await stage.events(count)) == 1


async def test_it_reads_events_of_the_namespaces_of_its_own_rules_only(stage: Stage) -> None:
    """A Rule with one of these types lets its Sensor read its namespace. Nothing else does."""
    count = pattern(1, "core.count", within="1h", count=2)
    await serve(stage.rules, [count])
    await stage.report("a")
    await stage.report("x", rule=OTHERS)
    stranger = stage.api.minter.token(login="sensor:secret/other", metadata={"trigger_types": TYPES})

    async def asks(token: str, rule_uid: str, namespace: str, name: str = "beat") -> Any:
        query: dict[str, Any] = {"rule_uid": rule_uid, "namespace": namespace, "name": name, "after": 0}
        async with stage.api.client(token) as client:
            answer = await client.get("/api/v1/sensor/events", params=query)
        return answer.status_code, answer.json()

    status, page = await asks(stage.token, count.uid, "default")
    assert (status, [event["payload"] for event in page["data"]]) == (200, [{"key": "a"}])
    for token, uid, namespace in [
        (stage.token, count.uid, "secret"),  # of another namespace than its rule
        (stage.token, OTHERS.uid, "secret"),  # for a rule that another sensor serves
        (stage.token, str(uuid.uuid4()), "secret"),  # for no rule
        (stranger, count.uid, "default"),  # another sensor, for this one's rule
        (stage.api.minter.token(), BEAT.uid, "default"),  # its own rule, which is not about events
    ]:
        status, answer = await asks(token, uid, namespace)
        assert (status, answer.get("type")) == (403, "urn:attune:problem:events-not-allowed"), answer
    for token, uid in ((stage.token, OTHERS.uid), (stranger, count.uid)):
        async with stage.api.client(token) as client:
            assert (await client.get(f"/api/v1/sensor/states/{uid}")).status_code == 403
            body = {"generation": 9, "position": 0, "state": ""}
            assert (await client.put(f"/api/v1/sensor/states/{uid}", json=body)).status_code == 403
            assert (await client.delete(f"/api/v1/sensor/states/{uid}")).status_code == 403


async def test_a_rule_that_is_changed_or_switched_on_again_begins_anew(stage: Stage) -> None:
    count = pattern(1, "core.count", within="1h", count=2)
    await serve(stage.rules, [count])
    await stage.report("a")
    renamed = rule_state(1, trigger_type="core.count", generation=2, parameters=count.parameters)
    await serve(stage.rules, [renamed])  # nothing that matters to the sensor
    await stage.report("b")
    assert len(await stage.count(count, 1)) == 1
    await stage.report("c")
    off = rule_state(1, trigger_type="core.count", generation=3, parameters=count.parameters, enabled=False)
    await stage.rules.put(off)
    await stage.rules.wait_ack(off, AckState.STOPPED)
    on = rule_state(1, trigger_type="core.count", generation=4, parameters=count.parameters)
    await serve(stage.rules, [on])
    await stage.report("d")  # the first
    three = rule_state(1, trigger_type="core.count", generation=5, parameters={**count.parameters, "count": 3})
    await serve(stage.rules, [three])
    await stage.report("e", "f", "g")
    found = await stage.count(count, 2)
    assert [each["payload"]["count"] for each in found] == [2, 3]
