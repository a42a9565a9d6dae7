"""What Sensors and Rules say of themselves, in sentences, for people at a terminal or a browser. Pure; ``now`` is passed in."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from attune_contract.messages import PARTLY_REFUSED, PLAIN_ACTIVE
from attune_contract.names import AcceptedReason, ActionsReason, ActiveReason, HealthReason

#: A Sensor or a Rule, as the Kubernetes API has it.
Object = Mapping[str, Any]
_NONE = "-"


def age(time: str | None, now: datetime) -> str:
    """How long ago, as kubectl writes it: ``5s``, ``3m``, ``4h``, ``12d``."""
    if not time:
        return _NONE
    return span(now - datetime.fromisoformat(time))


def span(length: timedelta) -> str:
    """A duration in the largest unit that gives at least 2, or in seconds."""
    seconds = max(0, int(length.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def until(time: str | None, now: datetime) -> str:
    """How long from now."""
    if not time:
        return _NONE
    left = datetime.fromisoformat(time) - now
    return f"in {span(left)}" if left > timedelta() else f"{span(-left)} ago"


def ref(body: Object) -> str:
    """``namespace/name``."""
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"


def bare(body: Object) -> dict[str, Any]:
    """The object without ``managedFields``, as kubectl prints it."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


def condition(body: Object, kind: str) -> Mapping[str, Any]:
    """The condition of that type; an empty one when there is none yet."""
    for found in (body.get("status") or {}).get("conditions") or ():
        if found.get("type") == kind:
            return dict(found)
    return {}


def is_current(body: Object, found: Mapping[str, Any]) -> bool:
    """Whether a condition is about the object's present generation."""
    generation = body["metadata"].get("generation", 0)
    return bool(found) and found.get("observedGeneration", generation) == generation


#: A rule that does not fire for one of these reasons is not broken.
AT_REST = (ActiveReason.DISABLED, ActiveReason.COMPLETED, ActiveReason.SENSOR_PAUSED)


def enabled(body: Object) -> bool:
    """Whether a Rule is enabled."""
    return bool(body["spec"].get("enabled", True))


def rule_problem(body: Object) -> str | None:
    """Why a Rule that should fire does not, or not always, as a sentence; None if it fires, or should not."""
    accepted, active = condition(body, "Accepted"), condition(body, "Active")
    if accepted.get("status") == "False":
        return sentence(accepted)
    if not enabled(body) or active.get("reason") in AT_REST:
        return None
    if not active:
        return "the operator has not reconciled it yet; is the operator running?"
    if active.get("status") != "True":
        return sentence(active)
    if not is_current(body, active):
        return "its last change has not reached the sensor yet"
    ready = condition(body, "Ready")
    if ready.get("status") == "False" or PARTLY_REFUSED in str(active.get("message")):
        return sentence(ready or active)
    return None


def actions_problem(body: Object) -> str | None:
    """What is wrong with what a Rule's actions do, as a sentence, though the Rule itself may fire; None if nothing is."""
    found = condition(body, "ActionsHealthy")
    return sentence(found) if enabled(body) and found.get("status") == "False" else None


def rule_note(body: Object) -> str | None:
    """What is worth knowing of a Rule that has no problem, as a sentence: that it does not fire now, as it was asked to, or
    what its sensor remarks; None if nothing is.
    """
    active = condition(body, "Active")
    if active.get("status") != "True":
        return sentence(active) if active else None
    said = str(active.get("message") or "")
    return said if said.partition(PLAIN_ACTIVE)[2].strip() else None


def sensor_note(body: Object) -> str | None:
    """That a Sensor without a problem does nothing now, as it was asked to; None if it does."""
    return sentence(condition(body, "Ready")) if body["spec"].get("paused") else None


def trouble_since(body: Object) -> str:
    """When the object became what it is: the latest transition of its conditions, for sorting."""
    found = (body.get("status") or {}).get("conditions") or ()
    times = [str(entry.get("lastTransitionTime") or "") for entry in found]
    return max(times, default="") or str(body["metadata"].get("creationTimestamp") or "")


def sensor_problem(body: Object) -> str | None:
    """What is wrong with a Sensor, as a sentence; None if nothing is, or it is paused."""
    if body["spec"].get("paused"):
        return None
    if not (body.get("status") or {}).get("conditions"):
        return "the operator has not reconciled it yet; is the operator running?"
    for kind in ("Ready", "CredentialsValid", "RulesSynced", "Healthy"):
        found = condition(body, kind)
        if found.get("reason") == HealthReason.NOT_REPORTED:
            continue  # sensors need not report their health
        if found and found.get("status") != "True":
            return f"{kind}: {sentence(found)}"
    if (found := condition(body, "Contested")).get("status") == "True":
        return sentence(found)
    return None


def sentence(found: Mapping[str, Any]) -> str:
    """What a condition says; its reason where it has no message."""
    return str(found.get("message") or found.get("reason") or "no reason given")


#: What to do about a Rule, by the reason of what is wrong with it.
_RULE_ADVICE: Final[Mapping[str, str]] = {
    AcceptedReason.UNKNOWN_TRIGGER_TYPE: "Apply a Sensor that declares this trigger type, or correct spec.trigger.type.",
    AcceptedReason.INVALID_PARAMETERS: "Correct spec.trigger.parameters; the Sensor's page lists what its type takes.",
    AcceptedReason.NOT_ALLOWED: "Let the Sensor admit this namespace (spec.rules.namespaces), or move the Rule.",
    AcceptedReason.ACTIONS_TOO_LARGE: "Shorten the Rule's actions.",
    ActiveReason.AWAITING_SENSOR: "Look at the Sensor: its pods, its log, and what it says of itself.",
    ActiveReason.REJECTED: "Change the Rule as the sensor asks.",
    ActiveReason.FAILING: "The sensor keeps trying. Look at what it watches, and at its log.",
    ActionsReason.INVALID_EXPRESSION: "Correct the expression in the Rule's actions.",
    ActionsReason.LAST_RUN_FAILED: "Look at the failed runs; mend the target, then retry them.",
}
_SENSOR_ADVICE: Final[Mapping[str, str]] = {
    "Ready": "Look at its pods and their logs.",
    "CredentialsValid": "Look at the operator's log; the old token stays valid until it expires.",
    "RulesSynced": "Check that NATS runs and that the operator reaches it.",
    "Healthy": "Look at the sensor's log.",
}
_NOT_SEEN: Final = "Check that the operator runs and watches this namespace."


def rule_advice(body: Object) -> str:
    """What to do about a Rule's problem, as a sentence; empty where its own sentence is all there is to say."""
    accepted, active = condition(body, "Accepted"), condition(body, "Active")
    if accepted.get("status") == "False":
        return _RULE_ADVICE.get(str(accepted.get("reason")), "")
    if not active or not is_current(body, active):
        return _NOT_SEEN
    if active.get("status") != "True":
        return _RULE_ADVICE.get(str(active.get("reason")), "")
    if condition(body, "Ready").get("status") == "False":
        return _RULE_ADVICE.get(str(condition(body, "Ready").get("reason")), "")
    actions = condition(body, "ActionsHealthy")
    if actions.get("status") != "False":
        return ""
    return _RULE_ADVICE.get(str(actions.get("reason")), _RULE_ADVICE[ActionsReason.LAST_RUN_FAILED])


def sensor_advice(body: Object) -> str:
    """What to do about a Sensor's problem, as a sentence; empty where its own sentence is all there is to say."""
    if not (body.get("status") or {}).get("conditions"):
        return _NOT_SEEN
    for kind, advice in _SENSOR_ADVICE.items():
        found = condition(body, kind)
        if found.get("reason") != HealthReason.NOT_REPORTED and found and found.get("status") != "True":
            return advice
    return (
        "" if condition(body, "Contested").get("status") != "True" else "Have one of the two change the object alone."
    )
