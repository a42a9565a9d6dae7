"""From stored events to what is decided on, and from what happened to new events. Pure."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from attune_patterns.decide import Outcome, Seen
from attune_patterns.parameters import LONGEST_KEY, Listening
from attune_patterns.state import Mark
from attune_sensor import DERIVED_TRIGGER_TYPES, EventReport, Rule, StoredEvent, event_of

#: Derived and emitted events in a row. Those of a loop end there.
MOST_HOPS: Final = 8
#: Events that one event lists, and bytes of the payload of the last one that it carries.
MOST_LISTED: Final = 100
MOST_CARRIED: Final = 128 * 1024
_EMITTED: Final = "core.event"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class UnusableKeyError(ValueError):
    """A key cannot be used."""


class _Origin(msgspec.Struct):
    hops: int = 0


class _Payload(msgspec.Struct):
    pattern: _Origin = msgspec.field(default_factory=_Origin)
    emitted: _Origin = msgspec.field(default_factory=_Origin)


_PAYLOADS: Final = msgspec.json.Decoder(_Payload)
_ENCODER: Final = msgspec.json.Encoder()


def instant(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(instant: int) -> datetime:
    """The time, in UTC."""
    return _EPOCH + timedelta(microseconds=instant)


def text_of(instant: int) -> str:
    """RFC 3339, UTC, microseconds."""
    return f"{moment(instant).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def hops_behind(event: StoredEvent) -> int:
    """So many derived and emitted events in a row end with this one; 0 for those of other sensors."""
    if event.trigger_type not in DERIVED_TRIGGER_TYPES and event.trigger_type != _EMITTED:
        return 0
    try:
        found = _PAYLOADS.decode(event.payload)
    except msgspec.MsgspecError:  # of somebody else's Sensor that offers this trigger type
        return 0
    return max(0, found.emitted.hops if event.trigger_type == _EMITTED else found.pattern.hops)


def value_of(event: StoredEvent) -> bytes:
    """What expressions read as ``event``, as JSON."""
    return _ENCODER.encode(
        {
            "id": event.id,
            "type": event.trigger_type,
            "occurredAt": text_of(instant(event.occurred_at)),
            "payload": event.payload,
            "rule": {"namespace": event.rule_namespace, "name": event.rule_name, "uid": event.rule_uid},
            "sensor": event.sensor_ref,
        }
    )


def key_of(value: Any) -> str:
    """The key that an expression gave.

    Raises:
        UnusableKeyError: it cannot be one.
    """
    match value:
        case str():
            key = value
        case bool() | int() | float():
            key = _ENCODER.encode(value).decode()
        case _:
            raise UnusableKeyError("parameters.key gives no text and no number")
    if not key or len(key) > LONGEST_KEY:
        raise UnusableKeyError(f"parameters.key gives a text of {len(key)} characters; expected 1 to {LONGEST_KEY}")
    return key.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def seen_of(event: StoredEvent, listening: Listening, *, key: str, hops: int) -> Seen:
    """What is decided on. An event that is dated after it was stored is held to have occurred then."""
    received = instant(event.received_at)
    mark = Mark(
        at=min(instant(event.occurred_at), received),
        seq=event.seq,
        member=listening.names.index(event.rule_name),
        hops=hops,
        id=event.id.bytes,
    )
    return Seen(key=key, received=received, mark=mark)


def report_of(rule: Rule, listening: Listening, outcome: Outcome, *, last: StoredEvent | None) -> EventReport:
    """The event of something that happened.

    Args:
        rule: whose event it is.
        listening: what the rule listens to.
        outcome: what happened.
        last: the event that came last, if one made it happen.
    """
    fired = outcome.fired
    payload: dict[str, Any] = {"rule": rule.ref, "status": fired.status}
    if listening.key is not None:
        payload["key"] = outcome.key
    if listening.awaits:
        payload["last_heard"] = text_of(fired.marks[-1].at) if fired.marks else None
    else:
        payload["count"] = fired.count
    payload["events"] = [_listed(mark, listening.names) for mark in fired.marks[-MOST_LISTED:]]
    if last is not None and len(last.payload) <= MOST_CARRIED:
        payload["last"] = {"id": str(last.id), "rule": last.rule_name, "payload": msgspec.json.decode(last.payload)}
    hops = 1 + max((mark.hops for mark in fired.marks), default=0)
    payload["pattern"] = {"hops": hops}
    return event_of(rule, payload, occurrence=fired.occurrence, occurred_at=moment(fired.at))


def _listed(mark: Mark, names: Sequence[str]) -> dict[str, Any]:
    return {"id": str(uuid.UUID(bytes=mark.id)), "rule": names[mark.member], "occurred_at": text_of(mark.at)}
