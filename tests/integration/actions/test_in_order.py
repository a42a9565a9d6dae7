"""Rules with ``order: Strict``: the runs of an event begin when all runs of the one before are over, whatever happens."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from support.actions_stage import Stage, Target, event, http, rule_actions
from support.api_process import ADMIN_TOKEN, ApiProcess, report
from support.eventually import until

from attune_actions.catching_up import POSITION, Position
from attune_contract.actions import RuleActions, RunReason, RunState, run_id
from attune_contract.subjects import EVENTS_STREAM

pytestmark = pytest.mark.nats

QUICK = {"attempts": 4, "backoff": "10ms", "maxBackoff": "50ms", "timeout": "10s"}


def arrivals(target: Target) -> list[int]:
    """The numbers of the events whose requests came, in order, each as often as it came."""
    return [int(request.rel_url.path.rpartition("/")[2]) for request, _ in target.requests]


def posts(target: Target, *names: str, **more: Any) -> tuple[dict[str, Any], ...]:
    """Actions that post an event's number to the target."""
    url = f"http://127.0.0.1:{target.port}/${{event.payload.k}}"
    return tuple(http(url, name=name, retry=QUICK, **more) for name in names)


async def acknowledged(stage: Stage) -> bool:
    """Whether nobody holds an event."""
    info = await stage.jetstream.consumer_info(EVENTS_STREAM, "attune-actions")
    return bool(info.num_pending == 0 and info.num_ack_pending == 0)


async def test_an_event_waits_until_all_runs_of_the_one_before_are_over(stage: Stage, target: Target) -> None:
    events = 30

    def answer(key: str, times: int) -> int:
        number = arrivals(target)[-1]
        if number % 7 == 3:
            return 404
        return 500 if number % 5 == 2 and times < 3 else 200

    target.answer = answer
    await stage.tell(rule_actions("r", *posts(target, "a", "b"), order="Strict"))
    for _ in range(2):
        stage.start()
    await stage.store(*(event(k) for k in range(events)))
    runs = await stage.ended(2 * events)
    found = arrivals(target)
    assert found == sorted(found)
    assert sorted(set(found)) == list(range(events))
    failed = {run.event_seq - 1 for run in runs if run.state is RunState.FAILED}
    assert failed == {k for k in range(events) if k % 7 == 3}
    assert {run.attempts_made for run in runs} == {1, 3}


async def test_a_slow_one_holds_up_no_other_rule(stage: Stage, target: Target) -> None:
    release = asyncio.Event()

    async def slowly() -> web.Response:
        await release.wait()
        return web.Response(status=200)

    async with Target(lambda key, times: slowly()) as slow:
        await stage.tell(rule_actions("slow", *posts(slow, "a"), order="Strict"))
        await stage.tell(rule_actions("r", *posts(target, "a"), order="Strict"))
        stage.start()
        await stage.store(*(event(k, rule="slow") for k in range(100)))
        await until(lambda: slow.keys.total() == 1, within=60)
        await until(lambda: acknowledged(stage), within=30)
        await stage.store(*(event(k) for k in range(20)))
        await until(lambda: target.keys.total() == 20, within=30)
        assert arrivals(slow) == [0]
        release.set()
        await stage.ended(120)
        assert arrivals(slow) == list(range(100))
        assert arrivals(target) == list(range(20))


async def test_a_rule_that_is_switched_loses_no_event(stage: Stage, target: Target) -> None:
    release = asyncio.Event()

    async def slowly() -> web.Response:
        await release.wait()
        return web.Response(status=200)

    target.answer = lambda key, times: slowly() if arrivals(target)[-1] == 0 else 200
    actions = posts(target, "a")
    await stage.tell(rule_actions("r", *actions, order="Strict"))
    stage.start()
    await stage.store(*(event(k) for k in range(5)))
    await until(lambda: arrivals(target) == [0], within=60)
    await until(lambda: acknowledged(stage), within=30)
    await stage.tell(rule_actions("r", *actions))
    await until_heard(stage, "other")
    await stage.store(*(event(k) for k in range(5, 10)))
    await until(lambda: set(arrivals(target)) == {0, *range(5, 10)}, within=60)
    release.set()
    await until(lambda: set(arrivals(target)) == set(range(10)), within=60)
    await stage.tell(rule_actions("r", *actions, order="Strict"))
    await until_heard(stage, "another")
    await stage.store(*(event(k) for k in range(10, 30)))
    await until(lambda: set(arrivals(target)) == set(range(30)), within=60)
    later = [k for k in arrivals(target) if k >= 10]
    assert list(dict.fromkeys(later)) == list(range(10, 30))


async def until_heard(stage: Stage, name: str) -> None:
    """Wait until the runner knows what was told before: it hears of Rules in order."""
    async with Target() as marked:
        await stage.tell(rule_actions(name, *posts(marked, "a")))
        await stage.store(event(0, rule=name))
        await until(lambda: marked.keys.total() > 0, within=60)


async def test_a_rule_that_is_switched_off_skips_what_has_not_begun(stage: Stage, target: Target) -> None:
    release = asyncio.Event()

    async def slowly() -> web.Response:
        await release.wait()
        return web.Response(status=200)

    target.answer = lambda key, times: slowly()
    await stage.tell(rule_actions("r", *posts(target, "a"), order="Strict"))
    stage.start()
    await stage.store(*(event(k) for k in range(5)))
    await until(lambda: arrivals(target) == [0], within=60)
    await until(lambda: acknowledged(stage), within=30)
    await stage.tell(rule_actions("r", *posts(target, "a"), order="Strict", enabled=False))
    await until_heard(stage, "other")
    release.set()
    runs = {run.event_seq - 1: run for run in await stage.ended(6) if run.rule_name == "r"}
    assert runs[0].state is RunState.SUCCEEDED
    assert {(runs[k].state, runs[k].reason) for k in range(1, 5)} == {(RunState.SKIPPED, RunReason.RULE_DISABLED)}


async def post(api: ApiProcess, numbers: range) -> None:
    """Store events, as a sensor does."""
    async with api.client() as sensor:
        answer = await sensor.post("/api/v1/events/batch", json={"events": [report(k) for k in numbers]})
        assert answer.status_code == 200


@pytest.fixture
async def api(stage: Stage, tmp_path: Path) -> AsyncIterator[ApiProcess]:
    """A real API, which the runners of the stage ask, and which takes their reports."""
    await stage.stop_collecting()
    token = tmp_path / "token"
    token.write_text(ADMIN_TOKEN)
    with ApiProcess(tmp_path / "api", nats_url=stage.server.url, check_rules="false") as found:
        stage.settings |= {"api_url": found.url, "api_token_file": str(token)}
        yield found


def of_api(target: Target) -> RuleActions:
    """The Rule whose events :func:`post` stores."""
    rule = report()
    return RuleActions(
        uid=rule["rule_uid"],
        namespace=rule["rule_namespace"],
        name=rule["rule_name"],
        generation=1,
        order="Strict",
        actions=posts(target, "a"),
    )


def keys_of(events: int) -> set[str]:
    """The idempotency keys of the runs."""
    found = (report(k) for k in range(events))
    return {str(run_id(each["rule_uid"], UUID(each["id"]), "a")) for each in found}


async def until_counted(api: ApiProcess, expected: dict[str, int]) -> None:
    """Wait until the API has counted so many runs in each state."""
    async with api.reader() as reader:

        async def counted() -> bool:
            found: Counter[str] = Counter()
            for each in (await reader.get("/api/v1/runs/counts")).json()["data"]:
                found[each["state"]] += each["count"]
            return found == expected

        await until(counted, within=150, what=f"{expected} are counted")


@pytest.mark.timeout(600)
async def test_kills_and_freezes_change_no_order(stage: Stage, target: Target, api: ApiProcess) -> None:
    """Two replicas: one is killed, one is frozen and goes on when others have done its work. Each request that a target has not
    seen comes in order; a repeated one has a key that it knows.
    """
    events = 200

    def answer(key: str, times: int) -> int:
        number = arrivals(target)[-1]
        if number % 11 == 5:
            return 404
        return 500 if number % 5 == 2 and times < 3 else 200

    async def reached(number: int) -> None:
        await until(lambda: len(target.keys) >= number, within=150, what=f"{number} requests")

    target.answer = answer
    await stage.tell(of_api(target))
    killed, frozen = stage.start(), stage.start()
    await post(api, range(events // 2))
    await reached(30)
    killed.kill()
    await asyncio.to_thread(killed.wait, 120)
    third = stage.start()
    await reached(60)
    frozen.send_signal(signal.SIGSTOP)
    try:
        await post(api, range(events // 2, events))
        await reached(120)
    finally:
        frozen.send_signal(signal.SIGCONT)
    await reached(140)
    third.kill()
    await asyncio.to_thread(third.wait, 120)
    await reached(events)
    assert list(dict.fromkeys(arrivals(target))) == list(range(events))
    assert set(target.keys) == keys_of(events)
    failed = sum(k % 11 == 5 for k in range(events))
    await until_counted(api, {"Failed": failed, "Succeeded": events - failed})


@pytest.mark.timeout(600)
async def test_events_that_left_the_stream_come_in_order_too(stage: Stage, target: Target, api: ApiProcess) -> None:
    kept, events = 50, 160
    info = await stage.jetstream.stream_info(EVENTS_STREAM)
    await stage.jetstream.update_stream(info.config.evolve(max_msgs=kept))
    await stage.tell(of_api(target))
    runner = stage.start()
    await post(api, range(10))
    await until(lambda: len(target.keys) == 10, within=60, what="ten requests")
    await until(lambda: acknowledged(stage), within=60)

    async def noted() -> bool:
        config = (await stage.jetstream.consumer_info(EVENTS_STREAM, "attune-actions")).config
        found = Position.parse((config.metadata or {}).get(POSITION))
        return found is not None and found.seq == 10

    await until(noted, within=60)
    runner.kill()
    runner.wait(120)
    await post(api, range(10, events))

    async def published() -> bool:
        state = (await stage.jetstream.stream_info(EVENTS_STREAM)).state
        return bool(state.last_seq == events and state.messages == kept)

    await until(published, within=60)
    for _ in range(2):
        stage.start()
    await until(lambda: len(target.keys) == events, within=150, what="a request for each event")
    assert list(dict.fromkeys(arrivals(target))) == list(range(events))
    assert set(target.keys) == keys_of(events)
