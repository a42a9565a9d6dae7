"""Changes of objects, whether a rule wants them, and the events that they become. Pure functions of values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from attune_kit.cel.library import EvaluationError
from attune_kubernetes.objects import ObjectSnapshot
from attune_kubernetes.parameters import ChangeKind, Content, Selection
from attune_sensor import EventReport, Rule, event_id

#: A larger object is carried as its metadata. The API takes about a MiB, together with other events.
LARGEST_OBJECT: Final = 256 * 1024
#: The API takes payloads of 32 levels; what is around the object has one.
_DEEPEST: Final = 31
_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "ownerReferences",
)


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        kind: what happened.
        current: the object, or how it was last.
        old: what it was before; None when it is new, or when that is not known any more.
        certain: whether ``old`` is what it was; not when the change was found by comparing times or versions.
        lost: whether the object's end was found only by its absence.
        perhaps_new: whether the object may have been made unnoticed, although it is taken as one that was known.
    """

    kind: ChangeKind
    current: ObjectSnapshot
    old: ObjectSnapshot | None = None
    certain: bool = True
    lost: bool = False
    perhaps_new: bool = False

    @property
    def occurrence(self) -> str:
        """What tells this change from all others: an object has each version once, whatever led to it."""
        name = f"{self.current.uid}/{self.current.version}"
        return f"{name}/gone" if self.lost else name


def found_late(current: ObjectSnapshot, *, after: float, last_reported: float) -> Change | None:
    """What to tell of an object that may have changed while nobody watched, by the times in it; None when it did not.

    An object that was made at about the time of the last event was most likely told of. If it has not changed since, the event
    is the same one again, which is known by its id; else it is a change.

    Args:
        current: the object, as it is now.
        after: all changes until then were reported (seconds since 1970).
        last_reported: time of the last reported change; those between ``after`` and then may have been reported or not.
    """
    if current.changed_at <= after:
        return None
    if current.created_at > last_reported or (current.created_at > after and current.changed_at == current.created_at):
        return Change(ChangeKind.ADDED, current, certain=False)
    return Change(ChangeKind.MODIFIED, current, certain=False, perhaps_new=current.created_at > after)


def as_requested(selection: Selection, change: Change) -> Change:
    """The change as a rule can hear of it: an uncertain change gets the name that the rule asks for, and is not withheld."""
    if change.certain or change.kind in selection.changes:
        return change
    if change.kind is ChangeKind.ADDED and change.current.changed_at > change.current.created_at:
        return Change(
            ChangeKind.MODIFIED, change.current, certain=False
        )  # it was made, and changed, while nobody watched
    if change.kind is ChangeKind.MODIFIED and change.perhaps_new:
        return Change(ChangeKind.ADDED, change.current, certain=False)
    return change


def values_of(selection: Selection, change: Change) -> dict[str, bytes]:
    """What expressions read, as JSON."""
    return {
        "object": _with_kind(selection, change.current.raw),
        "oldObject": b"null" if change.old is None else _with_kind(selection, change.old.raw),
    }


def _with_kind(selection: Selection, raw: bytes) -> bytes:
    """Lists leave out what all of their items share."""
    head = msgspec.json.encode({"apiVersion": selection.api_version, "kind": selection.kind})
    return head[:-1] + b"," + raw[1:] if len(raw) > 2 else head


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule's expressions say of a change.

    Attributes:
        wanted: whether the rule wants to hear of it.
        failure: why its filter could not say so; None when it could.
        fields: the values of its fields; None for those that have none.
    """

    wanted: bool
    failure: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


def verdict_of(selection: Selection, change: Change, results: Sequence[Any] | EvaluationError) -> Verdict:
    """Judge a change by the results of :attr:`Selection.program`, or by why there are none.

    A filter that fails says no. There is one exception: a filter that reads ``oldObject`` where a change was found by comparing
    times or versions, so that the old state is not known. Then the change is reported rather than lost.
    """
    if isinstance(results, EvaluationError):
        results = [results] * len(selection.program.expressions)
    values = list(results)
    if selection.condition is not None:
        found = values.pop(0)
        if isinstance(found, EvaluationError):
            wanted = not change.certain and selection.mentions_old
            return Verdict(wanted, str(found), _fields(selection, values) if wanted else {})
        if not found:
            return Verdict(wanted=False)
    return Verdict(wanted=True, fields=_fields(selection, values))


def _fields(selection: Selection, values: Sequence[Any]) -> dict[str, Any]:
    """Each field's value; null where there is none, or where it is too large."""
    found: dict[str, Any] = {}
    left = LARGEST_OBJECT
    for name, value in zip(selection.fields, values, strict=True):
        body = b"null" if isinstance(value, EvaluationError) else msgspec.json.encode(value)
        fits = len(body) <= left and fits_in_payload(body)
        found[name] = msgspec.Raw(body) if fits else None
        left -= len(body) if fits else 0
    return found


def event_of(
    rule: Rule, selection: Selection, change: Change, *, observed_at: datetime, fields: Mapping[str, Any] | None = None
) -> EventReport:
    """The event. It occurred when the API server says that the object changed, to the second; a deletion when it was seen."""
    state = rule.state
    current = change.current.read()
    occurred_at = observed_at
    if change.kind is not ChangeKind.DELETED and change.current.changed_at:
        occurred_at = datetime.fromtimestamp(change.current.changed_at, UTC)
    payload: dict[str, Any] = {
        "change": change.kind,
        "apiVersion": selection.api_version,
        "kind": selection.kind,
        "namespace": current["metadata"].get("namespace", ""),
        "name": current["metadata"]["name"],
        "resourceVersion": str(change.current.version),
        "observedAt": observed_at.isoformat().replace("+00:00", "Z"),
        "rule": rule.ref,
    }
    if selection.fields:
        payload["fields"] = dict(fields or {})
    elif selection.content is Content.OBJECT and fits_in_payload(change.current.raw):
        # Lists leave out what all of their items share.
        payload["object"] = {"apiVersion": selection.api_version, "kind": selection.kind, **current}
    else:
        if selection.content is Content.OBJECT:
            payload["truncated"] = True
        payload["metadata"] = {name: current["metadata"][name] for name in _METADATA if name in current["metadata"]}
    return EventReport(
        id=event_id(state.uid, change.occurrence),
        trigger_type=state.trigger_type,
        rule_uid=state.uid,
        rule_namespace=state.namespace,
        rule_name=state.name,
        occurred_at=occurred_at,
        payload=payload,
    )


def fits_in_payload(raw: bytes) -> bool:
    """Whether this JSON can be part of a payload: not too large, not too deep, and without NUL, which PostgreSQL cannot store."""
    if len(raw) > LARGEST_OBJECT or b"\\u0000" in raw:
        return False
    if raw.count(b"{") + raw.count(b"[") <= _DEEPEST:
        return True
    level = [msgspec.json.decode(raw)]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return True
    return False
