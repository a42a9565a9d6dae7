"""Everything that is decided about one Rule from Kubernetes: whether it is accepted, its Sensor, and its state."""

from functools import lru_cache
from typing import Any

import msgspec

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import RuleState, encode
from attune_contract.names import AcceptedReason
from attune_operator.rules import validation
from attune_operator.rules.binding import Bound, NotAllowed, UnknownTriggerType
from attune_operator.rules.cache import RuleCache
from attune_operator.rules.conditions import Acceptance
from attune_operator.rules.projection import Desired
from attune_operator.rules.records import RuleRecord


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a Rule is accepted, and what the rule stream should have of it (None: nothing)."""

    acceptance: Acceptance
    desired: Desired | None = None


def prepare(rule: RuleRecord, cache: RuleCache) -> None:
    """Compile what :func:`decide` needs for this Rule, so that it can be done in a step of its own."""
    bound = cache.binding(rule)
    if isinstance(bound, Bound) and validation.too_large(len(rule.parameters)) is None:
        validation.prepare(parameters=rule.parameters, trigger=bound.trigger)


def decide(rule: RuleRecord, cache: RuleCache) -> Decision:
    """Decide about a Rule."""
    match cache.binding(rule):
        case UnknownTriggerType(message):
            return _refused(AcceptedReason.UNKNOWN_TRIGGER_TYPE, message)
        case NotAllowed(message):
            return _refused(AcceptedReason.NOT_ALLOWED, message)
        case Bound(sensor, trigger):
            pass
    if (problem := cache.places.refusal(rule.uid)) is not None:
        return _refused(AcceptedReason.QUOTA_EXCEEDED, problem)
    if (problem := validation.actions_too_large(len(rule.actions))) is not None:
        return _refused(AcceptedReason.ACTIONS_TOO_LARGE, problem)
    if (problem := validation.too_large(len(rule.parameters))) is not None:  # before anything is done with them
        return _refused(AcceptedReason.INVALID_PARAMETERS, problem)
    parameters = msgspec.json.decode(rule.parameters)
    problem = validation.check_parameters(
        parameters=rule.parameters, value=parameters, trigger=trigger, sensor=sensor.ref
    )
    if problem is not None:
        return _refused(AcceptedReason.INVALID_PARAMETERS, problem)
    state = state_of(rule, trigger_type=trigger.name, parameters=parameters)
    body = encode(state)
    if (problem := validation.too_large(len(body))) is not None:
        return _refused(AcceptedReason.INVALID_PARAMETERS, problem)
    return Decision(
        acceptance=_accepted(sensor.ref, trigger.name),
        desired=Desired(subject=subjects.rule_subject(sensor.ref, rule.uid), state=state, body=body),
    )


def state_of(rule: RuleRecord, *, trigger_type: str, parameters: dict[str, Any]) -> RuleState:
    """Build the message for the sensor: the trigger type by its canonical name, and the parameters decoded."""
    return RuleState(
        uid=rule.uid,
        namespace=rule.namespace,
        name=rule.name,
        generation=rule.generation,
        enabled=rule.enabled,
        trigger_type=trigger_type,
        parameters=parameters,
        created_at=rule.created_at,
    )


@lru_cache(maxsize=1024)  # thousands of Rules share one
def _accepted(sensor: SensorRef, trigger_type: str) -> Acceptance:
    message = f"The Sensor {sensor} serves the rule as {trigger_type}."
    return Acceptance(reason=AcceptedReason.ACCEPTED, message=message, sensor=sensor)


def _refused(reason: AcceptedReason, message: str) -> Decision:
    return Decision(acceptance=Acceptance(reason=reason, message=message))
