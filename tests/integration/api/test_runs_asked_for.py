"""Runs that people ask for: retried, and replayed for stored events. On a real NATS server, both databases."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from support.api_process import ApiProcess, report
from support.eventually import until
from support.nats_server import NatsServer
from support.postgres import PostgresServer
from support.run_reports import run
from support.run_streams import RunStreams, run_streams

from attune_contract.actions import RuleActions, RunState, run_id

pytest_plugins = ["support.api_fixtures"]
pytestmark = pytest.mark.nats

UID = "7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10"
NAME = "echo-every-second"  # of support.api_process.report


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, tmp_path: Path, nats_server: NatsServer) -> Iterator[ApiProcess]:
    url = None
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.create_database()
    with ApiProcess(tmp_path / "api", nats_url=nats_server.url, database_url=url, check_rules="false") as process:
        yield process


async def _events(api: ApiProcess, *ks: int) -> list[uuid.UUID]:
    """Store events; their ids."""
    bodies = [report(k) for k in ks]
    async with api.client() as sensor:
        answer = await sensor.post("/api/v1/events/batch", json={"events": bodies})
        assert answer.status_code == 200, answer.text
    return [uuid.UUID(body["id"]) for body in bodies]


def _run(event_id: uuid.UUID, k: int, **changes: Any) -> Any:
    return run(k, event_id=event_id, rule_uid=UID, rule_name=NAME, **changes)


async def _stored(reader: httpx.AsyncClient, count: int, **query: Any) -> list[dict[str, Any]]:
    async def listed() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = (await reader.get("/api/v1/runs", params=query)).json()["data"]
        return found if len(found) >= count else None

    return await until(listed, within=60)


async def _retry(reader: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await reader.post("/api/v1/runs/retry", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_failed_runs_are_queued_with_their_events(api: ApiProcess, nats_server: NatsServer) -> None:
    async with api.reader() as reader, run_streams(nats_server) as streams:
        failed, succeeded, waiting = await _events(api, 1, 2, 3)
        gone = uuid.uuid4()
        runs = [
            _run(failed, 1, state="Failed", revision=6, attempts_made=5, message="no"),
            _run(succeeded, 2),
            _run(waiting, 3, state="Waiting"),
            _run(gone, 4, state="Failed"),
        ]
        await streams.report(*runs)
        await _stored(reader, 4)
        unknown = uuid.uuid4()
        answer = await _retry(reader, ids=[str(each.id) for each in runs] + [str(unknown), str(runs[0].id)])
        assert answer["queued"] == [str(runs[0].id)]
        assert {entry["id"]: entry["reason"] for entry in answer["refused"]} == {
            str(runs[1].id): "Succeeded",
            str(runs[2].id): "NotEnded",
            str(runs[3].id): "EventGone",
            str(unknown): "NotFound",
        }
        (queued,) = await streams.queued()
        assert (queued.run.id, queued.run.revision, queued.run.state) == (runs[0].id, 7, RunState.WAITING)
        assert (queued.by_hand, queued.asked_by, queued.run.attempts_made) == (True, "service:admin", 5)
        event = msgspec.json.decode(queued.event)
        assert (event["id"], event["payload"]) == (str(failed), {"k": 1})
        one = (await reader.get(f"/api/v1/runs/{runs[0].id}")).json()["data"]
        assert (one["state"], one["message"]) == ("Waiting", "asked for by service:admin")
        # Asked again while it waits, it is left alone.
        assert (await _retry(reader, ids=[str(runs[0].id)]))["refused"][0]["reason"] == "NotEnded"
        assert len(await streams.queued()) == 1
        # What the runner says of it afterwards counts.
        await streams.report(_run(failed, 1, revision=8))
        await _stored(reader, 2, state="Succeeded")


async def test_failed_runs_are_queued_in_bulk(api: ApiProcess, nats_server: NatsServer) -> None:
    async with api.reader() as reader, run_streams(nats_server) as streams:
        events = await _events(api, *range(25))
        await streams.report(
            *(_run(event, k, state="Failed" if k % 5 else "Skipped") for k, event in enumerate(events))
        )
        await _stored(reader, 25)
        asked: list[str] = []
        cursor = None
        while True:
            body = {"rule_namespace": "default", "rule_name": NAME, "limit": 7} | ({"cursor": cursor} if cursor else {})
            answer = await _retry(reader, **body)
            asked += answer["queued"]
            cursor = answer["next_cursor"]
            if cursor is None:
                break
        assert sorted(asked) == sorted(str(_run(event, k).id) for k, event in enumerate(events) if k % 5)
        assert len(await streams.queued()) == 20
        assert (await _retry(reader, rule_namespace="default", state="Failed"))["queued"] == []


async def test_nothing_is_marked_when_the_queue_is_not_there(api: ApiProcess, nats_server: NatsServer) -> None:
    async with api.reader() as reader, run_streams(nats_server, queue=False) as streams:
        (event,) = await _events(api, 1)
        await streams.report(_run(event, 1, state="Failed"))
        (listed,) = await _stored(reader, 1)
        answer = await reader.post("/api/v1/runs/retry", json={"ids": [listed["id"]]})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:attune:problem:runs-not-queued")
        assert (await _stored(reader, 1))[0]["state"] == "Failed"


async def _replayed(reader: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    since = "2026-11-01T00:00:00Z"
    body = {"rule_namespace": "default", "rule_name": NAME, "occurred_after": since, **changes}
    return await reader.post("/api/v1/events/replay", json=body)


async def _served(reader: httpx.AsyncClient, streams: RunStreams) -> None:
    """A rule with two actions, once the API knows it."""
    actions = ({"name": "tell", "http": {"url": "https://example.org"}}, {"name": "mark", "emit": {"name": "x"}})
    await streams.publish_rule(RuleActions(uid=UID, namespace="default", name=NAME, generation=4, actions=actions))

    async def known() -> bool:
        return (await reader.get(f"/api/v1/rules/default/{NAME}")).status_code == 200

    await until(known, within=60)


async def test_stored_events_are_replayed_once(api: ApiProcess, nats_server: NatsServer) -> None:
    async with api.reader() as reader, run_streams(nats_server) as streams:
        await _served(reader, streams)
        events = await _events(api, *range(6))
        await streams.report(_run(events[0], 0, action="tell", id=run_id(UID, events[0], "tell")))
        await _stored(reader, 1)
        queued, already, looked, cursor = 0, 0, 0, None
        while True:
            answer = (await _replayed(reader, limit=4, **({"cursor": cursor} if cursor else {}))).json()
            queued, already, looked = (
                queued + len(answer["queued"]),
                already + answer["already_run"],
                looked + answer["events"],
            )
            cursor = answer["next_cursor"]
            if cursor is None:
                break
        assert (queued, already, looked) == (11, 1, 6)
        found = await streams.queued()
        assert {each.run.id for each in found} == {
            run_id(UID, event, action) for event in events for action in ("tell", "mark")
        } - {run_id(UID, events[0], "tell")}
        assert {(each.run.rule_generation, each.by_hand, each.run.kind) for each in found} == {
            (4, True, "http"),
            (4, True, "emit"),
        }
        # Those that wait are left alone, with `again` as well; the one that has ended is not.
        again = (await _replayed(reader, again=True)).json()
        assert (again["queued"], again["already_run"]) == ([str(run_id(UID, events[0], "tell"))], 11)
        assert (await streams.queued())[-1].run.revision == 2


async def test_a_replay_can_be_of_one_action_and_a_time(api: ApiProcess, nats_server: NatsServer) -> None:
    async with api.reader() as reader, run_streams(nats_server) as streams:
        await _served(reader, streams)
        events = await _events(api, *range(4))
        first = datetime(2026, 11, 23, 12, tzinfo=UTC)
        answer = await _replayed(
            reader,
            action="mark",
            occurred_after=(first + timedelta(seconds=1)).isoformat(),
            occurred_before=(first + timedelta(seconds=3)).isoformat(),
        )
        assert answer.json()["queued"] == [str(run_id(UID, event, "mark")) for event in events[1:3]]
        wrong = await _replayed(reader, action="other")
        assert (wrong.status_code, wrong.json()["type"]) == (422, "urn:attune:problem:no-such-action")
        missing = await _replayed(reader, rule_name="missing")
        assert (missing.status_code, missing.json()["type"]) == (404, "urn:attune:problem:rule-not-found")


async def test_wrong_requests_are_refused(api: ApiProcess) -> None:
    async with api.reader() as reader, api.client() as sensor:
        for path, body, status in (
            ("runs/retry", {}, 422),
            ("runs/retry", {"ids": ["x"]}, 422),
            ("runs/retry", {"ids": [str(uuid.uuid4())], "rule_namespace": "default"}, 422),
            ("runs/retry", {"rule_name": "alone"}, 422),
            ("runs/retry", {"state": "Succeeded"}, 422),
            ("runs/retry", {"rule_namespace": "default", "cursor": "x"}, 400),
            ("runs/retry", {"unknown": 1}, 422),
            ("runs/retry", {"rule_namespace": "default", "limit": 501}, 422),
            ("events/replay", {"rule_namespace": "default", "rule_name": NAME}, 422),
        ):
            answer = await reader.post(f"/api/v1/{path}", json=body)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), body
        replay = {"rule_namespace": "default", "rule_name": NAME, "occurred_after": "2026-11-01T00:00:00Z"}
        assert (await sensor.post("/api/v1/events/replay", json=replay)).status_code == 403
        assert (await sensor.post("/api/v1/runs/retry", json={"rule_namespace": "default"})).status_code == 403
        assert (await reader.post("/api/v1/runs/retry", content=b"{")).status_code == 400
