"""Which one Sensor serves a Rule (docs/architecture.md, "A Rule's way").

Among the Sensors that declare the trigger type, or have it as an alias, admit the Rule's namespace and may serve it, one in
the Rule's own namespace wins, then one in a trusted namespace, then the oldest, then the first by its ref. So there is always
exactly one answer. A Sensor in a namespace where this installation runs none serves no Rule (docs/rbac.md, "Least rights").

Whether a Sensor of another namespace *may* serve a Rule is not for its author to say: it sees the Rule's parameters and reports
events into its namespace. It may if an administrator trusts the Sensor's namespace, or if the Rule's namespace has the label
``sensors.attune.dev/<namespace of the Sensor>: allowed`` (docs/tenancy.md).
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from attune_contract.names import SENSORS_ALLOWED, sensors_label
from attune_operator.rules import selectors
from attune_operator.rules.records import SensorRecord, TriggerDeclaration

#: Label that Kubernetes sets on every namespace; known even before the namespace was seen.
_NAME_LABEL: Final = "kubernetes.io/metadata.name"
_NAMED_IN_MESSAGES: Final = 3


@dataclass(frozen=True, slots=True)
class Bound:
    """The Sensor that serves the Rule, and its declaration of the trigger type."""

    sensor: SensorRecord
    trigger: TriggerDeclaration


@dataclass(frozen=True, slots=True)
class UnknownTriggerType:
    """No Sensor offers the trigger type."""

    message: str


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """Sensors offer the trigger type, but none runs and admits the Rule's namespace."""

    message: str


Binding = Bound | UnknownTriggerType | NotAllowed


def seniority(sensor: SensorRecord) -> tuple[float, str, str]:
    """Sort key of Sensors: age, then ref."""
    return (sensor.created_at.timestamp(), sensor.ref.namespace, sensor.ref.name)


def bind(
    *,
    namespace: str,
    trigger_type: str,
    candidates: Iterable[SensorRecord],
    labels: Mapping[str, str] | None,
    known_types: frozenset[str],
    trusted: frozenset[str] | None = None,
    run_in: Collection[str] = (),
) -> Binding:
    """Decide which Sensor serves a Rule.

    Args:
        namespace: the Rule's namespace.
        trigger_type: the trigger type that the Rule names, possibly an alias.
        candidates: the Sensors that offer the trigger type, by any name.
        labels: the labels of the Rule's namespace; None while they are not known.
        known_types: every trigger type and alias that some Sensor offers, for a hint if there is no candidate.
        trusted: the namespaces whose Sensors may serve Rules of all others; None: all are.
        run_in: the namespaces where Sensors run; empty means all.
    """
    offering = sorted(candidates, key=lambda sensor: (not _is_trusted(sensor, trusted), *seniority(sensor)))
    if not offering:
        return UnknownTriggerType(_unknown(trigger_type, known_types))
    running = [sensor for sensor in offering if not run_in or sensor.ref.namespace in run_in]
    if not running:
        return NotAllowed(_not_run(trigger_type, offering, run_in))
    offering = running
    known_labels = {_NAME_LABEL: namespace, **(labels or {})}
    admitting = [sensor for sensor in offering if admits(sensor, namespace=namespace, labels=known_labels)]
    if not admitting:
        return NotAllowed(_not_allowed(trigger_type, namespace, offering))
    granted = [sensor for sensor in admitting if _may_serve(sensor, namespace, known_labels, trusted)]
    if not granted:
        return NotAllowed(_not_granted(trigger_type, namespace, admitting[0]))
    admitting = granted
    chosen = next((sensor for sensor in admitting if sensor.ref.namespace == namespace), admitting[0])
    declaration = chosen.declaration(trigger_type)
    if declaration is None:
        raise ValueError(f"the candidate {chosen.ref} does not offer {trigger_type}")
    return Bound(chosen, declaration)


def admits(sensor: SensorRecord, *, namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether the Sensor admits Rules of the namespace. An invalid selector admits none."""
    match sensor.namespaces.source:
        case "All":
            return True
        case "Selector":
            try:
                return selectors.matches(sensor.namespaces.selector, labels)
            except selectors.InvalidSelectorError:
                return False
        case _:
            return sensor.ref.namespace == namespace


def _is_trusted(sensor: SensorRecord, trusted: frozenset[str] | None) -> bool:
    return trusted is None or sensor.ref.namespace in trusted


def _may_serve(sensor: SensorRecord, namespace: str, labels: Mapping[str, str], trusted: frozenset[str] | None) -> bool:
    if sensor.ref.namespace == namespace or _is_trusted(sensor, trusted):
        return True
    return labels.get(sensors_label(sensor.ref.namespace)) == SENSORS_ALLOWED


@lru_cache(maxsize=1024)  # many Rules may name the same missing type
def _unknown(trigger_type: str, known_types: frozenset[str]) -> str:
    text = f"No Sensor offers the trigger type {trigger_type}."
    if close := difflib.get_close_matches(trigger_type, sorted(known_types), n=_NAMED_IN_MESSAGES, cutoff=0.6):
        text += f" Did you mean {' or '.join(close)}?"
    elif known_types:
        shown = sorted(known_types)[: 2 * _NAMED_IN_MESSAGES]
        text += f" Known types: {', '.join(shown)}{', …' if len(known_types) > len(shown) else ''}."
    return f"{text} `kubectl get sensors -A` lists the Sensors."


def _not_run(trigger_type: str, offering: list[SensorRecord], run_in: Collection[str]) -> str:
    shown = ", ".join(str(sensor.ref) for sensor in offering[:_NAMED_IN_MESSAGES])
    more = len(offering) - _NAMED_IN_MESSAGES
    return (
        f"No Sensor of {trigger_type} runs: this installation runs no Sensors in the namespace of {shown}"
        f"{f' and {more} more' if more > 0 else ''}. Create the Sensor in one of: {', '.join(sorted(run_in))}; or let an "
        f"administrator add {offering[0].ref.namespace} to the chart value sensorNamespaces (docs/rbac.md)."
    )


def _not_allowed(trigger_type: str, namespace: str, offering: list[SensorRecord]) -> str:
    shown = "; ".join(f"{sensor.ref} admits Rules {_admitted(sensor)}" for sensor in offering[:_NAMED_IN_MESSAGES])
    more = len(offering) - _NAMED_IN_MESSAGES
    return (
        f"No Sensor of {trigger_type} admits Rules from the namespace {namespace}: {shown}"
        f"{f'; and {more} more' if more > 0 else ''}. {_remedy(offering[0], namespace)}"
    )


def _not_granted(trigger_type: str, namespace: str, sensor: SensorRecord) -> str:
    return (
        f"The Sensor {sensor.ref} offers {trigger_type} to the namespace {namespace}, which has not allowed Sensors of "
        f"{sensor.ref.namespace}. If it should: kubectl label namespace {namespace} "
        f"{sensors_label(sensor.ref.namespace)}={SENSORS_ALLOWED}; or let an administrator add {sensor.ref.namespace} to the "
        "operator's trusted namespaces (docs/tenancy.md)."
    )


def _admitted(sensor: SensorRecord) -> str:
    if sensor.namespaces.source == "Selector":
        return f"from namespaces with {selectors.describe(sensor.namespaces.selector)} only"
    return f"from its own namespace {sensor.ref.namespace} only"


def _remedy(sensor: SensorRecord, namespace: str) -> str:
    if sensor.namespaces.source == "Selector":
        return f"Label the namespace {namespace} to match, or widen spec.rules.namespaces of the Sensor {sensor.ref}."
    return (
        f"Create the Rule in {sensor.ref.namespace}, or set spec.rules.namespaces.from of the Sensor {sensor.ref} to All "
        "or Selector."
    )
