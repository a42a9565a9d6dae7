"""Changes of objects, the verdict of a rule's filter, and the resulting events. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from attune_kit.cel.library import EvaluationError
from attune_kubernetes.objects import ObjectSnapshot
from attune_kubernetes.parameters import ChangeKind, Content, Selection
from attune_sensor import EventReport, Rule, event_id

#: Of a larger object (bytes), an event has only the metadata. The API takes about 1 MiB per request.
LARGEST_OBJECT: Final = 256 * 1024
#: The API takes payloads of 32 levels, and the object is one level below the payload.
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
        current: the object; of a deleted one, its last known state.
        old: its state before; None when it is new, or when that state is unknown.
        certain: whether ``old`` is reliable. It is not when the change was found by comparing times or versions.
        lost: whether the deletion was noticed only because the object was missing from a list.
        perhaps_new: whether the object may be new, although the change is classified as a modification.
    """

    kind: ChangeKind
    current: ObjectSnapshot
    old: ObjectSnapshot | None = None
    certain: bool = True
    lost: bool = False
    perhaps_new: bool = False

    @property
    def occurrence(self) -> str:
        """The change's name, unique because an object has each version once."""
        name = f"{self.current.uid}/{self.current.version}"
        return f"{name}/gone" if self.lost else name


def found_late(current: ObjectSnapshot, *, after: float, last_reported: float) -> Change | None:
    """The change of an object that may have changed while no sensor watched, judged by its times; None if it did not.

    An object created at about the time of the last event was most likely reported. If it has not changed since, this gives the
    same event again, with the same id; otherwise it is a modification.

    Args:
        current: the object, as it is now.
        after: all changes up to this time were reported (seconds since 1970).
        last_reported: time of the last reported change. Changes between ``after`` and this may or may not have been reported.
    """
    if current.changed_at <= after:
        return None
    if current.created_at > last_reported or (current.created_at > after and current.changed_at == current.created_at):
        return Change(ChangeKind.ADDED, current, certain=False)
    return Change(ChangeKind.MODIFIED, current, certain=False, perhaps_new=current.created_at > after)


def as_requested(selection: Selection, change: Change) -> Change:
    """The change in a form that the rule selects, if it is uncertain which form is right, so that it is not withheld."""
    if change.certain or change.kind in selection.changes:
        return change
    if change.kind is ChangeKind.ADDED and change.current.changed_at > change.current.created_at:
        return Change(ChangeKind.MODIFIED, change.current, certain=False)  # created and changed while no sensor watched
    if change.kind is ChangeKind.MODIFIED and change.perhaps_new:
        return Change(ChangeKind.ADDED, change.current, certain=False)
    return change


def values_of(selection: Selection, change: Change) -> dict[str, bytes]:
    """The variables of expressions, as JSON."""
    return {
        "object": _with_kind(selection, change.current.raw),
        "oldObject": b"null" if change.old is None else _with_kind(selection, change.old.raw),
    }


def _with_kind(selection: Selection, raw: bytes) -> bytes:
    """Add apiVersion and kind, which items of lists do not have."""
    head = msgspec.json.encode({"apiVersion": selection.api_version, "kind": selection.kind})
    return head[:-1] + b"," + raw[1:] if len(raw) > 2 else head


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a rule's expressions for a change.

    Attributes:
        wanted: whether the filter selects it.
        failure: why the filter could not be evaluated; None when it was.
        fields: the values of the rule's fields; None for a field without a value.
    """

    wanted: bool
    failure: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


def verdict_of(selection: Selection, change: Change, results: Sequence[Any] | EvaluationError) -> Verdict:
    """The verdict from the results of :attr:`Selection.program`, or from the error of its evaluation.

    A filter that fails does not select the change, with one exception: a filter that reads ``oldObject``, when the old state is
    unknown because the change was found by comparing times or versions. Then the change is reported rather than lost.
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
    """The value of each field; null for one without a value, or with a value that is too large."""
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
    """The event. Its time is that of the change by the API server, in whole seconds; of a deletion, when it was noticed."""
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
        # Items of lists have neither.
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
    """Whether this JSON fits in a payload: not too large or too deep, and without NUL, which PostgreSQL cannot store."""
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
