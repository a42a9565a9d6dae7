"""Events as sensors report them and as they are named (docs/events.md)."""

import uuid
from datetime import UTC, datetime
from hashlib import sha1
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from attune_contract.names import TRIGGER_TYPE_PATTERN

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


# -- what an event consists of -------------------------------------------------------------------------------------------
#
# Each field is defined here and nowhere else: how it is read and written, what is allowed in it, and what OpenAPI shows of it.
# docs/contributing/add-an-event-field.md says what else a new one needs.

# Ends are \Z and not $, which in Python would let a line break pass.
_LABEL: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z"
_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"

_Id = Annotated[
    uuid.UUID,
    Meta(
        description="UUIDv5 of the rule's uid and the occurrence. The same rule and id is the same event.",
        examples=["0f3c2b54-8a83-5f0e-9a9b-0c7a3a4b7d11"],
    ),
]
_TriggerType = Annotated[
    str,
    Meta(
        max_length=253,
        pattern=TRIGGER_TYPE_PATTERN.removesuffix("$") + r"\Z",
        description="Canonical name of the trigger type; the token must allow it.",
        examples=["core.intervaltimer"],
    ),
]
# Uid and namespace become tokens of a NATS subject, so neither may hold a dot, a space or a wildcard.
_RuleUid = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=r"^[-_A-Za-z0-9]+\Z",
        description="The Rule's metadata.uid.",
        examples=["7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10"],
    ),
]
_RuleNamespace = Annotated[
    str, Meta(max_length=63, pattern=_LABEL, description="The Rule's namespace.", examples=["default"])
]
_RuleName = Annotated[
    str, Meta(max_length=253, pattern=_SUBDOMAIN, description="The Rule's name.", examples=["echo-every-second"])
]
#: A time as text (RFC 3339). Schemas say that it is one, so that generated clients read it as such.
TimeText = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
_SCHEDULED: Final = "2026-11-23T12:00:00.000000Z"


class EventReport(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One event as a sensor reports it."""

    id: _Id
    trigger_type: _TriggerType
    rule_uid: _RuleUid
    rule_namespace: _RuleNamespace
    rule_name: _RuleName
    occurred_at: Annotated[
        datetime,
        Meta(tz=True, description="When it occurred: RFC 3339, with a zone, from 1970 to 2199.", examples=[_SCHEDULED]),
    ]
    payload: Annotated[
        dict[str, Any],
        Meta(
            description="What there is to say about it; nested at most 32 deep, without NUL characters.",
            examples=[{"scheduled_at": _SCHEDULED}],
        ),
    ]
    # Without a pattern: a trace that is not valid is dropped, and its event is kept.
    traceparent: Annotated[
        str,
        Meta(
            description="The trace that the occurrence belongs to (W3C Trace Context); absent without one. "
            "What is not valid is ignored.",
            examples=["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
        ),
    ] = ""
    tracestate: Annotated[
        str,
        Meta(
            description="What tracing systems add to traceparent; at most 512 characters are kept.",
            examples=["congo=t61rcWkgMzE"],
        ),
    ] = ""


class Event(EventReport, frozen=True, kw_only=True, gc=False):
    """An event as it is stored and read: what was reported, and what the API adds to it.

    Times are text and the payload is JSON, since most of an event only passes through.
    """

    seq: Annotated[
        int,
        Meta(
            description="Its place in the order in which events were stored: a higher one was never visible before a lower one.",
            examples=[4711],
        ),
    ]
    sensor_ref: Annotated[
        str, Meta(description="The sensor that reported it, namespace/name.", examples=["attune-system/core.timer"])
    ]
    occurred_at: Annotated[  # type: ignore[assignment]
        TimeText, Meta(description="When it occurred: RFC 3339, UTC, microseconds.", examples=[_SCHEDULED])
    ]
    received_at: Annotated[
        TimeText, Meta(description="When the API received it.", examples=["2026-11-23T12:00:00.003141Z"])
    ]
    payload: Annotated[  # type: ignore[assignment]
        msgspec.Raw,
        Meta(
            description="What the sensor says about it.",
            examples=[{"scheduled_at": _SCHEDULED}],
            extra_json_schema={"type": "object"},
        ),
    ]
