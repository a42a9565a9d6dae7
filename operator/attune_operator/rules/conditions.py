"""What a Rule's status says, and why (docs/architecture.md, "A rule's way").

``Active`` is True only if the sensor acknowledged this generation as active, and only while the sensor has ready pods. A
lack of knowledge (NATS is away, the operator has just started) is no reason to take back what was true.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from attune_contract.actions import RunReason
from attune_contract.identity import SensorRef
from attune_contract.messages import NEVER_FIRES, OVER_QUOTA, PLAIN_ACTIVE, AckState
from attune_contract.names import AcceptedReason, ActionsReason, ActiveReason, ConditionType
from attune_operator.rules.records import ConditionRecord, RunCounts, StatusRecord
from attune_operator.runtime.conditions import ConditionStatus, Verdict, kubernetes_time
from attune_operator.runtime.views import SensorRuntime

_MAX_MESSAGE: Final = 1024
#: What a Rule whose events wait for each other says while a run is not over.
_EVENTS_WAIT: Final = " Later events wait for a run that is not over (order: Strict)."
_STATUSES: Final[Mapping[str, ConditionStatus]] = {"True": "True", "False": "False"}


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a Rule is accepted, why, and which Sensor then serves it."""

    reason: AcceptedReason
    message: str
    sensor: SensorRef | None = None

    @property
    def accepted(self) -> bool:
        """Whether the Rule is accepted."""
        return self.reason is AcceptedReason.ACCEPTED


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestAck:
    """What a sensor last acknowledged of a rule."""

    generation: int
    state: AckState
    message: str = ""
    next_time: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleContext:
    """What ``Active`` depends on in addition to the Rule itself.

    Attributes:
        paused: whether the serving Sensor is paused.
        runtime: the state of its pods; None while it is not known.
        ack: its latest ack of the rule; None if there is none.
        acks_known: whether ``ack`` can be relied on; False while the ack stream has not been read.
        obstacle: why the rule cannot reach its sensor now, as a sentence; empty if it can.
    """

    paused: bool = False
    runtime: SensorRuntime | None = None
    ack: LatestAck | None = None
    acks_known: bool = True
    obstacle: str = ""


def accepted_verdict(acceptance: Acceptance) -> Verdict:
    """Return the condition Accepted."""
    return Verdict("True" if acceptance.accepted else "False", acceptance.reason, acceptance.message)


def active_verdict(
    *,
    acceptance: Acceptance,
    enabled: bool,
    generation: int,
    context: RuleContext,
    previous: StatusRecord,
) -> Verdict:
    """Return the condition Active.

    ``previous`` is the present status: what it says of the same generation and Sensor is kept while nothing better is
    known.
    """
    sensor = acceptance.sensor
    if not acceptance.accepted or sensor is None:
        return Verdict("False", ActiveReason.NOT_ACCEPTED, "The rule is not accepted; see the condition Accepted.")
    if not enabled:
        return Verdict("False", ActiveReason.DISABLED, "The rule is disabled (spec.enabled is false).")
    if context.paused:
        return Verdict("False", ActiveReason.SENSOR_PAUSED, f"The Sensor {sensor} is paused (its spec.paused is true).")
    runtime, ack = context.runtime, context.ack
    if runtime is not None and runtime.ready_replicas < 1:
        why = runtime.message or "none of its pods is ready."
        return Verdict("False", ActiveReason.AWAITING_SENSOR, f"The Sensor {sensor} is not ready: {why}")
    if runtime is None or not context.acks_known:
        if (kept := _kept(previous, sensor=sensor, generation=generation)) is not None:
            return kept
        why = context.obstacle or "it is not yet known whether its pods are ready."
        return Verdict("False", ActiveReason.AWAITING_SENSOR, f"Waiting for the Sensor {sensor}: {why}")
    if ack is not None and ack.generation == generation:
        return _by_ack(ack, sensor)
    why = context.obstacle or f"it has not acknowledged generation {generation} of this rule yet."
    return Verdict("False", ActiveReason.AWAITING_SENSOR, f"Waiting for the Sensor {sensor}: {why}")


#: A rule with one of these reasons does not fire, as its spec or its Sensor's asks: nobody has to act, or to wait.
_AS_ASKED: Final = frozenset(
    {ActiveReason.DISABLED, ActiveReason.SENSOR_PAUSED, ActiveReason.COMPLETED, ActiveReason.NEVER_FIRES}
)
#: Nothing changes before somebody changes the rule or its Sensor. An unknown trigger type is not among them: the Sensor
#: may be on its way, in the same commit.
_ACTIONS_STALLED: Final = frozenset({ActionsReason.INVALID_EXPRESSION, RunReason.FORBIDDEN, RunReason.NO_SUCH_SECRET})
_STALLED: Final = frozenset(
    {AcceptedReason.INVALID_PARAMETERS, ActiveReason.REJECTED, ActionsReason.INVALID_EXPRESSION}
)


def next_time(active: Verdict, *, ack: LatestAck | None, generation: int, previous: str | None) -> str | None:
    """Return ``nextTime``: what the sensor said of this generation, while the rule runs.

    Args:
        active: the condition Active.
        ack: the sensor's latest ack; None while it is not known.
        generation: the Rule's.
        previous: what the status says now; it is kept while nothing better is known.
    """
    if active.reason not in (ActiveReason.ACTIVE, ActiveReason.QUOTA_EXCEEDED, ActiveReason.FAILING):
        return None
    if ack is None or ack.generation != generation:
        return previous
    return ack.next_time


def ready_verdict(*, accepted: Verdict, active: Verdict, others: Iterable[Verdict] = ()) -> Verdict:
    """Return the condition Ready: whether the rule is what its spec asks for (docs/gitops.md).

    It is False if the rule is not accepted, is not active although it should be, or if one of ``others`` is False: further
    conditions that a rule needs to be of use. Its reason and message are those of what is wrong first, and those of
    Active otherwise.
    """
    if accepted.status != "True":
        return Verdict("False", accepted.reason, accepted.message)
    if active.reason in _AS_ASKED:
        return Verdict("True", active.reason, active.message)
    if active.status == "True":
        for other in others:
            if other.status == "False":
                return Verdict("False", other.reason, other.message)
    return Verdict(active.status, active.reason, active.message)


def actions_verdict(
    *,
    has_actions: bool,
    problem: str | None,
    runs: RunCounts | None,
    generation: int,
    previous: StatusRecord,
    in_order: bool = False,
) -> Verdict | None:
    """Return the condition ActionsHealthy (docs/actions.md); None for a Rule without actions and conditions on them.

    Args:
        has_actions: whether there is anything to be healthy.
        problem: what is wrong with the expressions; empty if nothing is, None while they have not been checked.
        runs: how its runs have ended; None while it is not known.
        generation: the Rule's.
        previous: the present status: what it says of the same generation is kept while nothing better is known.
        in_order: whether its events wait for each other (``order: Strict``).
    """
    if not has_actions:
        return None
    kept = previous.actions
    if kept is not None and kept.observed_generation != generation:
        kept = None
    about_runs = kept is not None and kept.reason not in (ActionsReason.INVALID_EXPRESSION, ActionsReason.CHECKING)
    if kept is not None and (problem is None or (not problem and runs is None and about_runs)):
        return Verdict(_STATUSES.get(kept.status, "Unknown"), kept.reason, kept.message)
    if problem is None:
        return Verdict("Unknown", ActionsReason.CHECKING, "Its expressions are being checked.")
    if problem:
        return Verdict("False", ActionsReason.INVALID_EXPRESSION, problem[:_MAX_MESSAGE])
    if runs is not None and runs.failing is not None:
        reason, message = runs.failing
        wait = _EVENTS_WAIT if in_order and runs.waiting else ""
        return Verdict("False", reason, message[: _MAX_MESSAGE - len(wait)] + wait)
    return Verdict("True", ActionsReason.HEALTHY, "Its expressions are valid, and its last run has not failed.")


def keeps_from_ready(verdict: Verdict | None) -> bool:
    """Whether what is wrong with a Rule's actions lasts until somebody changes something. A target that does not answer is no
    reason to call the Rule itself unready.
    """
    return verdict is not None and verdict.status == "False" and verdict.reason in _ACTIONS_STALLED


def stalled_verdict(ready: Verdict) -> Verdict | None:
    """Return the condition Stalled (kstatus), which is only present while it is True; None if it is not."""
    if ready.status != "False" or ready.reason not in _STALLED:
        return None
    return Verdict("True", ready.reason, ready.message)


def _by_ack(ack: LatestAck, sensor: SensorRef) -> Verdict:
    said = ack.message[:_MAX_MESSAGE]
    match ack.state:
        case AckState.ACTIVE:
            note = f" {said}" if said else ""
            reason = ActiveReason.QUOTA_EXCEEDED if OVER_QUOTA in said else ActiveReason.ACTIVE
            return Verdict("True", reason, f"The Sensor {sensor}{PLAIN_ACTIVE}{note}")
        case AckState.REJECTED:
            return Verdict("False", ActiveReason.REJECTED, said or f"The Sensor {sensor} rejected the rule.")
        case AckState.FAILING:
            return Verdict(
                "False",
                ActiveReason.FAILING,
                said or f"The Sensor {sensor} cannot run the rule at the moment and keeps trying.",
            )
        case AckState.COMPLETED if said.startswith(NEVER_FIRES):
            return Verdict("False", ActiveReason.NEVER_FIRES, said)
        case AckState.COMPLETED:
            return Verdict("False", ActiveReason.COMPLETED, said or "The rule has completed and will not fire again.")
        case _:
            # It stopped an enabled rule: the ack is about what was before, or the sensor is shutting down.
            return Verdict(
                "False",
                ActiveReason.AWAITING_SENSOR,
                f"The Sensor {sensor} stopped the rule and has not started it again.",
            )


_SAID_BY_SENSORS: Final = frozenset(
    {
        ActiveReason.ACTIVE,
        ActiveReason.QUOTA_EXCEEDED,
        ActiveReason.REJECTED,
        ActiveReason.FAILING,
        ActiveReason.COMPLETED,
        ActiveReason.NEVER_FIRES,
    }
)


def _kept(previous: StatusRecord, *, sensor: SensorRef, generation: int) -> Verdict | None:
    active = previous.active
    if active is None or active.observed_generation != generation or previous.sensor != str(sensor):
        return None
    if active.reason in _SAID_BY_SENSORS:
        return Verdict(_STATUSES.get(active.status, "Unknown"), active.reason, active.message)
    return None


def next_status(
    *,
    generation: int,
    acceptance: Acceptance,
    accepted: Verdict,
    active: Verdict,
    previous: StatusRecord,
    now: datetime,
    actions: Verdict | None = None,
) -> StatusRecord:
    """Return the desired status, equal to ``previous`` where nothing changed. ``actions`` is the condition ActionsHealthy.

    ``lastTransitionTime`` moves only when a condition's status flips (Kubernetes API conventions).
    """
    others = (actions,) if actions is not None and keeps_from_ready(actions) else ()
    ready = ready_verdict(accepted=accepted, active=active, others=others)
    stalled = stalled_verdict(ready)
    return StatusRecord(
        observed_generation=generation,
        sensor=str(acceptance.sensor) if acceptance.accepted and acceptance.sensor is not None else None,
        accepted=_condition(accepted, previous.accepted, generation=generation, now=now),
        active=_condition(active, previous.active, generation=generation, now=now),
        actions=None if actions is None else _condition(actions, previous.actions, generation=generation, now=now),
        ready=_condition(ready, previous.ready, generation=generation, now=now),
        stalled=None if stalled is None else _condition(stalled, previous.stalled, generation=generation, now=now),
    )


def _condition(
    verdict: Verdict, previous: ConditionRecord | None, *, generation: int, now: datetime
) -> ConditionRecord:
    keeps_time = previous is not None and previous.status == verdict.status and previous.last_transition_time
    return ConditionRecord(
        status=verdict.status,
        reason=str(verdict.reason),
        message=sys.intern(verdict.message),  # as those that were read: thousands of Rules say the same
        last_transition_time=previous.last_transition_time
        if previous is not None and keeps_time
        else kubernetes_time(now),
        observed_generation=generation,
    )


def same_but_times(one: StatusRecord, other: StatusRecord) -> bool:
    """Whether two statuses differ in nothing but times.

    Another operator may have written the same status a moment earlier or later; that needs no correction.
    """
    return (
        one.observed_generation == other.observed_generation
        and one.sensor == other.sensor
        and _content(one.accepted) == _content(other.accepted)
        and _content(one.active) == _content(other.active)
        and _content(one.actions) == _content(other.actions)
        and _content(one.ready) == _content(other.ready)
        and _content(one.stalled) == _content(other.stalled)
    )


def _content(condition: ConditionRecord | None) -> tuple[Any, ...] | None:
    if condition is None or not condition.last_transition_time:
        return None
    return (condition.status, condition.reason, condition.message, condition.observed_generation)


def status_patch(status: StatusRecord) -> dict[str, Any]:
    """Return the status as a merge patch (RFC 7396): a list is replaced as a whole, and null removes a field."""
    conditions = (
        (ConditionType.ACCEPTED, status.accepted),
        (ConditionType.ACTIVE, status.active),
        (ConditionType.ACTIONS_HEALTHY, status.actions),
        (ConditionType.READY, status.ready),
        (ConditionType.STALLED, status.stalled),
    )
    return {
        "observedGeneration": status.observed_generation,
        "sensor": status.sensor,
        "conditions": [_as_object(str(kind), condition) for kind, condition in conditions if condition is not None],
    }


def runs_patch(counts: RunCounts) -> dict[str, Any]:
    """The part of the status about runs, as a merge patch."""
    runs = {
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "waiting": counts.waiting,
    }
    return {"runs": runs, "lastRunTime": counts.last_run_time}


def _as_object(kind: str, condition: ConditionRecord) -> Mapping[str, Any]:
    return {
        "type": kind,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": condition.last_transition_time,
        "observedGeneration": condition.observed_generation,
    }
