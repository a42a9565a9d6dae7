"""What is not begun in time is left to the replica that has it by now; what one run raises stops no other one."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from support.actions_stage import event, http, rule_actions

from attune_actions.carrying import BusyError, Carrier, Task, TooLateError
from attune_actions.events import Events, NotNowError
from attune_actions.limits import Slots
from attune_actions.metrics import Metrics
from attune_actions.settling import Outcome, RetryPolicy, new_run
from attune_contract.actions import ActionKind, Run, RunState
from attune_kit.actions.plan import Plan

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Journal:
    """Keeps reports in memory."""

    def __init__(self) -> None:
        self.reports: list[Run] = []

    async def report(self, run: Run) -> None:
        self.reports.append(run)


def a_task(begin_by: float | None) -> Task:
    plan = Plan(rule_actions("r", http("http://a.example/"), order="Strict"))
    (step,) = plan.steps([], event(1))
    run = new_run(event(1), step, rule_generation=1, now=NOW)
    return Task(run=run, step=step, plan=plan, event=event(1), policy=RetryPolicy.of(step.action), begin_by=begin_by)


@pytest.mark.parametrize("resumed", [False, True])
async def test_no_attempt_begins_too_late(resumed: bool) -> None:
    tried: list[UUID] = []
    clock = 10.0

    async def attempt(task: Task) -> Outcome:
        tried.append(task.run.id)
        return Outcome(status=200)

    journal: Any = Journal()
    carrier = Carrier(
        journal=journal,
        kinds={ActionKind.HTTP: attempt},
        slots=Slots(total=2, per_rule=1),
        metrics=Metrics(),
        monotonic=lambda: clock,
    )
    begin = carrier.resume if resumed else carrier.carry
    for _ in range(2):
        with pytest.raises(TooLateError):
            await begin(a_task(begin_by=9.9), b"{}")
    assert (tried, journal.reports, carrier.under_way) == ([], [], 0)
    await begin(a_task(begin_by=10.0), b"{}")
    assert [run.state for run in journal.reports] == [RunState.SUCCEEDED]
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(BusyError(), NotNowError), (TooLateError(), TooLateError), (asyncio.CancelledError(), asyncio.CancelledError)],
)
async def test_what_one_run_raises_does_not_stop_the_others(
    raised: BaseException, expected: type[BaseException]
) -> None:
    ended: list[str] = []

    class OneRaises:
        async def carry(self, task: Task, raw: bytes) -> None:
            if task.run.action == "a":
                raise raised
            await asyncio.sleep(0)
            ended.append(task.run.action)

    unused: Any = None
    carrier: Any = OneRaises()
    events = Events(
        book=unused,
        carrier=carrier,
        evaluator=unused,
        metrics=Metrics(),
        whole=unused,
        ring=unused,
        over=unused,
        now=lambda: NOW,
    )
    plan = Plan(rule_actions("r", *(http("http://a.example/", name=name) for name in "abc")))
    data = msgspec.json.encode(event(1))
    with pytest.raises(expected):
        await events.begin(plan, data, attempt=1, stored=None, known=None, begin_by=0.0)
    assert ended == ["b", "c"]
