"""The Sensor core.patterns as a process, with the real API and a real NATS server: kills, and whose events it may read."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.api_process import SENSOR as REPORTER
from support.api_process import TYPE, ApiProcess
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_stream import RuleStream, rule_state
from support.sensor_process import SensorProcess, serve, stored_events

from attune_contract.derived import DERIVED_TRIGGER_TYPES
from attune_contract.identity import SensorRef
from attune_contract.messages import AckState, RuleState

pytestmark = pytest.mark.nats

REF = SensorRef("attune-system", "core.patterns")
TYPES = sorted(DERIVED_TRIGGER_TYPES)
BEAT = rule_state(900, name="beat")
OTHERS = rule_state(901, name="beat", namespace="secret")


class Stage:
    """The API with NATS, the sensor, and Rules of another sensor that events are reported for."""

    def __init__(self, directory: Path, nats: NatsServer) -> None:
        self.api = ApiProcess(directory / "api", nats_url=nats.url)
        (directory / "sensor").mkdir(parents=True)
        self.sensor = SensorProcess(
            "attune_patterns",
            directory=directory / "sensor",
            ref=REF,
            trigger_type="core.absent",
            api=self.api,
            nats=nats,
            ATTUNE_TRIGGER_TYPES=",".join(TYPES),
        )
        self.token = self.api.minter.token(login=REF.login, metadata={"trigger_types": TYPES})
        self.sensor.token_file.write_text(self.token)
        self.rules = RuleStream(nats.url, sensor=REF)
        self.reported = RuleStream(nats.url, sensor=REPORTER)

    async def start(self) -> None:
        for stream in (self.rules, self.reported):
            await stream.connect()
        await self.rules.make_streams()
        self.api.start(path="/ready")
        await self.reported.put_many([BEAT, OTHERS])
        await self.sensor.start()

    async def end(self) -> None:
        await self.sensor.kill()
        self.api.stop()
        await self.rules.close()
        await self.reported.close()

    async def report(self, *keys: str, rule: RuleState = BEAT, ago: float = 0.0) -> dict[str, datetime]:
        """Report an event of each key; returns when they occurred."""
        at = {key: datetime.now(UTC) - timedelta(seconds=ago) for key in keys}
        events = [
            {
                "id": str(uuid.uuid4()),
                "trigger_type": TYPE,
                "rule_uid": rule.uid,
                "rule_namespace": rule.namespace,
                "rule_name": rule.name,
                "occurred_at": moment.isoformat(),
                "payload": {"key": key},
            }
            for key, moment in at.items()
        ]
        async with self.api.client() as client:
            answer = await client.post("/api/v1/events/batch", json={"events": events})
        assert {each["status"] for each in answer.json()["data"]} == {"stored"}
        return at

    async def events(self, rule: RuleState) -> list[dict[str, Any]]:
        return await stored_events(self.api, rule_uid=rule.uid)

    async def count(self, rule: RuleState, number: int) -> list[dict[str, Any]]:
        """The rule's events, when there are so many."""

        async def enough() -> list[dict[str, Any]] | None:
            found = await self.events(rule)
            return found if len(found) >= number else None

        return await until(enough, within=60, every=0.2, what=f"{number} events of {rule.name}")


@pytest.fixture
async def stage(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path, nats_server)
    try:
        await stage.start()
        yield stage
    finally:
        await stage.end()


def rule(number: int, kind: str, **parameters: Any) -> RuleState:
    return rule_state(number, trigger_type=kind, parameters={"rules": ["beat"], **parameters})


async def test_a_sensor_that_is_killed_over_a_deadline_tells_each_absence_once(stage: Stage) -> None:
    within = timedelta(seconds=3)
    absent = rule(1, "core.absent", within="3s", key="event.payload.key", returns=True)
    count = rule(2, "core.count", within="1h", count=3, key="event.payload.key", when="event.payload.key != 'b'")
    await serve(stage.rules, [absent, count])
    at = await stage.report("a", "b", "c")
    await stage.sensor.kill()
    at |= await stage.report("c")
    await until(lambda: datetime.now(UTC) > max(at.values()) + within, within=30)
    await stage.sensor.start()
    missing = await stage.count(absent, 3)
    await stage.sensor.kill()
    await stage.report("a", "c")
    await stage.sensor.start()
    found = await stage.count(absent, 7)  # three missing, two back, and these two missing again
    assert [(each["payload"]["key"], each["payload"]["status"]) for each in missing] == [
        ("a", "missing"),
        ("b", "missing"),
        ("c", "missing"),
    ]
    for each in missing:
        assert datetime.fromisoformat(each["occurred_at"]) == at[each["payload"]["key"]] + within
    assert sorted((each["payload"]["key"], each["payload"]["status"]) for each in found[3:]) == [
        ("a", "back"),
        ("a", "missing"),
        ("c", "back"),
        ("c", "missing"),
    ]
    # Counted over both kills: c had three.
    [reached] = await stage.count(count, 1)
    assert reached["payload"]["key"] == "c"
    assert [each["rule"] for each in reached["payload"]["events"]] == ["beat"] * 3
    await stage.report("b")
    assert len(await stage.count(absent, 8)) == 8  # b is back: all before it was decided, and nothing twice
    assert len(await stage.events(count)) == 1


async def test_it_reads_events_of_the_namespaces_of_its_own_rules_only(stage: Stage) -> None:
    """A Rule with one of these types lets its Sensor read its namespace. Nothing else does."""
    count = rule(1, "core.count", within="1h", count=2)
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
    count = rule(1, "core.count", within="1h", count=2)
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
