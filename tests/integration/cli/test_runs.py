"""``attune runs`` and ``attune events replay`` against the real API, with a real NATS server behind it."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.api_process import ApiProcess, report
from support.cli import attune
from support.eventually import until
from support.nats_server import NatsServer
from support.run_reports import run
from support.run_streams import RunStreams, run_streams

from attune_cli.errors import ExitCode
from attune_contract.actions import Attempt, RuleActions, Run, RunReason, run_id
from attune_contract.local import Endpoint, Endpoints, write_endpoints
from attune_local.ports import free_port

pytestmark = pytest.mark.nats

UID = "7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10"
NAME = "echo-every-second"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@dataclass(frozen=True)
class Setup:
    api: ApiProcess
    flags: tuple[str, ...]
    streams: RunStreams
    events: list[uuid.UUID]

    def run(self, k: int, **changes: Any) -> Run:
        return run(k, event_id=self.events[k], rule_uid=UID, rule_name=NAME, **changes)

    async def attune(self, *arguments: object, code: int = 0) -> Any:
        return await asyncio.to_thread(attune, *arguments, *self.flags, code=code)

    async def reported(self, *runs: Run) -> None:
        """Report runs, and wait until the API has them."""
        await self.streams.report(*runs)
        async with self.api.reader() as reader:
            for each in runs:

                async def there(each: Run = each) -> bool:
                    answer = await reader.get(f"/api/v1/runs/{each.id}")
                    return answer.status_code == 200 and answer.json()["data"]["revision"] >= each.revision

                await until(there, within=60)


def _flags(api: ApiProcess, directory: Path) -> tuple[str, ...]:
    directory.mkdir()
    nobody = directory / "kubernetes.token"
    nobody.write_text("none\n")
    write_endpoints(
        directory,
        Endpoints(
            pid=os.getpid(),
            kubernetes=Endpoint(url=f"http://127.0.0.1:{free_port()}", token_file=str(nobody)),
            api=Endpoint(url=api.url, token_file=str(api.directory / "admin-token")),
        ),
    )
    return "--data-dir", str(directory)


@pytest.fixture
async def setup(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Setup]:
    """The API with four events of one rule, and the streams."""
    with ApiProcess(tmp_path / "api", nats_url=nats_server.url, check_rules="false") as api:
        bodies = [*(report(k) for k in range(3)), report(3, traceparent=TRACEPARENT)]
        async with api.client() as sensor:
            assert (await sensor.post("/api/v1/events/batch", json={"events": bodies})).status_code == 200
        async with run_streams(nats_server) as streams:
            yield Setup(api, _flags(api, tmp_path / "data"), streams, [uuid.UUID(body["id"]) for body in bodies])


async def test_runs_are_listed_the_last_changed_at_the_end(setup: Setup) -> None:
    nothing = await setup.attune("runs", "list")
    assert (nothing.stdout, nothing.stderr) == ("", "There are no runs in any namespace.\n")
    await setup.reported(setup.run(0), setup.run(1))
    await setup.reported(setup.run(2, state="Failed", reason="TimedOut", message="no answer\x1b[31m", attempts_made=5))
    lines = (await setup.attune("runs", "list")).stdout.splitlines()
    assert lines[0].split() == ["ID", "UPDATED", "RULE", "ACTION", "STATE", "ATTEMPTS", "NEXT", "WHY"]
    assert lines[3].split()[2:6] == [f"default/{NAME}", "tell", "Failed", "5"]
    assert lines[3].endswith("TimedOut: no answer\\x1b[31m")
    failed = await setup.attune("runs", "list", "--state", "Failed", "--rule", f"default/{NAME}", "--output", "json")
    assert [json.loads(line)["id"] for line in failed.stdout.splitlines()] == [str(setup.run(2).id)]
    by_event = await setup.attune("runs", "list", "--event", setup.events[1], "--output", "json", "--limit", "0")
    assert [json.loads(line)["event_seq"] for line in by_event.stdout.splitlines()] == [1]
    none = await setup.attune("runs", "list", "--rule", "default/other")
    assert none.stderr == "No runs in namespace default match.\n"


async def test_one_run_is_shown_with_its_attempts(setup: Setup) -> None:
    attempt = Attempt(
        number=5,
        started_at=setup.run(0).created_at,
        seconds=0.0314,
        outcome=RunReason.TARGET_REFUSED,
        status=503,
        message="503 Service Unavailable",
        answer="over\nloaded",
    )
    sent = setup.run(
        0, state="Failed", reason="TargetRefused", attempts=(attempt,), attempts_made=5, request="POST https://x"
    )
    await setup.reported(sent)
    page = (await setup.attune("runs", "show", sent.id)).stdout
    assert "State:         Failed (TargetRefused)\n" in page
    assert "Request:       POST https://x\n" in page
    assert (
        "  5. 2026-11-23T12:00:00Z, 31 ms, status 503: TargetRefused\n     503 Service Unavailable\n     over loaded\n"
        in page
    )
    plain = json.loads((await setup.attune("runs", "show", sent.id, "--output", "json")).stdout)
    assert plain["attempts"][0]["status"] == 503
    missing = await setup.attune("runs", "show", uuid.UUID(int=1), code=ExitCode.NOT_FOUND)
    assert "There is no run 00000000" in missing.stderr


async def test_runs_are_retried_by_id_and_by_filter(setup: Setup) -> None:
    await setup.reported(*(setup.run(k, state="Failed" if k else "Succeeded") for k in range(4)))
    done = await setup.attune("runs", "retry", setup.run(1).id)
    assert done.stdout == "One run queued.\n"
    wrong = await setup.attune("runs", "retry", setup.run(0).id, setup.run(1).id, code=ExitCode.REJECTED)
    assert f"{setup.run(0).id}: It succeeded" in wrong.stderr
    assert "2 of 2 runs are not done again." in wrong.stderr
    done = await setup.attune(
        "runs", "retry", "--rule", f"default/{NAME}", "--state", "Failed", "--since", "3650d", "-o", "json"
    )
    assert set(json.loads(done.stdout)["queued"]) == {str(setup.run(2).id), str(setup.run(3).id)}
    assert [queued.run.revision for queued in await setup.streams.queued()] == [2, 2, 2]
    for arguments in ((), ("--state", "Succeeded", "--since", "1d"), (setup.run(1).id, "--since", "1d")):
        await setup.attune("runs", "retry", *arguments, code=ExitCode.USAGE)


async def test_runs_are_followed(setup: Setup) -> None:
    await setup.reported(setup.run(0))
    command = [
        sys.executable,
        "-m",
        "attune_cli",
        "runs",
        "list",
        "--follow",
        "--count",
        "3",
        "-o",
        "json",
        *setup.flags,
    ]
    program = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        async with setup.api.reader() as reader:

            async def follows() -> bool:
                return "attune_api_run_stream_readers 1.0" in (await reader.get("/metrics")).text

            await until(follows, within=60)
        await setup.streams.report(setup.run(1), setup.run(2, state="Failed"))
        async with asyncio.timeout(150):
            out, _ = await program.communicate()
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    assert {json.loads(line)["event_seq"] for line in out.splitlines()} == {0, 1, 2}


async def test_events_are_replayed_only_when_it_is_said_twice(setup: Setup) -> None:
    action = {"name": "tell", "http": {"url": "https://example.org"}}
    rule = RuleActions(uid=UID, namespace="default", name=NAME, generation=1, actions=(action,))
    await setup.streams.publish_rule(rule)
    async with setup.api.reader() as reader:

        async def known() -> bool:
            return (await reader.get(f"/api/v1/rules/default/{NAME}")).status_code == 200

        await until(known, within=60)
    replay = ("events", "replay", "--rule", f"default/{NAME}", "--since", "2026-11-23T12:00:01Z")
    asked = await setup.attune(*replay, code=ExitCode.USAGE)
    assert "would look at 3 events" in asked.stderr
    assert await setup.streams.queued() == []
    await setup.reported(setup.run(1))
    done = await setup.attune(*replay, "--yes")
    assert done.stdout == "3 events: 2 runs queued, 1 were run already.\n"
    again = await setup.attune(*replay, "--yes", "--again", "-o", "json")
    assert json.loads(again.stdout)["queued"] == [str(run_id(UID, setup.events[1], "tell"))]


async def test_a_run_is_shown_with_the_trace_of_its_event(setup: Setup) -> None:
    gone = run(0, event_id=uuid.UUID(int=9), rule_uid=UID, rule_name=NAME)  # its event is no longer kept
    await setup.reported(setup.run(0), setup.run(3), gone)
    for each, shown in ((setup.run(0), "-"), (setup.run(3), TRACE_ID), (gone, "-")):
        lines = (await setup.attune("runs", "show", each.id)).stdout.splitlines()
        assert [line.split()[1] for line in lines if line.startswith("Trace:")] == [shown]
    assert f"traceparent: {TRACEPARENT}" in (await setup.attune("events", "show", setup.events[3])).stdout
