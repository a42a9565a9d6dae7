"""Runs while the runner is killed, NATS is restarted and the target fails: what must come of them all the same."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from aiohttp import web
from support.actions_stage import Stage, Target, event, http, rule_actions
from support.eventually import until

from attune_contract.actions import RUN_QUEUE_STREAM, RunState, run_id


@dataclass(frozen=True, slots=True)
class Chaos:
    """What was found."""

    runs: int
    requests: int
    repeated: int
    kills: int
    seconds: float

    def shown(self) -> str:
        """As a line."""
        return (
            f"{self.runs} runs, {self.requests} requests ({self.repeated} of them more than once after an answer 200), "
            f"{self.kills} kills, {self.seconds:.0f} s: 0 lost"
        )


class BadTarget:
    """Answers 500 to a third of the first attempts and of the second ones, nothing to some, and 404 to those that must fail."""

    def __init__(self) -> None:
        self.succeeded: dict[str, int] = {}
        self.refused: set[str] = set()

    def __call__(self, key: str, times: int) -> Any:
        draw = sha256(f"{key}/{times}".encode()).digest()[0]
        if sha256(key.encode()).digest()[1] < 8:
            self.refused.add(key)
            return 404
        if times <= 4 and draw < 85:
            return 500
        if times <= 4 and draw < 95:
            return self._never()
        self.succeeded[key] = self.succeeded.get(key, 0) + 1
        return 200

    @staticmethod
    async def _never() -> web.Response:
        await asyncio.sleep(30)
        return web.Response(status=200)


async def survive(
    stage: Stage, target: Target, *, events: int, kills: int, within: float, nats_restarts: int = 0
) -> Chaos:
    """Let ``events`` become runs while the runner is killed, and check what came of each.

    Raises:
        AssertionError: a run is missing, is not what it must be, or did not end in time.
    """
    bad = BadTarget()
    target.answer = bad
    target.keep = False
    retry = {"attempts": 12, "backoff": "50ms", "maxBackoff": "500ms", "timeout": "2s"}
    await stage.tell(rule_actions("r", http(target.url, retry=retry)))
    began = time.monotonic()
    await stage.store(*(event(k) for k in range(events)))
    process = stage.start()
    for number in range(kills):
        share = (number + 1) * events // (kills + 1)
        await until(_reached(target, share), within=within, what=f"{share} of {events} events were tried")
        process.kill()
        await asyncio.to_thread(process.wait)
        if number < nats_restarts:
            await asyncio.to_thread(stage.server.restart)
        process = stage.start()
    runs = {run.id: run for run in await stage.ended(events, within=within)}
    expected = {run_id("uid-r", event(k).id, "post") for k in range(events)}
    assert runs.keys() == expected
    for run in runs.values():
        key = str(run.id)
        assert run.state is (RunState.FAILED if key in bad.refused else RunState.SUCCEEDED), run
        assert (key in bad.succeeded) != (key in bad.refused), run
    assert set(target.keys) == {str(each) for each in expected}

    async def nothing_left() -> bool:
        return await stage.left(RUN_QUEUE_STREAM) == 0

    await until(nothing_left, within=60, what="nothing waits")
    return Chaos(
        runs=len(runs),
        requests=target.keys.total(),
        repeated=sum(times - 1 for times in bad.succeeded.values()),
        kills=kills,
        seconds=time.monotonic() - began,
    )


def _reached(target: Target, share: int) -> Callable[[], bool]:
    return lambda: len(target.keys) >= share
