"""What happened to an object, whether a rule wants to hear of it, and the event that it becomes. Pure functions of values."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from attune_kubernetes.expressions import Failed
from attune_kubernetes.objects import Kept, Object
from attune_kubernetes.parameters import Change, Content, Interest
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
class News:
    """One change.

    Attributes:
        change: what happened.
        current: the object, or how it was last.
        old: what it was before; None when it is new, or when that is not known any more.
        certain: whether ``old`` is what it was; not when the change was found by comparing times or versions.
        lost: whether the object's end was found only by its absence.
        perhaps_new: whether the object may have been made unnoticed, although it is taken as one that was known.
    """

    change: Change
    current: Kept
    old: Kept | None = None
    certain: bool = True
    lost: bool = False
    perhaps_new: bool = False

    @property
    def occurrence(self) -> str:
        """What tells this change from all others: an object has each version once, whatever led to it."""
        name = f"{self.current.uid}/{self.current.version}"
        return f"{name}/gone" if self.lost else name


def found_late(current: Kept, *, after: float, told: float) -> News | None:
    """What to tell of an object that may have changed while nobody watched, by the times in it; None when it did not.

    An object that was made at about the time of the last event was most likely told of. If it has not changed since, the event
    is the same one again, which is known by its id; else it is a change.

    Args:
        current: the object, as it is now.
        after: changes until then were told of for certain (seconds since 1970).
        told: when the last change was that was told of; those between ``after`` and then may have been told of or not.
    """
    if current.changed_at <= after:
        return None
    if current.created_at > told or (current.created_at > after and current.changed_at == current.created_at):
        return News(Change.ADDED, current, certain=False)
    return News(Change.MODIFIED, current, certain=False, perhaps_new=current.created_at > after)


def fitting(interest: Interest, news: News) -> News:
    """The change as a rule can hear of it: what is not certain is told by the name that the rule asks for, not kept from it."""
    if news.certain or news.change in interest.changes:
        return news
    if news.change is Change.ADDED and news.current.changed_at > news.current.created_at:
        return News(Change.MODIFIED, news.current, certain=False)  # it was made, and changed, while nobody watched
    if news.change is Change.MODIFIED and news.perhaps_new:
        return News(Change.ADDED, news.current, certain=False)
    return news


def wanted(interest: Interest, news: News) -> tuple[bool, str | None]:
    """Whether a rule wants to hear of it, and why its filter could not say so.

    A filter that fails says no, but for one that asks for ``oldObject`` where that is not known: then the change is reported
    rather than lost.
    """
    if news.change not in interest.changes:
        return False, None
    if interest.condition is None:
        return True, None
    try:
        old = None if news.old is None else news.old.read()
        return interest.condition.evaluate(news.current.read(), old) is True, None
    except Failed as failed:
        return not news.certain and interest.condition.mentions_old, str(failed)


def event_of(rule: Rule, interest: Interest, news: News, *, observed_at: datetime) -> EventReport:
    """The event. It occurred when the API server says that the object changed, to the second; a deletion when it was seen."""
    state = rule.state
    current = news.current.read()
    occurred_at = observed_at
    if news.change is not Change.DELETED and news.current.changed_at:
        occurred_at = datetime.fromtimestamp(news.current.changed_at, UTC)
    payload: dict[str, Any] = {
        "change": news.change,
        "apiVersion": interest.api_version,
        "kind": interest.kind,
        "namespace": current["metadata"].get("namespace", ""),
        "name": current["metadata"]["name"],
        "resourceVersion": str(news.current.version),
        "observedAt": observed_at.isoformat().replace("+00:00", "Z"),
        "rule": rule.ref,
    }
    if interest.fields:
        payload["fields"] = _fields(interest, news, current)
    elif interest.content is Content.OBJECT and carriable(news.current.raw):
        # Lists leave out what all of their items share.
        payload["object"] = {"apiVersion": interest.api_version, "kind": interest.kind, **current}
    else:
        if interest.content is Content.OBJECT:
            payload["truncated"] = True
        payload["metadata"] = {name: current["metadata"][name] for name in _METADATA if name in current["metadata"]}
    return EventReport(
        id=event_id(state.uid, news.occurrence),
        trigger_type=state.trigger_type,
        rule_uid=state.uid,
        rule_namespace=state.namespace,
        rule_name=state.name,
        occurred_at=occurred_at,
        payload=payload,
    )


def _fields(interest: Interest, news: News, current: Object) -> dict[str, Any]:
    """Each field's value; null where there is none, or where it is too large."""
    old = None if news.old is None else news.old.read()
    found: dict[str, Any] = {}
    left = LARGEST_OBJECT
    for name, expression in interest.fields.items():
        try:
            value = expression.evaluate(current, old)
            body = msgspec.json.encode(value)
        except (Failed, TypeError, ValueError):
            body = b"null"
        fits = len(body) <= left and carriable(body)
        found[name] = msgspec.Raw(body) if fits else None
        left -= len(body) if fits else 0
    return found


def carriable(raw: bytes) -> bool:
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
