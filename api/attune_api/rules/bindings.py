"""Whether a sensor may report an event for a rule: only if it serves that rule, or did when the event occurred.

Decided from what is known of the *binding* between the two, which can end (the rule was deleted, or moved to another sensor)
while events that occurred before are still in the sensor's spool.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from attune_contract.identity import SensorRef
from attune_contract.messages import HISTORY_SENSOR, RuleEventType, RuleHead

#: Seconds after the end of a binding for which events are still taken: clocks differ, and the sensor hears of it a little later.
GRACE: Final = 60.0


class Binding(msgspec.Struct, frozen=True, gc=False):
    """That a sensor serves, or served, a rule. ``ended_at`` is in seconds since the epoch; None while it is not known to
    have ended. Namespace and name are the rule's; empty where that is not known.
    """

    namespace: str
    name: str
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an event may not be reported, and would not be later either. ``kind`` is the problem's name."""

    kind: str
    reason: str


def judge(binding: Binding, *, namespace: str, name: str, uid: str, occurred_at: datetime) -> Refused | None:
    """Whether an event goes with a binding; None when it does.

    Readers' rights go by the rule's namespace, so an event that gives another one is refused.

    Args:
        binding: what is known of sensor and rule.
        namespace: the rule's, as the event has it.
        name: the rule's, as the event has it.
        uid: the rule's.
        occurred_at: the event's time.
    """
    if (binding.name != name or binding.namespace != namespace) and binding.name:
        return Refused(
            "rule-mismatch",
            f"The rule {uid} is {binding.namespace}/{binding.name}, and the event says {namespace}/{name}.",
        )
    if binding.ended_at is not None and occurred_at.timestamp() > binding.ended_at + GRACE:
        return Refused(
            "rule-ended", f"The sensor no longer serves the rule {namespace}/{name} ({uid}): it ended before."
        )
    return None


def not_bound(*, uid: str, sensor: SensorRef) -> Refused:
    """The refusal of an event for a rule that this sensor never served."""
    return Refused("rule-not-bound", f"The rule {uid} is not bound to the sensor {sensor}, and was not before.")


def judge_outside(*, sensor: SensorRef, bound_to: SensorRef | None, namespace: str, uid: str) -> Refused | None:
    """Whether an event of a sensor that is no resource in the cluster, and so serves no rule, may be reported.

    It may speak for its own namespace, since that is where the right to make its token was given, and not for rules that
    a sensor of the cluster serves.
    """
    if bound_to is not None:
        return Refused("rule-not-bound", f"The rule {uid} is bound to the sensor {bound_to}, not to {sensor}.")
    if namespace != sensor.namespace:
        return Refused(
            "namespace-not-allowed",
            f"{sensor} is not a Sensor in the cluster, so it may report for rules in the namespace {sensor.namespace} only.",
        )
    return None


class PastEntry(msgspec.Struct, frozen=True):
    """An entry of a rule's history: its state then, and its headers."""

    state: RuleHead
    headers: Mapping[str, str]


def binding_in_history(entry: PastEntry, *, sensor_key: str) -> Binding | None:
    """What an entry says of a sensor's binding; None when it is about another sensor.

    Args:
        entry: of the rule's history.
        sensor_key: which sensor (:attr:`SensorRef.token`).
    """
    if entry.headers.get(HISTORY_SENSOR) != sensor_key:
        return None
    ended_at = None
    if entry.headers.get("ce-type") == RuleEventType.DELETED:
        try:
            ended_at = datetime.fromisoformat(entry.headers.get("ce-time", "")).timestamp()
        except ValueError:
            ended_at = None
    return Binding(entry.state.namespace, entry.state.name, ended_at)
