"""What became of a Rule's runs gets into its status: from the runner's reports through the real API to the operator."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import RetentionPolicy, StreamConfig
from support.api_process import ADMIN_TOKEN, ApiProcess
from support.eventually import until
from support.nats_server import NatsServer
from support.rule_cluster import MemoryCluster
from support.rule_side import RuleSideUnderTest, Stream, rule_side
from support.run_reports import START, run

from attune_contract.actions import ALL_RUNS, RUNS_STREAM, Run, encode, run_subject
from attune_operator.rules.run_counts import RunCountsReader, _Failure, _Summary, counts_of

HTTP: dict[str, Any] = {"name": "tell", "http": {"url": "https://a.example/"}}


@pytest.fixture
def cluster() -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.namespace("attune-system")
    cluster.namespace("default")
    cluster.sensor("attune-system", "core.timer", "core.timer", rules={"namespaces": {"from": "All"}})
    return cluster


@pytest.fixture
def api(tmp_path: Path, nats_server: NatsServer) -> Iterator[ApiProcess]:
    with ApiProcess(tmp_path / "api", nats_url=nats_server.url, check_rules="false") as process:
        yield process


@contextlib.asynccontextmanager
async def reading(side: RuleSideUnderTest, api: ApiProcess, token: Path) -> AsyncIterator[None]:
    await asyncio.to_thread(token.write_text, ADMIN_TOKEN)
    reader = RunCountsReader(
        url=api.url,
        token_file=token,
        ca_file=None,
        namespaces=(),
        on_counts=side.controller.observe_runs,
        interval=0.2,
    )
    task = asyncio.create_task(reader.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.nats
async def test_numbers_and_the_last_failure_get_into_the_status(
    cluster: MemoryCluster, nats_server: NatsServer, api: ApiProcess, tmp_path: Path
) -> None:
    uid = cluster.rule_with("default", "tells", {"actions": [HTTP]})["metadata"]["uid"]
    stream = Stream(nats_server.url)

    async def report(*runs: Run) -> None:
        for each in runs:
            await stream.publish(run_subject(each), encode(each))

    def status() -> Any:
        return cluster.get("Rule", "default", "tells").get("status", {})

    async with stream.connected() as client:
        await client.jetstream(timeout=60).add_stream(
            StreamConfig(name=RUNS_STREAM, subjects=[ALL_RUNS], retention=RetentionPolicy.WORK_QUEUE)
        )
    async with rule_side(cluster, nats_server.url) as side, reading(side, api, tmp_path / "token"):
        await until(lambda: cluster.condition("default", "tells", "ActionsHealthy") == ("True", "Healthy"))
        await report(
            run(1, rule_uid=uid),
            run(2, rule_uid=uid, state="Skipped", reason="ConditionFalse"),
            run(3, rule_uid=uid, state="Failed", reason="TargetRefused", message="The target answered 404."),
        )
        wanted = {"succeeded": 1, "failed": 1, "skipped": 1, "waiting": 0}
        await until(lambda: status().get("runs") == wanted, within=30)
        await until(lambda: cluster.condition("default", "tells", "ActionsHealthy") == ("False", "TargetRefused"))
        assert "The action tell failed at 2026-11-23T12:00:03Z: The target answered 404." in cluster.message(
            "default", "tells", "ActionsHealthy"
        )
        assert status()["lastRunTime"] == "2026-11-23T12:00:03Z"

        await report(run(4, rule_uid=uid))
        await until(lambda: cluster.condition("default", "tells", "ActionsHealthy") == ("True", "Healthy"), within=30)
        await until(lambda: status()["runs"] == {**wanted, "succeeded": 2}, within=30)


@pytest.mark.parametrize(
    ("failure", "success", "failing"),
    [
        (None, None, False),
        (1, None, True),
        (1, 2, False),
        (2, 1, True),
    ],
)
def test_a_rule_fails_when_its_last_word_is_a_failure(failure: int | None, success: int | None, failing: bool) -> None:
    def at(seconds: int) -> str:
        return (START + timedelta(seconds=seconds)).isoformat()

    counts = counts_of(
        _Summary(
            rule_uid="u",
            last_success_at=None if success is None else at(success),
            last_failure=None if failure is None else _Failure(at=at(failure), action="a", state="Waiting"),
        )
    )
    assert (counts.failing is not None) is failing
    if counts.failing is not None:
        assert counts.failing[0] == "LastRunFailed"
        assert "It is tried again." in counts.failing[1]
