"""What a rule would do, asked over HTTP: conditions and rendered actions, with nothing done."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.api_process import ApiProcess, report
from support.eventually import until
from support.nats_server import NatsServer
from support.run_streams import RunStreams, run_streams

from attune_contract.actions import RuleActions

pytest_plugins = ["support.api_fixtures"]
pytestmark = pytest.mark.nats

UID = "7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10"
NAME = "echo-every-second"
PATH = f"/api/v1/rules/default/{NAME}/test"
ACTIONS: tuple[dict[str, Any], ...] = (
    {
        "name": "tell",
        "http": {
            "url": "https://example.org/${event.payload.k}",
            "headers": [{"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "chat", "key": "token"}}}],
            "body": {"k": "${event.payload.k}", "team": "${event.data.team}", "type": "${event.type}"},
        },
    },
    {"name": "large", "when": "event.payload.k > 1", "emit": {"name": "large"}},
    {"name": "wrong", "emit": {"name": "${event.payload.k / 0}"}},
)


@pytest.fixture
def api(tmp_path: Path, nats_server: NatsServer) -> Iterator[ApiProcess]:
    with ApiProcess(tmp_path / "api", nats_url=nats_server.url, check_rules="false") as process:
        yield process


async def _serve(reader: httpx.AsyncClient, streams: RunStreams, **changes: Any) -> None:
    fields = {"uid": UID, "namespace": "default", "name": NAME, "generation": 4, "data": {"team": "imports"}, **changes}
    await streams.publish_rule(RuleActions(**{"actions": ACTIONS, **fields}))

    async def known() -> bool:
        return (await reader.get(f"/api/v1/rules/default/{NAME}")).status_code == 200

    await until(known, within=60)


async def _tried(reader: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await reader.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_payload_of_ones_own_is_tried(api: ApiProcess, nats_server: NatsServer) -> None:
    async with api.reader() as reader, run_streams(nats_server) as streams:
        await _serve(reader, streams)
        answer = await _tried(reader, payload={"k": 1})
        assert (answer["generation"], answer["enabled"]) == (4, True)
        (trial,) = answer["data"]
        assert trial["event_seq"] is None
        tell, large, wrong = trial["steps"]
        assert (tell["action"], tell["kind"], tell["fate"]) == ("tell", "http", "run")
        assert tell["request"]["url"] == "https://example.org/1"
        assert tell["request"]["body"] == {"k": 1, "team": "imports", "type": "core.intervaltimer"}
        assert tell["request"]["headers"][0]["valueFrom"] == {"secretKeyRef": {"name": "chat", "key": "token"}}
        assert (large["fate"], large["reason"], large["request"]) == ("skip", "ConditionFalse", None)
        assert (wrong["fate"], wrong["reason"]) == ("fail", "InvalidExpression")
        assert await streams.queued() == []


async def test_stored_events_are_tried(api: ApiProcess, nats_server: NatsServer) -> None:
    async with api.reader() as reader, api.client() as sensor, run_streams(nats_server) as streams:
        await _serve(reader, streams)
        bodies = [report(k) for k in range(4)]
        assert (await sensor.post("/api/v1/events/batch", json={"events": bodies})).status_code == 200
        (one,) = (await _tried(reader, event_id=bodies[2]["id"]))["data"]
        assert (one["event_id"], [step["fate"] for step in one["steps"]]) == (bodies[2]["id"], ["run", "run", "fail"])
        several = (await _tried(reader, occurred_after=bodies[1]["occurred_at"], limit=2))["data"]
        assert [trial["event_id"] for trial in several] == [bodies[3]["id"], bodies[2]["id"]]
        missing = await reader.post(PATH, json={"event_id": str(uuid.uuid4())})
        assert (missing.status_code, missing.json()["type"]) == (404, "urn:attune:problem:event-not-found")


async def test_an_expression_that_takes_too_long_fails_and_holds_up_no_other(
    api: ApiProcess, nats_server: NatsServer
) -> None:
    slow = "event.payload.list.all(a, event.payload.list.all(b, event.payload.list.all(c, a + b + c >= 0)))"
    async with api.reader() as reader, run_streams(nats_server) as streams:
        await _serve(reader, streams, when=slow)
        answer = await _tried(reader, payload={"list": list(range(500)), "k": 1})
        assert {step["fate"] for step in answer["data"][0]["steps"]} == {"fail"}
        assert (await reader.get("/health")).status_code == 200
        answer = await _tried(reader, payload={"list": [1], "k": 1})
        assert answer["data"][0]["steps"][0]["fate"] == "run"


async def test_who_may_not_read_the_rule_and_what_cannot_be_meant_is_refused(
    api: ApiProcess, nats_server: NatsServer
) -> None:
    async with api.reader() as reader, api.client() as sensor, run_streams(nats_server) as streams:
        await _serve(reader, streams)
        assert (await sensor.post(PATH, json={"payload": {}})).status_code == 403
        wrong: list[dict[str, Any]] = [
            {},
            {"payload": {}, "event_id": str(uuid.uuid4())},
            {"payload": []},
            {"payload": {}, "limit": 101},
        ]
        for body in wrong:
            assert (await reader.post(PATH, json=body)).status_code == 422, body
        missing = await reader.post("/api/v1/rules/default/missing/test", json={"payload": {}})
        assert (missing.status_code, missing.json()["type"]) == (404, "urn:attune:problem:rule-not-found")
