"""Events as sensors report them and as they are named (design, "Timers" and "The API")."""

import uuid
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, Final

import msgspec

#: Namespace of event ids (RFC 9562, UUIDv5). Fixed for ever: changing it would make old occurrences new events.
EVENT_NAMESPACE: Final = uuid.UUID("5a1c8f0e-6d0b-5d57-9c5e-1f7a3b8f2d10")

_NAMESPACE_BYTES: Final = EVENT_NAMESPACE.bytes
#: Version 5 and the variant (RFC 9562, sections 4.1, 4.2 and 5.5), and the bits that are left to the hash.
_UUID5_BITS: Final = (5 << 76) | (0b10 << 62)
_UUID5_MASK: Final = ((1 << 128) - 1) & ~((0xF << 76) | (0b11 << 62))

#: Largest batch that ``POST /api/v1/events/batch`` takes.
MAX_BATCH_EVENTS: Final = 1000
MAX_BODY_BYTES: Final = 1024 * 1024


def event_id(rule_uid: str, occurrence: str) -> uuid.UUID:
    """The id of one occurrence of a rule: UUIDv5 of ``<rule uid>/<occurrence>``.

    The same occurrence reported twice, by two replicas or after a lost answer, has the same id and is one event.

    Args:
        rule_uid: the Rule's ``metadata.uid``.
        occurrence: what tells this occurrence from others of the rule; a timer's is :func:`scheduled`.
    """
    # What uuid.uuid5 does, in a third of its time: a sensor names thousands of events in a second.
    digest = sha1(_NAMESPACE_BYTES + f"{rule_uid}/{occurrence}".encode(), usedforsecurity=False).digest()
    return uuid.UUID(int=int.from_bytes(digest[:16], "big") & _UUID5_MASK | _UUID5_BITS)


def scheduled(time: datetime) -> str:
    """A scheduled time as the occurrence's name: UTC, microseconds, ``Z`` (``2026-11-23T12:00:00.000000Z``)."""
    # isoformat, since strftime takes ten times as long.
    return f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


class EventReport(msgspec.Struct, frozen=True, kw_only=True):
    """One event as a sensor posts it. ``occurred_at`` has a zone; ``id`` is made by :func:`event_id`."""

    id: uuid.UUID
    trigger_type: str
    rule_uid: str
    rule_namespace: str
    rule_name: str
    occurred_at: datetime
    payload: dict[str, Any]
