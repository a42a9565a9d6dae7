"""Runs of kind http, from the event in the stream to the report, with a real NATS server and a real target."""

import asyncio
import json

import pytest
from aiohttp import web
from support.actions_stage import Stage, Target, event, http, rule_actions
from support.eventually import until

from attune_contract.actions import RUN_QUEUE_STREAM, RunReason, RunState, run_id
from attune_contract.subjects import EVENTS_STREAM

pytestmark = pytest.mark.nats


async def acknowledged(stage: Stage) -> bool:
    """Whether no event is in hand or to be handed out."""
    info = await stage.jetstream.consumer_info(EVENTS_STREAM, "attune-actions")
    return bool(info.num_pending == 0 and info.num_ack_pending == 0)


async def test_an_event_becomes_a_request_and_a_report(stage: Stage, target: Target) -> None:
    await stage.tell(
        rule_actions(
            "r", http(target.url, body={"text": "${event.rule.name}: ${event.payload.k}", "k": "${event.payload.k}"})
        )
    )
    stage.start()
    await stage.store(event(7))
    (run,) = await stage.ended(1)
    assert run.state is RunState.SUCCEEDED
    assert run.id == run_id("uid-r", event(7).id, "post")
    assert (run.attempts_made, run.attempts[0].status) == (1, 200)
    ((request, body),) = target.requests
    assert json.loads(body) == {"text": "r: 7", "k": 7}
    assert request.headers["Idempotency-Key"] == str(run.id)
    assert request.headers["Content-Type"] == "application/json"
    await until(lambda: acknowledged(stage))
    await stage.emptied(RUN_QUEUE_STREAM)


async def test_conditions_decide(stage: Stage, target: Target) -> None:
    await stage.tell(
        rule_actions("r", http(target.url, name="odd", when="event.payload.k % 2 == 1"), http(target.url, name="all"))
    )
    stage.start()
    await stage.store(*(event(k) for k in range(4)))
    runs = await stage.ended(8)
    states = sorted((run.action, run.event_seq - 1, run.state.value) for run in runs)
    assert states == [
        *(("all", k, "Succeeded") for k in range(4)),
        *(("odd", k, "Succeeded" if k % 2 else "Skipped") for k in range(4)),
    ]
    assert {run.reason for run in runs if run.state is RunState.SKIPPED} == {RunReason.CONDITION_FALSE}


async def test_what_fails_is_tried_again_and_what_cannot_succeed_is_not(stage: Stage, target: Target) -> None:
    quick = {"attempts": 3, "backoff": "50ms"}
    target.answer = lambda key, times: 500 if times < 3 else 200
    await stage.tell(rule_actions("r", http(target.url, retry=quick)))
    stage.start()
    await stage.store(event(1))
    (run,) = await stage.ended(1)
    assert (run.state, run.attempts_made) == (RunState.SUCCEEDED, 3)
    assert [each.status for each in run.attempts] == [500, 500, 200]
    target.answer = lambda key, times: 404
    await stage.store(event(2))
    run = next(run for run in await stage.ended(2) if run.event_seq == 3)
    assert (run.state, run.reason, run.attempts_made) == (RunState.FAILED, RunReason.TARGET_REFUSED, 1)
    target.answer = lambda key, times: 503
    await stage.store(event(3))
    run = next(run for run in await stage.ended(3) if run.event_seq == 4)
    assert (run.state, run.attempts_made) == (RunState.FAILED, 3)
    await stage.emptied(RUN_QUEUE_STREAM)


async def test_a_target_says_when_to_come_back(stage: Stage, target: Target) -> None:
    loop = asyncio.get_running_loop()
    seen: list[float] = []

    def answer(key: str, times: int) -> web.Response:
        seen.append(loop.time())
        return web.Response(status=429 if times == 1 else 204, headers={"Retry-After": "2"} if times == 1 else {})

    target.answer = answer
    await stage.tell(rule_actions("r", http(target.url, retry={"attempts": 2, "backoff": "10ms"})))
    stage.start()
    await stage.store(event(1))
    (run,) = await stage.ended(1)
    assert run.state is RunState.SUCCEEDED
    assert seen[1] - seen[0] >= 2.0


async def test_a_slow_run_stands_in_the_queue_and_its_event_is_acknowledged(stage: Stage, target: Target) -> None:
    release = asyncio.Event()

    async def slowly() -> web.Response:
        await release.wait()
        return web.Response(status=200)

    target.answer = lambda key, times: slowly()
    await stage.tell(rule_actions("r", http(target.url)))
    stage.start()
    await stage.store(event(1))
    await until(lambda: target.keys.total() == 1, within=30)
    await until(lambda: acknowledged(stage), within=10)
    assert await stage.left(RUN_QUEUE_STREAM) == 1
    await until(lambda: [run.state for run in stage.runs.values()] == [RunState.RUNNING])
    release.set()
    (run,) = await stage.ended(1)
    assert run.state is RunState.SUCCEEDED
    assert target.keys.total() == 1
    await stage.emptied(RUN_QUEUE_STREAM)


async def test_a_timeout_is_an_attempt(stage: Stage, target: Target) -> None:
    async def never() -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    target.answer = lambda key, times: never() if times == 1 else 200
    await stage.tell(rule_actions("r", http(target.url, retry={"attempts": 2, "backoff": "10ms", "timeout": "3s"})))
    stage.start()
    await stage.store(event(1))
    (run,) = await stage.ended(1)
    assert run.state is RunState.SUCCEEDED
    assert [each.outcome for each in run.attempts] == [RunReason.TIMED_OUT, RunReason.NONE]


async def test_a_target_that_never_answers_is_left_alone_for_a_while(stage: Stage, target: Target) -> None:
    async def never() -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    target.answer = lambda key, times: never()
    await stage.tell(rule_actions("r", http(target.url, retry={"attempts": 1, "timeout": "200ms"})))
    stage.start()
    await stage.store(*(event(k) for k in range(20)))
    ended = await stage.ended(20)
    assert {run.attempts[0].outcome for run in ended} == {RunReason.TIMED_OUT}
    number = iter(range(20, 1000))

    async def left_alone() -> bool:
        await stage.store(event(next(number)))
        return any(run.reason is RunReason.CIRCUIT_OPEN for run in stage.runs.values())

    await until(left_alone, within=60)


async def test_a_rule_that_is_not_known_yet_is_waited_for(stage: Stage, target: Target) -> None:
    stage.start()
    await stage.store(event(1))

    async def in_hand() -> bool:
        info = await stage.jetstream.consumer_info(EVENTS_STREAM, "attune-actions")
        return bool(info.num_ack_pending == 1)

    await until(in_hand, within=30)
    await stage.tell(rule_actions("r", http(target.url)))
    (run,) = await stage.ended(1)
    assert run.state is RunState.SUCCEEDED
