"""What runs is reconciled with the rule table; each result of a handler becomes an ack."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from support.eventually import until
from support.rule_stream import changed, rule_state

from attune_contract.messages import AckState, RuleState
from attune_kit.backoff import Backoff
from attune_sensor import InvalidRuleError, Rule
from attune_sensor._metrics import Metrics
from attune_sensor._outcomes import Outcomes
from attune_sensor._rule_supervisor import RuleSupervisor
from attune_sensor._rule_table import RuleTable


class Acks:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: dict[str, list[tuple[int, AckState, str]]] = defaultdict(list)
        self.next_at: dict[str, datetime | None] = {}

    def publish(self, rule: Rule, state: AckState, message: str = "", next_at: datetime | None = None) -> None:
        self.said[rule.uid].append((rule.generation, state, message))
        self.next_at[rule.uid] = next_at

    def forget(self, uid: str) -> None:
        self.said.pop(uid, None)


class Handler:
    """Notes the calls; raises, or waits, where it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, int]] = []
        self.raising: dict[str, list[Exception]] = defaultdict(list)
        self.gates: dict[str, asyncio.Event] = {}
        self.busy: set[str] = set()
        self.running: dict[str, RuleState] = {}
        self.supervisor: RuleSupervisor | None = None
        self.closed = False

    async def start(self, rule: Rule) -> None:
        await self._call("start", rule)
        assert rule.uid not in self.running
        self.running[rule.uid] = rule.state

    async def update(self, old: Rule, new: Rule) -> None:
        assert self.running[old.uid] == old.state
        await self._call("update", new)
        self.running[new.uid] = new.state

    async def stop(self, rule: Rule) -> None:
        await self._call("stop", rule)
        self.running.pop(rule.uid, None)

    async def close(self) -> None:
        self.closed = True

    async def _call(self, name: str, rule: Rule) -> None:
        assert rule.uid not in self.busy, "one call at a time for each rule"
        self.busy.add(rule.uid)
        try:
            self.calls.append((name, rule.state.name, rule.generation))
            if gate := self.gates.get(rule.uid):
                await gate.wait()
            if self.raising[f"{name} {rule.state.name}"]:
                raise self.raising[f"{name} {rule.state.name}"].pop(0)
        finally:
            self.busy.discard(rule.uid)


class Bench:
    def __init__(self, handler: Handler | None = None) -> None:
        self.handler = Handler() if handler is None else handler
        self.acks = Acks()
        self.table = RuleTable()
        self.metrics = Metrics()
        self.outcomes = Outcomes(clock=time.monotonic)
        self.supervisor = RuleSupervisor(
            outcomes=self.outcomes,
            handler=self.handler,
            acks=self.acks,
            trigger_types=["core.intervaltimer"],
            metrics=self.metrics,
            log=structlog.get_logger(),
            call_timeout=0.2,
            retry=Backoff(initial=0.01, maximum=0.05),
        )

    def put(self, state: RuleState) -> None:
        change = self.table.put(Rule(state=state, since_us=0))
        assert change is not None
        self.supervisor.apply([change])

    def send_tombstone(self, state: RuleState) -> None:
        change = self.table.remove(state.uid, state)
        assert change is not None
        self.supervisor.apply([change])

    async def said(self, state: RuleState, expected: AckState) -> str:
        def found() -> bool:
            words = self.acks.said[state.uid]
            return bool(words) and words[-1][:2] == (state.generation, expected)

        try:
            await until(found, within=10)
        except AssertionError:
            raise AssertionError(f"said {self.acks.said[state.uid]}") from None
        return self.acks.said[state.uid][-1][2]

    def active(self, state: AckState) -> float | None:
        return self.metrics.registry.get_sample_value("attune_sensor_rules", {"state": state})


class HandlerOfAll(Handler):
    serves_disabled_rules = True


@pytest.fixture
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made = Bench(getattr(request, "param", Handler)())
    task = asyncio.create_task(made.supervisor.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await made.supervisor.close()
    assert made.handler.closed


RULE = rule_state(1)
OTHER = rule_state(2)


async def test_when_a_rule_is_due_next_is_acked_while_it_runs(bench: Bench) -> None:
    noon = datetime(2026, 11, 27, 12, tzinfo=UTC)
    bench.put(RULE)
    await bench.said(RULE, AckState.ACTIVE)
    running = Rule(state=RULE, since_us=0)
    assert bench.acks.next_at[RULE.uid] is None
    bench.supervisor.next_occurrence(running, noon)
    bench.supervisor.next_occurrence(running, noon)
    assert (bench.acks.next_at[RULE.uid], len(bench.acks.said[RULE.uid])) == (noon, 2)
    bench.supervisor.report(running, AckState.FAILING, "no network")
    assert bench.acks.next_at[RULE.uid] == noon
    bench.supervisor.report(running, AckState.COMPLETED)
    assert bench.acks.next_at[RULE.uid] is None
    newer = changed(RULE, parameters={"interval": 2})
    bench.put(newer)
    await bench.said(newer, AckState.ACTIVE)
    assert bench.acks.next_at[RULE.uid] is None, "what was said of the former parameters is not true of these"
    bench.supervisor.next_occurrence(running, noon)
    assert bench.acks.next_at[RULE.uid] is None


async def test_life_of_a_rule(bench: Bench) -> None:
    bench.put(RULE)
    await bench.said(RULE, AckState.ACTIVE)
    newer = changed(RULE, parameters={"interval": 2})
    bench.put(newer)
    await bench.said(newer, AckState.ACTIVE)
    disabled = changed(newer, enabled=False)
    bench.put(disabled)
    await bench.said(disabled, AckState.STOPPED)
    enabled = changed(disabled, enabled=True)
    bench.put(enabled)
    await bench.said(enabled, AckState.ACTIVE)
    assert bench.active(AckState.ACTIVE) == 1
    bench.send_tombstone(enabled)
    await until(lambda: not bench.handler.running)
    assert [name for name, _, _ in bench.handler.calls] == ["start", "update", "stop", "start", "stop"]
    await until(lambda: RULE.uid not in bench.acks.said)
    assert bench.active(AckState.ACTIVE) == 0


async def test_disabled_rule_is_said_to_be_stopped_and_never_starts(bench: Bench) -> None:
    disabled = rule_state(1, enabled=False)
    bench.put(disabled)
    await bench.said(disabled, AckState.STOPPED)
    assert bench.handler.calls == []


@pytest.mark.parametrize("bench", [HandlerOfAll], indirect=True)
async def test_handler_that_serves_disabled_rules_gets_them_and_they_are_stopped(bench: Bench) -> None:
    disabled = rule_state(1, enabled=False)
    bench.put(disabled)
    await bench.said(disabled, AckState.STOPPED)
    enabled = changed(disabled, enabled=True)
    bench.put(enabled)
    await bench.said(enabled, AckState.ACTIVE)
    again = changed(enabled, enabled=False)
    bench.put(again)
    await bench.said(again, AckState.STOPPED)
    bench.supervisor.report(Rule(state=again, since_us=0), AckState.FAILING, "something is missing")
    assert bench.acks.said[again.uid][-1][1] is AckState.STOPPED
    assert [call[0] for call in bench.handler.calls] == ["start", "update", "update"]
    bench.send_tombstone(again)
    await until(lambda: not bench.handler.running)


@pytest.mark.parametrize("bench", [HandlerOfAll], indirect=True)
@pytest.mark.parametrize("error", [InvalidRuleError("the interval is odd"), OSError("no")])
async def test_disabled_rule_that_cannot_be_served_is_stopped_all_the_same(bench: Bench, error: Exception) -> None:
    bench.handler.raising["start rule-1"].append(error)
    disabled = rule_state(1, enabled=False)
    bench.put(disabled)
    assert await bench.said(disabled, AckState.STOPPED) == ""


async def test_invalid_rule_is_rejected_with_its_sentence_until_it_changes(bench: Bench) -> None:
    bench.handler.raising["start rule-1"].append(InvalidRuleError("the interval is odd"))
    bench.put(RULE)
    assert await bench.said(RULE, AckState.REJECTED) == "the interval is odd"
    bench.put(OTHER)
    await bench.said(OTHER, AckState.ACTIVE)
    assert [call for call in bench.handler.calls if call[1] == "rule-1"] == [("start", "rule-1", 1)]
    newer = changed(RULE)
    bench.put(newer)
    await bench.said(newer, AckState.ACTIVE)


async def test_rule_that_becomes_invalid_no_longer_runs(bench: Bench) -> None:
    bench.put(RULE)
    await bench.said(RULE, AckState.ACTIVE)
    bench.handler.raising["update rule-1"].append(InvalidRuleError("no"))
    newer = changed(RULE)
    bench.put(newer)
    await bench.said(newer, AckState.REJECTED)
    assert bench.handler.running == {}


async def test_rule_of_another_trigger_type_is_rejected(bench: Bench) -> None:
    foreign = rule_state(1, trigger_type="acme.queue")
    bench.put(foreign)
    assert "does not provide the trigger type acme.queue" in await bench.said(foreign, AckState.REJECTED)


async def test_failing_rule_is_said_and_retried_and_touches_no_other(bench: Bench) -> None:
    bench.handler.raising["start rule-1"] += [OSError("queue unreachable"), OSError("queue unreachable")]
    bench.put(RULE)
    bench.put(OTHER)
    assert await bench.said(RULE, AckState.FAILING) == "OSError: queue unreachable"
    await bench.said(OTHER, AckState.ACTIVE)
    await bench.said(RULE, AckState.ACTIVE)
    assert [call for call in bench.handler.calls if call[1] == "rule-2"] == [("start", "rule-2", 1)]
    assert bench.metrics.registry.get_sample_value("attune_sensor_rule_failures_total") == 2


async def test_failed_update_begins_from_nothing(bench: Bench) -> None:
    bench.put(RULE)
    await bench.said(RULE, AckState.ACTIVE)
    bench.handler.raising["update rule-1"].append(RuntimeError())
    newer = changed(RULE)
    bench.put(newer)
    await bench.said(newer, AckState.ACTIVE)
    assert [name for name, _, _ in bench.handler.calls] == ["start", "update", "stop", "start"]


async def test_rule_that_is_disabled_while_it_fails_is_not_retried(bench: Bench) -> None:
    bench.handler.raising["start rule-1"] += [OSError()] * 100
    bench.put(RULE)
    await bench.said(RULE, AckState.FAILING)
    disabled = changed(RULE, enabled=False)
    bench.put(disabled)
    await bench.said(disabled, AckState.STOPPED)
    seen = len(bench.handler.calls)
    bench.put(OTHER)
    bench.handler.raising["start rule-2"] += [OSError()] * 3
    await bench.said(OTHER, AckState.ACTIVE)
    assert [call for call in bench.handler.calls[seen:] if call[1] == "rule-1"] == []


async def test_handler_that_hangs_counts_as_failed_and_holds_nobody_up(bench: Bench) -> None:
    gate = bench.handler.gates[RULE.uid] = asyncio.Event()
    bench.put(RULE)
    bench.put(OTHER)
    await bench.said(OTHER, AckState.ACTIVE)
    assert await bench.said(RULE, AckState.FAILING) == "the sensor did not finish within 0.2 s; it will try again"
    gate.set()
    await bench.said(RULE, AckState.ACTIVE)


async def test_changes_that_come_while_a_handler_is_busy_are_taken_together(bench: Bench) -> None:
    gate = bench.handler.gates[RULE.uid] = asyncio.Event()
    bench.put(RULE)
    await until(lambda: len(bench.handler.calls) == 1)
    second = changed(RULE, parameters={"interval": 2})
    third = changed(second, parameters={"interval": 3})
    bench.put(second)
    bench.put(third)
    gate.set()
    await bench.said(third, AckState.ACTIVE)
    assert bench.handler.calls == [("start", "rule-1", 1), ("update", "rule-1", 3)]


async def test_rule_deleted_and_made_again_while_busy_runs(bench: Bench) -> None:
    gate = bench.handler.gates[RULE.uid] = asyncio.Event()
    bench.put(RULE)
    await until(lambda: len(bench.handler.calls) == 1)
    bench.send_tombstone(RULE)
    bench.put(changed(RULE))
    gate.set()
    await bench.said(changed(RULE), AckState.ACTIVE)
    assert bench.handler.running == {RULE.uid: changed(RULE)}


async def test_handler_may_say_how_a_rule_fares(bench: Bench) -> None:
    bench.put(RULE)
    await bench.said(RULE, AckState.ACTIVE)
    rule = bench.table.get(RULE.uid)
    assert rule is not None
    bench.supervisor.report(rule, AckState.FAILING, "the queue is gone")
    assert await bench.said(RULE, AckState.FAILING) == "the queue is gone"
    bench.supervisor.report(rule, AckState.ACTIVE)
    await bench.said(RULE, AckState.ACTIVE)
    newer = changed(RULE)
    bench.put(newer)
    await bench.said(newer, AckState.ACTIVE)
    bench.supervisor.report(rule, AckState.FAILING, "said of a state that is over")
    assert bench.acks.said[RULE.uid][-1] == (2, AckState.ACTIVE, "")


async def test_a_rule_of_which_all_is_refused_is_failing_until_something_gets_through(bench: Bench) -> None:
    bench.put(RULE)
    await bench.said(RULE, AckState.ACTIVE)
    bench.outcomes.refused(RULE.uid, "401 the signature is wrong", what="requests")
    assert "Nothing gets through: 1 request refused since" in await bench.said(RULE, AckState.FAILING)
    rule = bench.table.get(RULE.uid)
    assert rule is not None
    bench.supervisor.report(rule, AckState.ACTIVE, "It writes too fast.")
    await until(lambda: bench.acks.said[RULE.uid][-1][2].endswith("the signature is wrong. It writes too fast."))
    assert bench.acks.said[RULE.uid][-1][1] is AckState.FAILING
    bench.outcomes.passed(RULE.uid)
    assert "Not everything gets through" in await bench.said(RULE, AckState.ACTIVE)
    # What a handler says is wrong goes before what becomes of events.
    bench.supervisor.report(rule, AckState.REJECTED, "no such queue")
    assert await bench.said(RULE, AckState.REJECTED) == "no such queue"


async def test_a_rule_whose_events_have_to_wait_says_so_and_then_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attune_sensor._outcomes._LINGERS", 3.0)
    bench.put(RULE)
    await bench.said(RULE, AckState.ACTIVE)
    bench.outcomes.deferred(RULE.uid, "the namespace shop is over its quota", wait=0.0)
    await until(lambda: "shop is over its quota" in bench.acks.said[RULE.uid][-1][2])
    await until(lambda: bench.acks.said[RULE.uid][-1][1:] == (AckState.ACTIVE, ""), what="it is gone by itself")


async def test_that_nothing_gets_through_does_not_wait_for_a_number_that_may(bench: Bench) -> None:
    bench.put(RULE)
    await bench.said(RULE, AckState.ACTIVE)
    bench.outcomes.refused(RULE.uid, "no JSON", what="lines", tolerated=2)
    await until(lambda: "1 line refused" in bench.acks.said[RULE.uid][-1][2])
    bench.outcomes.refused(RULE.uid, "no JSON", what="lines", tolerated=2)  # to be said in half a minute
    for _ in range(2):
        bench.outcomes.refused(RULE.uid, "no JSON", what="lines", tolerated=2)
    loop = asyncio.get_running_loop()
    [waiting] = bench.supervisor._due.values()
    assert waiting.when() - loop.time() < 2
    assert "Nothing gets through: 4 lines refused" in await bench.said(RULE, AckState.FAILING)


async def test_a_changed_rule_begins_without_what_was_refused_of_the_old_one(bench: Bench) -> None:
    bench.put(RULE)
    await bench.said(RULE, AckState.ACTIVE)
    bench.outcomes.refused(RULE.uid, "no")
    await bench.said(RULE, AckState.FAILING)
    newer = changed(RULE)
    bench.put(newer)
    assert await bench.said(newer, AckState.ACTIVE) == ""


async def test_what_is_said_before_start_returns_is_what_is_acked(bench: Bench) -> None:
    handler = bench.handler

    async def start(rule: Rule) -> None:
        bench.supervisor.report(rule, AckState.COMPLETED)

    handler.start = start  # type: ignore[method-assign]
    bench.put(RULE)
    await bench.said(RULE, AckState.COMPLETED)
    assert [state for _, state, _ in bench.acks.said[RULE.uid]] == [AckState.COMPLETED]


async def test_failing_stop_is_over_all_the_same(bench: Bench) -> None:
    bench.put(RULE)
    await bench.said(RULE, AckState.ACTIVE)
    bench.handler.raising["stop rule-1"].append(RuntimeError("stuck"))
    bench.send_tombstone(RULE)
    bench.put(OTHER)
    await bench.said(OTHER, AckState.ACTIVE)
    await until(lambda: RULE.uid not in bench.supervisor._entries)


async def test_ten_thousand_rules_start_and_stop(bench: Bench) -> None:
    states = [rule_state(number) for number in range(10_000)]
    for state in states:
        bench.put(state)
    await until(lambda: bench.active(AckState.ACTIVE) == 10_000, within=20)
    for state in states:
        bench.send_tombstone(state)
    await until(lambda: not bench.supervisor._entries, within=20)
    assert bench.handler.running == {}


def test_sentence_of_a_failure_is_never_empty() -> None:
    from attune_sensor._rule_supervisor import describe

    errors: list[Any] = [RuntimeError(), TimeoutError(), ValueError("x")]
    assert all(describe(error, timeout=1) for error in errors)
