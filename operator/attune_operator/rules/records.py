"""Rules, Sensors and namespaces, reduced to the fields that decisions need.

There may be 100,000 Rules, so whole objects are not kept: repeated strings are interned, parameters stay the JSON that is
sent, and records are immutable, so that "did anything change" is a comparison.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from attune_contract.identity import SensorRef
from attune_operator.resources.canonical import canonical_json

#: ``RuleRecord.actions`` of a Rule that has none of it.
NO_ACTIONS: Final = b"{}"
#: The fields of a Rule's spec that only actions need.
_ABOUT_ACTIONS: Final = ("data", "when", "serviceAccountName", "order", "actions")
#: ``kubectl apply`` keeps a copy of the whole object in it.
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


class InvalidObjectError(ValueError):
    """A Kubernetes object that does not match its CustomResourceDefinition."""


class ConditionRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A condition (``attune_contract.resources.Condition``)."""

    status: str
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int


class RunCounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How a Rule's runs have ended as far as they are kept, and when the last one changed (as Kubernetes writes times).

    ``failing`` says of the last run that is final and was not skipped, when it has failed, why: reason and sentence.
    """

    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    waiting: int = 0
    last_run_time: str | None = None
    failing: tuple[str, str] | None = None


class StatusRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A Rule's status: the present or the desired one."""

    observed_generation: int | None = None
    sensor: str | None = None
    accepted: ConditionRecord | None = None
    active: ConditionRecord | None = None
    actions: ConditionRecord | None = None
    ready: ConditionRecord | None = None
    stalled: ConditionRecord | None = None


_NO_STATUS: Final = StatusRecord()


class RuleRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A Rule's identity and spec. ``parameters`` is canonical JSON; ``changed_by`` is the spec's last field manager.

    ``actions`` is canonical JSON of what only the runner of actions needs: labels, annotations, and the fields of the spec that
    are about actions. ``acts`` says whether there are actions, or a condition on them; ``in_order``, whether its events wait for
    each other.
    """

    uid: str
    namespace: str
    name: str
    generation: int
    enabled: bool
    trigger_type: str
    parameters: bytes
    created_at: datetime
    changed_by: str = ""
    changed_at: str = ""
    actions: bytes = NO_ACTIONS
    acts: bool = False
    in_order: bool = False


class ObservedRule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A Rule as it was seen once: record, status, its ``lastEventTime`` and ``nextTime``, and resourceVersion."""

    rule: RuleRecord
    status: StatusRecord
    last_event_time: str | None = None
    next_time: str | None = None
    version: str = ""


class TriggerDeclaration(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger type that a Sensor declares. ``schema`` is canonical JSON, empty if there is none."""

    name: str
    aliases: tuple[str, ...]
    schema: bytes


class NamespacePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Which namespaces' Rules a Sensor admits. ``selector`` is canonical JSON of a label selector."""

    source: str
    selector: bytes = b""


class SensorRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a Sensor that bindings depend on."""

    ref: SensorRef
    uid: str
    created_at: datetime
    paused: bool
    triggers: tuple[TriggerDeclaration, ...]
    namespaces: NamespacePolicy
    process_per_rule: bool = False

    def declaration(self, trigger_type: str) -> TriggerDeclaration | None:
        """Return the declaration of the trigger type with this name or alias."""
        for declared in self.triggers:
            if trigger_type == declared.name or trigger_type in declared.aliases:
                return declared
        return None

    @property
    def offered(self) -> frozenset[str]:
        """Every name and alias of this Sensor's trigger types."""
        return frozenset(name for declared in self.triggers for name in (declared.name, *declared.aliases))


class NamespaceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace's labels, which selectors match."""

    name: str
    uid: str
    labels: dict[str, str]


def is_deleting(body: Mapping[str, Any]) -> bool:
    """Whether the object only waits for its finalizers."""
    return bool(body.get("metadata", {}).get("deletionTimestamp"))


def object_uid(body: Mapping[str, Any]) -> str:
    """``metadata.uid``, or an empty string."""
    return str(body.get("metadata", {}).get("uid") or "")


def parse_rule(body: Mapping[str, Any]) -> ObservedRule:
    """Read a Rule.

    Raises:
        InvalidObjectError: a field is missing or has another type.
    """
    try:
        metadata, spec, status = body["metadata"], body["spec"], body.get("status") or {}
        trigger = spec["trigger"]
        changed_by, changed_at = _last_change_of_spec(metadata)
        parameters = trigger.get("parameters") or {}
        if not isinstance(parameters, Mapping):
            raise TypeError("spec.trigger.parameters is not an object")
        rule = RuleRecord(
            uid=_text(metadata["uid"]),
            namespace=sys.intern(_text(metadata["namespace"])),
            name=_text(metadata["name"]),
            generation=int(metadata.get("generation", 0)),
            enabled=bool(spec.get("enabled", True)),
            trigger_type=sys.intern(_text(trigger["type"])),
            parameters=canonical_json(parameters),
            created_at=_time(metadata.get("creationTimestamp")),
            changed_by=sys.intern(changed_by),
            changed_at=changed_at,
            actions=_actions(metadata, spec),
            acts=bool(spec.get("actions") or spec.get("when")),
            in_order=spec.get("order") == "Strict",
        )
        return ObservedRule(
            rule=rule,
            status=_status(status),
            last_event_time=status.get("lastEventTime"),
            next_time=status.get("nextTime"),
            version=str(metadata.get("resourceVersion") or ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidObjectError(f"not a Rule: {type(error).__name__}: {error}") from error


def parse_sensor(body: Mapping[str, Any]) -> SensorRecord:
    """Read a Sensor.

    Raises:
        InvalidObjectError: a field is missing or has another type.
    """
    try:
        metadata, spec = body["metadata"], body["spec"]
        policy = (spec.get("rules") or {}).get("namespaces") or {}
        source = _text(policy.get("from", "Same"))
        return SensorRecord(
            ref=SensorRef(sys.intern(_text(metadata["namespace"])), sys.intern(_text(metadata["name"]))),
            uid=_text(metadata["uid"]),
            created_at=_time(metadata.get("creationTimestamp")),
            paused=bool(spec.get("paused", False)),
            triggers=tuple(_declaration(declared) for declared in spec["triggerTypes"]),
            process_per_rule=spec.get("runner") == "Stdio"
            and (spec.get("stdio") or {}).get("mode", "perRule") == "perRule",
            namespaces=NamespacePolicy(
                source=source,
                selector=canonical_json(policy.get("selector") or {}) if source == "Selector" else b"",
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidObjectError(f"not a Sensor: {type(error).__name__}: {error}") from error


def parse_namespace(body: Mapping[str, Any]) -> NamespaceRecord:
    """Read a namespace.

    Raises:
        InvalidObjectError: it has no name.
    """
    try:
        metadata = body["metadata"]
        labels = metadata.get("labels") or {}
        return NamespaceRecord(
            name=_text(metadata["name"]),
            uid=object_uid(body),
            labels={sys.intern(str(key)): sys.intern(str(labels[key])) for key in labels},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidObjectError(f"not a Namespace: {type(error).__name__}: {error}") from error


def _declaration(declared: Mapping[str, Any]) -> TriggerDeclaration:
    schema = declared.get("parametersSchema")
    return TriggerDeclaration(
        name=sys.intern(_text(declared["name"])),
        aliases=tuple(sys.intern(_text(alias)) for alias in declared.get("aliases") or ()),
        schema=b"" if schema is None else canonical_json(schema),
    )


def _status(status: Mapping[str, Any]) -> StatusRecord:
    if not status:
        return _NO_STATUS
    conditions = {condition.get("type"): condition for condition in status.get("conditions") or ()}
    return StatusRecord(
        observed_generation=status.get("observedGeneration"),
        sensor=None if status.get("sensor") is None else sys.intern(str(status["sensor"])),
        accepted=_condition(conditions.get("Accepted")),
        active=_condition(conditions.get("Active")),
        actions=_condition(conditions.get("ActionsHealthy")),
        ready=_condition(conditions.get("Ready")),
        stalled=_condition(conditions.get("Stalled")),
    )


def _condition(condition: Mapping[str, Any] | None) -> ConditionRecord | None:
    if condition is None:
        return None
    return ConditionRecord(
        status=sys.intern(str(condition.get("status", "Unknown"))),
        reason=sys.intern(str(condition.get("reason", ""))),
        message=sys.intern(str(condition.get("message", ""))),
        last_transition_time=str(condition.get("lastTransitionTime", "")),
        observed_generation=int(condition.get("observedGeneration") or 0),
    )


def _actions(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> bytes:
    found = {key: spec[key] for key in _ABOUT_ACTIONS if spec.get(key)}
    if found.get("order") == "Concurrent":
        del found["order"]
    if labels := metadata.get("labels"):
        found["labels"] = labels
    if annotations := metadata.get("annotations"):
        kept = {key: value for key, value in annotations.items() if key != _LAST_APPLIED}
        if kept:
            found["annotations"] = kept
    return canonical_json(found) if found else NO_ACTIONS


def _last_change_of_spec(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Return who last changed the spec, and when, as far as ``managedFields`` says (Kubernetes, server-side apply).

    Times there are whole seconds. Of several changes in one second, the one that owns least was the last: who creates an object
    owns all of it, and a later change takes some fields over.
    """
    changes = [
        entry
        for entry in metadata.get("managedFields") or ()
        if not entry.get("subresource") and "f:spec" in (entry.get("fieldsV1") or ())
    ]
    if not changes:
        return "", ""
    newest = max(str(entry.get("time") or "") for entry in changes)
    if len(changes) > 1:
        changes = [entry for entry in changes if str(entry.get("time") or "") == newest]
    # Sizes are added up only where changes share a second: it takes as long as to read the rest of the Rule.
    last = changes[0] if len(changes) == 1 else max(changes, key=_order)
    return str(last.get("manager") or ""), newest


def _order(entry: Mapping[str, Any]) -> tuple[int, str]:
    return -_size(entry["fieldsV1"]["f:spec"]), str(entry.get("manager") or "")


def _size(fields: Any) -> int:
    """How many fields stand in a part of ``fieldsV1``."""
    return sum(1 + _size(below) for below in fields.values()) if isinstance(fields, Mapping) else 0


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is not a name")
    return value


def _time(value: Any) -> datetime:
    """Read a time of Kubernetes; the epoch if there is none, so that the object counts as the oldest."""
    if value is None:
        return datetime.fromtimestamp(0, UTC)
    return value if isinstance(value, datetime) else parse_time(str(value))


def parse_time(text: str) -> datetime:
    """Read a time (RFC 3339); one without a zone counts as UTC.

    Raises:
        ValueError: it is not a time.
    """
    time = datetime.fromisoformat(text)
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
