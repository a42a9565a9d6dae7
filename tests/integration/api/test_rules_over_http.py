"""Rules, sensors and a rule's history over HTTP: what the streams say, by a real NATS server."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from support.api_process import ApiProcess
from support.eventually import until
from support.nats_client import connect
from support.nats_server import NatsServer

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import (
    HISTORY_CHANGED_AT,
    HISTORY_CHANGED_BY,
    HISTORY_SENSOR,
    Ack,
    AckState,
    IdentityState,
    RuleEventType,
    RuleState,
    encode,
    rule_event_headers,
)
from attune_operator.streams.definitions import acks_stream, history_stream, rules_stream

pytest_plugins = ["support.api_fixtures"]
pytestmark = pytest.mark.nats

TIMER = SensorRef("attune-system", "core.timer")
START = datetime(2026, 11, 23, 12, tzinfo=UTC)


def rule(name: str, *, namespace: str = "default", uid: str | None = None, **changes: Any) -> RuleState:
    fields: dict[str, Any] = {
        "uid": uid or f"uid-{namespace}-{name.replace('.', '-')}",
        "namespace": namespace,
        "name": name,
        "generation": 2,
        "enabled": True,
        "trigger_type": "core.intervaltimer",
        "parameters": {"interval": 1},
        "created_at": START,
        **changes,
    }
    return RuleState(**fields)


class Operator:
    """What the operator and the sensors say, on the real streams."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._jetstream = jetstream

    async def publish(
        self, state: RuleState, *, sensor: SensorRef = TIMER, event: str = "CREATED", minute: int = 0
    ) -> None:
        time = START + timedelta(minutes=minute)
        headers = rule_event_headers(RuleEventType[event], state, time=time, event_id=uuid.uuid4())
        await self._jetstream.publish(subjects.rule_subject(sensor, state.uid), encode(state), headers=headers)
        past = {HISTORY_SENSOR: sensor.token, HISTORY_CHANGED_BY: "kubectl", HISTORY_CHANGED_AT: "2026-11-23T11:59:00Z"}
        subject = subjects.history_subject(state.namespace, state.name, state.uid)
        await self._jetstream.publish(subject, encode(state), headers={**headers, **past})

    async def ack(self, state: RuleState, said: AckState, *, generation: int = 2, message: str = "") -> None:
        ack = Ack(rule_uid=state.uid, generation=generation, state=said, instance="pod-1", at=START, message=message)
        await self._jetstream.publish(subjects.ack_subject(TIMER, state.uid), encode(ack))

    async def sensor(self, ref: SensorRef, **changes: Any) -> None:
        state = IdentityState(sensor_ref=str(ref), uid="uid-1", trigger_types=("core.intervaltimer",), **changes)
        await self._jetstream.publish(subjects.identity_subject(ref), encode(state))


@asynccontextmanager
async def _operator(server: NatsServer) -> AsyncIterator[Operator]:
    client = await connect(server.url)
    jetstream = client.jetstream(timeout=60)
    for config in (
        rules_stream(replicas=1),
        acks_stream(replicas=1),
        StreamConfig(name=subjects.IDENTITIES_STREAM, subjects=[subjects.ALL_IDENTITIES], max_msgs_per_subject=1),
        history_stream(replicas=1, per_rule=50, max_age=0),
    ):
        await jetstream.add_stream(config)
    try:
        yield Operator(jetstream)
    finally:
        await client.close()


@pytest.fixture
def api(tmp_path: Path, nats_server: NatsServer) -> Iterator[ApiProcess]:
    with ApiProcess(tmp_path / "api", nats_url=nats_server.url) as process:
        yield process


async def _get(reader: httpx.AsyncClient, path: str, **query: Any) -> Any:
    """The answer's body, once the API has heard of rules and sensors at all."""

    async def answered() -> httpx.Response | None:
        found = await reader.get(f"/api/v1/{path}", params=query)
        return None if found.status_code == 503 else found

    answer = await until(answered, within=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def _settled(reader: httpx.AsyncClient, path: str, *, count: int) -> list[Any]:
    """What is listed, once there are so many."""

    async def listed() -> list[Any] | None:
        found: list[Any] = (await _get(reader, path))["data"]
        return None if len(found) < count else found

    return await until(listed, within=30)


async def test_rules_are_listed_with_their_sensors_word_on_them(api: ApiProcess, nats_server: NatsServer) -> None:
    told = {name: rule(name) for name in ("active", "rejected", "silent", "stale")}
    async with _operator(nats_server) as operator, api.reader() as reader:
        for state in told.values():
            await operator.publish(state)
        await operator.publish(
            rule("elsewhere", namespace="team-a", trigger_type="core.webhook"), sensor=SensorRef("team-a", "hook")
        )
        await operator.ack(told["active"], AckState.ACTIVE)
        await operator.ack(told["rejected"], AckState.REJECTED, message="no such zone")
        await operator.ack(told["stale"], AckState.ACTIVE, generation=1)
        await _settled(reader, "rules", count=5)
        listed = (await _get(reader, "rules", namespace="default"))["data"]
        assert [(entry["name"], entry["state"], entry["message"]) for entry in listed] == [
            ("active", "Active", ""),
            ("rejected", "Rejected", "no such zone"),
            ("silent", "Waiting", ""),
            ("stale", "Waiting", ""),
        ]
        assert listed[0] == {
            "uid": "uid-default-active",
            "namespace": "default",
            "name": "active",
            "generation": 2,
            "enabled": True,
            "trigger_type": "core.intervaltimer",
            "sensor_ref": "attune-system/core.timer",
            "created_at": "2026-11-23T12:00:00Z",
            "state": "Active",
            "message": "",
            "state_at": "2026-11-23T12:00:00.000000Z",
        }
        for query in ({"sensor": "team-a/hook"}, {"trigger_type": "core.webhook"}, {"namespace": "team-a"}):
            assert [entry["name"] for entry in (await _get(reader, "rules", **query))["data"]] == ["elsewhere"]
        assert (await _get(reader, "rules/default/rejected"))["data"] == listed[1]
        missing = await reader.get("/api/v1/rules/default/nobody")
        assert (missing.status_code, missing.json()["type"]) == (404, "urn:attune:problem:rule-not-found")
        nats_server.stop()
        assert {entry["state"] for entry in (await _get(reader, "rules"))["data"]} == {"Unknown"}


async def test_pages_of_rules_hold_each_once(api: ApiProcess, nats_server: NatsServer) -> None:
    async with _operator(nats_server) as operator, api.reader() as reader:
        for k in range(12):
            await operator.publish(rule(f"rule-{k:02}", namespace=f"team-{k % 3}"))
        await _settled(reader, "rules", count=12)
        names, query = [], {"limit": "5"}
        while True:
            page = await _get(reader, "rules", **query)
            names += [(entry["namespace"], entry["name"]) for entry in page["data"]]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        assert names == sorted((f"team-{k % 3}", f"rule-{k:02}") for k in range(12))
        assert (await reader.get("/api/v1/rules", params={"cursor": "WzEsImEiXQ", "nonsense": "1"})).status_code == 422
        assert (await reader.get("/api/v1/rules", params={"cursor": "nonsense"})).status_code == 400


async def test_a_rules_history_is_there_after_it_was_deleted_and_made_again(
    api: ApiProcess, nats_server: NatsServer
) -> None:
    async with _operator(nats_server) as operator, api.reader() as reader:
        first, second = rule("echo.daily", uid="uid-1"), rule("echo.daily", uid="uid-2", generation=1)
        await operator.publish(first, minute=0)
        await operator.publish(first, event="DELETED", minute=1)
        await operator.publish(second, minute=2)
        for minute in range(3, 60):
            await operator.publish(rule("echo.daily", uid="uid-2", generation=minute), event="UPDATED", minute=minute)
        await operator.publish(rule("echo", uid="uid-3"))
        entries = (await _get(reader, "rules/default/echo.daily/history", limit=1000))["data"]
        # Of each rule the last 50 are kept.
        assert [entry["rule_uid"] for entry in entries] == ["uid-2"] * 50 + ["uid-1"] * 2
        assert [entry["type"] for entry in entries[-2:]] == ["deleted", "created"]
        assert entries[0] == {
            "type": "updated",
            "at": "2026-11-23T12:59:00Z",
            "rule_uid": "uid-2",
            "generation": 59,
            "enabled": True,
            "trigger_type": "core.intervaltimer",
            "parameters": {"interval": 1},
            "sensor_ref": "attune-system/core.timer",
            "changed_by": "kubectl",
            "changed_at": "2026-11-23T11:59:00Z",
            "reason": "",
        }
        assert (await _get(reader, "rules/default/echo.daily/history", limit=3))["data"] == entries[:3]
        assert (await reader.get("/api/v1/rules/default/nobody/history")).status_code == 404
        assert (await reader.get("/api/v1/rules/Default/nobody/history")).status_code == 422


async def test_sensors_are_listed_until_they_are_deleted(api: ApiProcess, nats_server: NatsServer) -> None:
    async with _operator(nats_server) as operator, api.reader() as reader:
        await operator.sensor(TIMER)
        await operator.sensor(SensorRef("team-a", "hook"))
        await operator.sensor(SensorRef("team-a", "old"), deleted=True)
        await operator.publish(rule("one"))
        await _settled(reader, "rules", count=1)
        assert (await _settled(reader, "sensors", count=2))[0] == {
            "sensor_ref": "attune-system/core.timer",
            "namespace": "attune-system",
            "name": "core.timer",
            "uid": "uid-1",
            "trigger_types": ["core.intervaltimer"],
            "rules": 1,
        }
        assert [s["sensor_ref"] for s in (await _get(reader, "sensors", namespace="team-a"))["data"]] == ["team-a/hook"]
        page = await _get(reader, "sensors", limit=1)
        assert len(page["data"]) == 1
        rest = await _get(reader, "sensors", limit=1, cursor=page["next_cursor"])
        assert ([s["name"] for s in rest["data"]], rest["next_cursor"]) == (["hook"], None)


async def test_without_nats_the_answer_says_so(shared_api: ApiProcess) -> None:
    async with shared_api.reader() as reader:
        for path in ("rules", "rules/default/echo", "rules/default/echo/history", "sensors"):
            answer = await reader.get(f"/api/v1/{path}")
            assert answer.status_code == 503, answer.text
            assert "NATS" in answer.json()["detail"]
