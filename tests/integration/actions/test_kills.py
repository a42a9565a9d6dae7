"""Kills lose nothing, and do nothing that was not asked for; a stop in order hands back at once."""

import asyncio

import pytest
from aiohttp import web
from support.actions_chaos import survive
from support.actions_stage import Stage, Target, event, http, rule_actions
from support.eventually import until

from attune_contract.actions import RUN_QUEUE_STREAM, RunState
from attune_contract.subjects import EVENTS_STREAM

pytestmark = pytest.mark.nats


@pytest.mark.timeout(900)
async def test_kills_lose_nothing(stage: Stage, target: Target) -> None:
    found = await survive(stage, target, events=300, kills=3, nats_restarts=1, within=150)
    assert found.runs == 300


async def test_a_stop_in_order_finishes_what_is_in_hand(stage: Stage, target: Target) -> None:
    release = asyncio.Event()

    async def slowly() -> web.Response:
        await release.wait()
        return web.Response(status=200)

    target.answer = lambda key, times: slowly()
    await stage.tell(rule_actions("r", http(target.url)))
    process = stage.start()
    await stage.store(*(event(k) for k in range(5)))
    await until(lambda: target.keys.total() == 5, within=60)
    stopped = asyncio.create_task(stage.stop(process))
    await until(lambda: "stopping" in stage.log(), within=30)
    release.set()
    assert await stopped == 0
    runs = await stage.ended(5)
    assert {run.state for run in runs} == {RunState.SUCCEEDED}
    assert target.keys.total() == 5


async def test_what_does_not_end_in_time_is_handed_to_another_at_once(stage: Stage, target: Target) -> None:
    async def never() -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    target.answer = lambda key, times: never() if times == 1 else 200
    await stage.tell(rule_actions("r", http(target.url)))
    process = stage.start(grace="0.1")
    await stage.store(event(1))
    await until(lambda: target.keys.total() == 1, within=60)
    await stage.stop(process)
    stage.start()
    (run,) = await stage.ended(1)
    assert run.state is RunState.SUCCEEDED
    assert target.keys.total() == 2


async def test_a_slow_rule_fills_no_one_s_window(stage: Stage, target: Target) -> None:
    async def slowly() -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async with Target(lambda key, times: slowly()) as slow:
        stage.settings["per_rule"] = "4"
        await stage.tell(rule_actions("slow", http(slow.url, retry={"timeout": "10m"})))
        await stage.tell(rule_actions("r", http(target.url)))
        stage.start()
        await stage.store(*(event(k, rule="slow") for k in range(200)))
        await until(lambda: slow.keys.total() == 4, within=60)

        async def all_acknowledged() -> bool:
            info = await stage.jetstream.consumer_info(EVENTS_STREAM, "attune-actions")
            return bool(info.num_pending == 0 and info.num_ack_pending == 0)

        await until(all_acknowledged, within=30)
        await stage.store(*(event(k) for k in range(20)))
        await until(lambda: target.keys.total() == 20, within=30)
        assert slow.keys.total() == 4


@pytest.mark.parametrize("concurrency", ["Forbid", "Replace"])
async def test_runs_of_an_action_do_not_go_on_beside_each_other(stage: Stage, target: Target, concurrency: str) -> None:
    release = asyncio.Event()

    async def slowly() -> web.Response:
        await release.wait()
        return web.Response(status=200)

    target.answer = lambda key, times: slowly()
    await stage.tell(rule_actions("r", http(target.url, concurrency=concurrency)))
    stage.start()
    await stage.store(event(1))
    await until(lambda: target.keys.total() == 1, within=60)
    await stage.store(event(2))
    (first,) = await stage.ended(1)
    reason = {"Forbid": "ConcurrencyForbidden", "Replace": "Replaced"}[concurrency]
    assert (first.state, first.reason.value) == (RunState.SKIPPED, reason)
    assert first.event_seq == (3 if concurrency == "Forbid" else 2)
    release.set()
    runs = await stage.ended(2)
    assert sorted(run.state.value for run in runs) == ["Skipped", "Succeeded"]
    await stage.store(event(3))
    last = next(run for run in await stage.ended(3) if run.event_seq == 4)
    assert last.state is RunState.SUCCEEDED


@pytest.mark.parametrize("concurrency", ["Forbid", "Replace"])
async def test_a_run_that_another_replica_ended_is_in_the_way_of_none(
    stage: Stage, target: Target, concurrency: str
) -> None:
    answers = iter([500])
    target.answer = lambda key, times: next(answers, 200)
    await stage.tell(rule_actions("r", http(target.url, concurrency=concurrency, retry={"backoff": "1h"})))
    stage.start()
    await stage.store(event(1))

    def waits() -> bool:
        return any(run.state is RunState.WAITING for run in stage.runs.values())

    await until(waits, within=60, what="the run waits for its next attempt")
    # What a replica does that takes it out of the queue and ends it.
    await stage.jetstream.purge_stream(RUN_QUEUE_STREAM)
    await stage.store(event(2))
    (second,) = await stage.ended(1)
    assert (second.event_seq, second.state) == (3, RunState.SUCCEEDED)
