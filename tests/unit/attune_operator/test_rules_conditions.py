"""What a Rule's status says."""

from datetime import UTC, datetime
from typing import Any

import pytest

from attune_contract.identity import SensorRef
from attune_contract.messages import NEVER_FIRES, OVER_QUOTA, AckState
from attune_contract.names import AcceptedReason
from attune_operator.rules.conditions import (
    Acceptance,
    LatestAck,
    RuleContext,
    accepted_verdict,
    actions_verdict,
    active_verdict,
    keeps_from_ready,
    next_status,
    next_time,
    ready_verdict,
    same_but_times,
    stalled_verdict,
    status_patch,
)
from attune_operator.rules.records import ConditionRecord, RunCounts, StatusRecord, parse_rule
from attune_operator.runtime.conditions import Verdict
from attune_operator.runtime.views import SensorRuntime

REF = SensorRef("attune-system", "core.timer")
ACCEPTED = Acceptance(reason=AcceptedReason.ACCEPTED, message="served", sensor=REF)
REFUSED = Acceptance(reason=AcceptedReason.INVALID_PARAMETERS, message="parameters.interval: -1 …")
READY, DOWN = SensorRuntime(ready_replicas=1), SensorRuntime(ready_replicas=0, message="the image cannot be pulled.")
NOON, LATER = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 13, tzinfo=UTC)
ACTIVE_BEFORE = StatusRecord(
    observed_generation=3,
    sensor=str(REF),
    active=ConditionRecord(
        status="True", reason="Active", message="it runs", last_transition_time="x", observed_generation=3
    ),
)


def active(
    *,
    acceptance: Acceptance = ACCEPTED,
    enabled: bool = True,
    previous: StatusRecord | None = None,
    **context: Any,
) -> Verdict:
    return active_verdict(
        acceptance=acceptance,
        enabled=enabled,
        generation=3,
        context=RuleContext(**context),
        previous=previous or StatusRecord(),
    )


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({"runtime": READY, "ack": LatestAck(generation=3, state=AckState.ACTIVE, next_time="new")}, "new"),
        ({"runtime": READY, "ack": LatestAck(generation=3, state=AckState.ACTIVE)}, None),
        ({"runtime": READY, "ack": LatestAck(generation=3, state=AckState.FAILING, next_time="new")}, "new"),
        ({"runtime": READY, "ack": LatestAck(generation=3, state=AckState.COMPLETED, next_time="new")}, None),
        ({"runtime": READY, "ack": LatestAck(generation=2, state=AckState.ACTIVE, next_time="new")}, None),
        ({"runtime": DOWN, "ack": LatestAck(generation=3, state=AckState.ACTIVE, next_time="new")}, None),
        ({"runtime": READY, "acks_known": False}, "old"),
        ({"paused": True, "acks_known": False}, None),
    ],
)
def test_when_it_is_due_next_is_said_while_it_runs(context: dict[str, Any], said: str | None) -> None:
    verdict = active(previous=ACTIVE_BEFORE, **context)
    assert next_time(verdict, ack=context.get("ack"), generation=3, previous="old") == said


def ack(state: AckState, message: str = "", generation: int = 3) -> LatestAck:
    return LatestAck(generation=generation, state=state, message=message)


@pytest.mark.parametrize(
    ("verdict", "status", "reason"),
    [
        (active(runtime=READY, ack=ack(AckState.ACTIVE)), "True", "Active"),
        (active(acceptance=REFUSED, runtime=READY, ack=ack(AckState.ACTIVE)), "False", "NotAccepted"),
        (active(enabled=False, runtime=READY, ack=ack(AckState.ACTIVE)), "False", "Disabled"),
        (active(enabled=False, runtime=READY, ack=ack(AckState.STOPPED)), "False", "Disabled"),
        (active(paused=True, runtime=DOWN, ack=ack(AckState.ACTIVE)), "False", "SensorPaused"),
        (active(runtime=DOWN, ack=ack(AckState.ACTIVE)), "False", "AwaitingSensor"),
        (active(runtime=READY), "False", "AwaitingSensor"),
        (active(runtime=READY, ack=ack(AckState.ACTIVE, generation=2)), "False", "AwaitingSensor"),
        (active(runtime=READY, ack=ack(AckState.ACTIVE, generation=4)), "False", "AwaitingSensor"),
        (active(runtime=READY, ack=ack(AckState.REJECTED)), "False", "Rejected"),
        (active(runtime=READY, ack=ack(AckState.FAILING)), "False", "Failing"),
        (active(runtime=READY, ack=ack(AckState.COMPLETED)), "False", "Completed"),
        (active(runtime=READY, ack=ack(AckState.COMPLETED, NEVER_FIRES)), "False", "NeverFires"),
        (active(runtime=READY, ack=ack(AckState.ACTIVE, f"the namespace a {OVER_QUOTA}")), "True", "QuotaExceeded"),
        (active(runtime=READY, ack=ack(AckState.STOPPED)), "False", "AwaitingSensor"),
        (active(), "False", "AwaitingSensor"),
    ],
)
def test_active_is_true_only_by_the_sensors_ack_of_this_generation_while_it_has_pods(
    verdict: Verdict, status: str, reason: str
) -> None:
    assert (verdict.status, verdict.reason) == (status, reason)


def test_messages_say_what_is_in_the_way() -> None:
    assert active(runtime=DOWN).message == (
        "The Sensor attune-system/core.timer is not ready: the image cannot be pulled."
    )
    assert "has not acknowledged generation 3" in active(runtime=READY).message
    assert active(runtime=READY, ack=ack(AckState.REJECTED, "no such time zone")).message == "no such time zone"
    assert "NATS is away." in active(acks_known=False, obstacle="NATS is away.").message


class TestWhileNothingIsKnown:
    def test_what_was_true_of_this_generation_stays(self) -> None:
        kept = active(acks_known=False, previous=ACTIVE_BEFORE)
        assert (kept.status, kept.reason, kept.message) == ("True", "Active", "it runs")
        assert active(acks_known=False, runtime=READY, previous=ACTIVE_BEFORE).status == "True"
        assert active(runtime=None, previous=ACTIVE_BEFORE).status == "True"

    def test_what_was_true_of_another_generation_does_not(self) -> None:
        verdict = active_verdict(
            acceptance=ACCEPTED,
            enabled=True,
            generation=4,
            context=RuleContext(acks_known=False, runtime=READY),
            previous=ACTIVE_BEFORE,
        )
        assert (verdict.status, verdict.reason) == ("False", "AwaitingSensor")

    def test_what_was_true_of_another_sensor_does_not(self) -> None:
        other = Acceptance(reason=AcceptedReason.ACCEPTED, message="", sensor=SensorRef("default", "other"))
        assert active(acceptance=other, acks_known=False, previous=ACTIVE_BEFORE).status == "False"

    def test_a_sensor_that_is_down_is_known_to_be_down(self) -> None:
        assert active(acks_known=False, runtime=DOWN, previous=ACTIVE_BEFORE).reason == "AwaitingSensor"


def status(
    active_verdict: Verdict, previous: StatusRecord, *, generation: int = 1, now: datetime = NOON
) -> StatusRecord:
    return next_status(
        generation=generation,
        acceptance=ACCEPTED,
        accepted=accepted_verdict(ACCEPTED),
        active=active_verdict,
        previous=previous,
        now=now,
    )


def times(record: StatusRecord) -> tuple[str, str]:
    assert record.accepted is not None
    assert record.active is not None
    return record.accepted.last_transition_time, record.active.last_transition_time


def test_the_transition_time_moves_only_when_the_status_flips() -> None:
    first = status(Verdict("False", "AwaitingSensor", "a"), StatusRecord())
    assert times(first) == ("2026-01-01T12:00:00Z",) * 2
    reworded = status(Verdict("False", "Rejected", "b"), first, generation=2, now=LATER)
    assert times(reworded) == times(first)
    flipped = status(Verdict("True", "Active", "c"), reworded, generation=2, now=LATER)
    assert times(flipped) == ("2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z")


def test_the_generation_is_told_everywhere() -> None:
    patch = status_patch(status(Verdict("True", "Active", ""), StatusRecord(), generation=5))
    assert patch["observedGeneration"] == 5
    assert [c["observedGeneration"] for c in patch["conditions"]] == [5, 5, 5]


def test_the_same_status_is_equal_so_that_nothing_is_written() -> None:
    first = status(Verdict("True", "Active", "x"), StatusRecord())
    assert status(Verdict("True", "Active", "x"), first, now=LATER) == first


def test_what_is_written_reads_back_equal() -> None:
    written = status(Verdict("True", "Active", "x"), StatusRecord())
    body = {
        "metadata": {"uid": "u", "namespace": "default", "name": "n", "generation": 1},
        "spec": {"trigger": {"type": "core.timer"}},
        "status": status_patch(written),
    }
    assert parse_rule(body).status == written


def test_a_rule_that_is_not_accepted_names_no_sensor() -> None:
    record = next_status(
        generation=1,
        acceptance=REFUSED,
        accepted=accepted_verdict(REFUSED),
        active=active(acceptance=REFUSED),
        previous=StatusRecord(),
        now=NOON,
    )
    patch = status_patch(record)
    assert patch["sensor"] is None  # null takes the field away (RFC 7386)
    assert [(c["type"], c["status"], c["reason"]) for c in patch["conditions"]] == [
        ("Accepted", "False", "InvalidParameters"),
        ("Active", "False", "NotAccepted"),
        ("Ready", "False", "InvalidParameters"),
        ("Stalled", "True", "InvalidParameters"),
    ]


UNKNOWN_TYPE = Acceptance(reason=AcceptedReason.UNKNOWN_TRIGGER_TYPE, message="no Sensor offers acme.unheard")


@pytest.mark.parametrize(
    ("acceptance", "verdict", "ready", "stalled"),
    [
        (ACCEPTED, active(runtime=READY, ack=ack(AckState.ACTIVE)), ("True", "Active"), False),
        (ACCEPTED, active(enabled=False), ("True", "Disabled"), False),
        (ACCEPTED, active(paused=True), ("True", "SensorPaused"), False),
        (ACCEPTED, active(runtime=READY, ack=ack(AckState.COMPLETED)), ("True", "Completed"), False),
        (ACCEPTED, active(runtime=READY, ack=ack(AckState.COMPLETED, NEVER_FIRES)), ("True", "NeverFires"), False),
        (ACCEPTED, active(runtime=READY), ("False", "AwaitingSensor"), False),
        (ACCEPTED, active(runtime=READY, ack=ack(AckState.FAILING)), ("False", "Failing"), False),
        (ACCEPTED, active(runtime=READY, ack=ack(AckState.REJECTED)), ("False", "Rejected"), True),
        (REFUSED, active(acceptance=REFUSED), ("False", "InvalidParameters"), True),
        (REFUSED, active(acceptance=REFUSED, enabled=False), ("False", "InvalidParameters"), True),
        # The Sensor may come with the next document of the same commit.
        (UNKNOWN_TYPE, active(acceptance=UNKNOWN_TYPE), ("False", "UnknownTriggerType"), False),
    ],
)
def test_ready_says_whether_the_rule_is_what_its_spec_asks_for(
    acceptance: Acceptance, verdict: Verdict, ready: tuple[str, str], stalled: bool
) -> None:
    found = ready_verdict(accepted=accepted_verdict(acceptance), active=verdict)
    assert (found.status, found.reason) == ready
    assert (stalled_verdict(found) is not None) == stalled


def test_a_rule_that_is_not_accepted_says_why_in_ready_itself() -> None:
    found = ready_verdict(accepted=accepted_verdict(UNKNOWN_TYPE), active=active(acceptance=UNKNOWN_TYPE))
    assert found.message == "no Sensor offers acme.unheard"


@pytest.mark.parametrize(
    ("verdict", "status"),
    [(active(runtime=READY, ack=ack(AckState.ACTIVE)), "False"), (active(enabled=False), "True")],
)
def test_another_condition_that_is_false_makes_an_active_rule_not_ready(verdict: Verdict, status: str) -> None:
    other = Verdict("False", "ActionsFailing", "3 runs failed")
    found = ready_verdict(accepted=accepted_verdict(ACCEPTED), active=verdict, others=[other])
    assert found.status == status
    assert (found.message == other.message) == (status == "False")


def test_two_operators_that_say_the_same_at_different_times_do_not_correct_each_other() -> None:
    one = status(Verdict("True", "Active", "x"), StatusRecord(), now=NOON)
    other = status(Verdict("True", "Active", "x"), StatusRecord(), now=LATER)
    assert one != other
    assert same_but_times(one, other)
    assert not same_but_times(one, status(Verdict("True", "Active", "y"), StatusRecord()))


class TestActionsHealthy:
    FAILING = RunCounts(failed=1, failing=("TargetRefused", "The target answered 404."))

    def verdict(self, **given: Any) -> Verdict | None:
        values = {"has_actions": True, "problem": "", "runs": None, "generation": 1, "previous": StatusRecord()}
        return actions_verdict(**{**values, **given})

    def status(self, reason: str, status: str = "False") -> StatusRecord:
        condition = ConditionRecord(
            status=status, reason=reason, message="m", last_transition_time="t", observed_generation=1
        )
        return StatusRecord(actions=condition)

    def test_a_rule_without_actions_has_no_such_condition(self) -> None:
        assert self.verdict(has_actions=False) is None

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({}, ("True", "Healthy")),
            ({"problem": None}, ("Unknown", "Checking")),
            ({"problem": "spec.when: wrong"}, ("False", "InvalidExpression")),
            ({"runs": FAILING}, ("False", "TargetRefused")),
            ({"runs": FAILING, "problem": "spec.when: wrong"}, ("False", "InvalidExpression")),
            ({"runs": RunCounts(succeeded=1, failed=1)}, ("True", "Healthy")),
        ],
    )
    def test_what_it_says(self, given: dict[str, Any], expected: tuple[str, str]) -> None:
        verdict = self.verdict(**given)
        assert verdict is not None
        assert (verdict.status, verdict.reason) == expected

    def test_a_rule_in_order_says_that_its_later_events_wait(self) -> None:
        def message(**given: Any) -> str:
            verdict = self.verdict(**given)
            assert verdict is not None
            return verdict.message

        waiting = RunCounts(waiting=1, failing=("TargetRefused", "x" * 5000))
        told = message(in_order=True, runs=waiting)
        assert told.endswith(" Later events wait for a run that is not over (order: Strict).")
        assert len(told) == len(message(runs=waiting))
        assert message(in_order=True, runs=self.FAILING) == "The target answered 404."
        assert "wait" not in message(runs=waiting)

    def test_what_was_said_of_this_generation_is_kept_while_nothing_better_is_known(self) -> None:
        before = self.status("TargetRefused")
        for problem in ("", None):
            kept = self.verdict(previous=before, problem=problem)
            assert kept == Verdict("False", "TargetRefused", "m")
        checked = self.verdict(previous=self.status("InvalidExpression"))
        assert checked is not None
        assert checked.status == "True", "the expressions have been checked since"
        changed = self.verdict(previous=before, generation=2, problem=None)
        assert changed is not None
        assert changed.status == "Unknown"
        healthy = self.verdict(previous=before, runs=RunCounts(succeeded=1))
        assert healthy is not None
        assert healthy.status == "True"

    def test_only_what_somebody_must_change_makes_the_rule_unready(self) -> None:
        assert keeps_from_ready(self.verdict(problem="spec.when: wrong"))
        assert keeps_from_ready(self.verdict(runs=RunCounts(failing=("Forbidden", "it may not"))))
        assert not keeps_from_ready(self.verdict(runs=self.FAILING))
        assert not keeps_from_ready(self.verdict(problem=None))
        assert not keeps_from_ready(None)
