"""Runs over HTTP: reported on a real NATS server, stored, listed, followed, summed up."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy, StreamConfig
from support.api_process import ApiProcess
from support.eventually import until
from support.nats_client import connect
from support.nats_server import NatsServer
from support.postgres import PostgresServer
from support.run_reports import run

from attune_api.web.cursors import Cursor
from attune_contract.actions import ALL_RUNS, RUNS_STREAM, Run, encode, run_subject

pytest_plugins = ["support.api_fixtures"]
pytestmark = pytest.mark.nats


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, tmp_path: Path, nats_server: NatsServer) -> Iterator[ApiProcess]:
    url = None
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.create_database()
    with ApiProcess(tmp_path / "api", nats_url=nats_server.url, database_url=url, stream_heartbeat="0.2") as process:
        yield process


@asynccontextmanager
async def _runner(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    """What reports runs, with its stream."""
    client = await connect(server.url)
    jetstream = client.jetstream(timeout=60)
    await jetstream.add_stream(
        StreamConfig(name=RUNS_STREAM, subjects=[ALL_RUNS], retention=RetentionPolicy.WORK_QUEUE)
    )
    try:
        yield jetstream
    finally:
        await client.close()


async def _report(jetstream: JetStreamContext, *runs: Run) -> None:
    await asyncio.gather(*(jetstream.publish(run_subject(each), encode(each)) for each in runs))


async def _listed(reader: httpx.AsyncClient, count: int, **query: Any) -> list[dict[str, Any]]:
    """The runs that are listed, once there are so many."""

    async def listed() -> list[dict[str, Any]] | None:
        answer = await reader.get("/api/v1/runs", params={"limit": "1000", **query})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]
        return found if len(found) >= count else None

    return await until(listed, within=60)


async def test_reports_are_stored_then_gone_from_the_stream(api: ApiProcess, nats_server: NatsServer) -> None:
    async with api.reader() as reader, _runner(nats_server) as jetstream:
        await _report(jetstream, *(run(k, state="Failed" if k % 10 == 0 else "Succeeded") for k in range(300)))
        await _listed(reader, 300)

        async def all_acknowledged() -> bool:
            return bool((await jetstream.stream_info(RUNS_STREAM)).state.messages == 0)

        await until(all_acknowledged, within=30)
        assert len(await _listed(reader, 30, state="Failed")) == 30
        first = await reader.get("/api/v1/runs", params={"limit": "200", "order": "asc"})
        second = await reader.get(
            "/api/v1/runs", params={"limit": "200", "order": "asc", "cursor": first.json()["next_cursor"]}
        )
        ids = [entry["id"] for answer in (first, second) for entry in answer.json()["data"]]
        assert len(ids) == len(set(ids)) == 300
        assert second.json()["next_cursor"] is None
        one = (await reader.get(f"/api/v1/runs/{run(7).id}")).json()["data"]
        assert (one["event_seq"], one["state"], one["attempts"], one["result"]) == (7, "Succeeded", [], None)
        missing = await reader.get(f"/api/v1/runs/{uuid.UUID(int=1)}")
        assert (missing.status_code, missing.json()["type"]) == (404, "urn:attune:problem:run-not-found")
        counts = (await reader.get("/api/v1/runs/counts", params={"updated_after": "2026-11-01T00:00:00Z"})).json()
        assert [(entry["state"], entry["count"]) for entry in counts["data"]] == [("Succeeded", 270), ("Failed", 30)]


async def test_a_message_that_is_no_report_holds_up_no_other(api: ApiProcess, nats_server: NatsServer) -> None:
    async with api.reader() as reader, _runner(nats_server) as jetstream:
        await jetstream.publish("attune.runs.default.rule-1.x", b'{"id": 1}')
        too_big = run(1, attempts_made=2**70)
        await jetstream.publish(run_subject(too_big), encode(too_big).replace(b"1180591620717411303424", b"9" * 18))
        await _report(jetstream, run(2))
        await _listed(reader, 1, event_id=str(run(2).event_id))

        async def gone() -> bool:
            return bool((await jetstream.stream_info(RUNS_STREAM)).state.messages == 0)

        await until(gone, within=30)
        assert api.events_logged("run_message_invalid")


async def test_reports_wait_for_an_api_that_is_away(api: ApiProcess, nats_server: NatsServer) -> None:
    async with api.reader() as reader, _runner(nats_server) as jetstream:
        await _report(jetstream, run(1, state="Waiting"))
        await _listed(reader, 1)
        api.kill()
        await _report(jetstream, run(1, revision=2, state="Failed"), run(2))
        api.start()
        await _listed(reader, 2)
        await _listed(reader, 1, state="Failed")


async def test_summaries_tell_what_changed_since(api: ApiProcess, nats_server: NatsServer) -> None:
    async with api.reader() as reader, _runner(nats_server) as jetstream:
        failed = run(1, state="Failed", reason="TimedOut", message="no answer in 30 s", attempts_made=5)
        await _report(jetstream, failed, *(run(k, rule_uid="rule-2", rule_name="other") for k in (2, 3)))
        await _listed(reader, 3)
        page = (await reader.get("/api/v1/runs/summaries")).json()
        by_uid = {entry["rule_uid"]: entry for entry in page["data"]}
        assert {uid: (entry["succeeded"], entry["failed"]) for uid, entry in by_uid.items()} == {
            "rule-1": (0, 1),
            "rule-2": (2, 0),
        }
        failure = by_uid["rule-1"]["last_failure"]
        assert (failure["reason"], failure["message"], failure["run_id"]) == (
            "TimedOut",
            "no answer in 30 s",
            str(failed.id),
        )
        assert by_uid["rule-2"]["last_failure"] is None
        assert page["next_cursor"] is None
        same = (await reader.get("/api/v1/runs/summaries", params={"cursor": page["resume_cursor"]})).json()
        assert same["data"] == []
        await _report(jetstream, run(1, revision=2, state="Succeeded"))
        await _listed(reader, 3, state="Succeeded")
        after = (await reader.get("/api/v1/runs/summaries", params={"cursor": same["resume_cursor"]})).json()
        assert [(entry["rule_uid"], entry["succeeded"], entry["failed"]) for entry in after["data"]] == [
            ("rule-1", 1, 0)
        ]
        named = await reader.get(
            "/api/v1/runs/summaries", params={"rule_uid": "rule-2,rule-3", "rule_namespace": "default"}
        )
        assert [entry["rule_uid"] for entry in named.json()["data"]] == ["rule-2"]


async def test_a_cursor_of_another_database_is_refused(api: ApiProcess) -> None:
    """Or the operator would wait for numbers that this database has not come to."""
    async with api.reader() as reader:
        assert (await reader.get("/api/v1/runs/summaries")).json()["data"] == []
        ahead = Cursor(seq=1000, order="asc").encode()
        answer = await reader.get("/api/v1/runs/summaries", params={"cursor": ahead})
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:attune:problem:invalid-cursor")


async def test_runs_are_followed_as_they_change(api: ApiProcess, nats_server: NatsServer) -> None:
    async with api.reader() as reader, _runner(nats_server) as jetstream:
        await _report(jetstream, run(1))
        await _listed(reader, 1)
        async with reader.stream("GET", "/api/v1/runs/stream", params={"state": "Failed"}) as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            await anext(lines)  # retry
            await _report(jetstream, run(2), run(3, state="Failed"), run(1, revision=2, state="Failed"))
            seen: dict[str, int] = {}
            async with asyncio.timeout(150):
                async for line in lines:
                    if line.startswith("data: "):
                        entry = json.loads(line.removeprefix("data: "))
                        seen[entry["id"]] = entry["seq"]
                    if len(seen) == 2:
                        break
        assert set(seen) == {str(run(1).id), str(run(3).id)}
        # From the beginning, and from a place, with the last state of each.
        after = min(seen.values()) - 1
        async with reader.stream("GET", "/api/v1/runs/stream", headers={"Last-Event-ID": str(after)}) as answer:
            async with asyncio.timeout(150):
                async for line in answer.aiter_lines():
                    if line.startswith("id: ") and int(line.removeprefix("id: ")) >= max(seen.values()):
                        break


async def test_what_cannot_be_meant_is_refused(api: ApiProcess) -> None:
    async with api.reader() as reader, api.client() as sensor:
        for path, status in (
            ("runs?state=Lost", 422),
            ("runs?limit=0", 422),
            ("runs?stat=Failed", 422),
            ("runs?cursor=x", 400),
            ("runs/stream?limit=1", 422),
            ("runs/counts?updated_after=2026-01-02T00:00:00Z&updated_before=2026-01-01T00:00:00Z", 422),
            ("runs/summaries?rule_uid=" + ",".join("x" for _ in range(101)), 422),
            ("runs/x", 422),
        ):
            answer = await reader.get(f"/api/v1/{path}")
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), path
            assert (await sensor.get(f"/api/v1/{path}")).status_code in (403, 404, 422), path


async def test_two_replicas_share_the_reports(
    tmp_path: Path, nats_server: NatsServer, postgres: PostgresServer
) -> None:
    url = postgres.create_database()
    with (
        ApiProcess(tmp_path / "a", nats_url=nats_server.url, database_url=url) as one,
        ApiProcess(tmp_path / "b", nats_url=nats_server.url, database_url=url),
    ):
        async with one.reader() as reader, _runner(nats_server) as jetstream:
            for start in range(0, 1000, 250):
                await _report(jetstream, *(run(k) for k in range(start, start + 250)))
            assert len(await _listed(reader, 1000)) == 1000
            page = (await reader.get("/api/v1/runs/summaries")).json()
            assert [entry["succeeded"] for entry in page["data"]] == [1000]
