"""Messages on the rule, ack and identity streams (docs/sensor-protocol.md, docs/credentials.md).

They are ``msgspec`` structs, because a sensor reads 100,000 of them in a second (docs/decisions/0001). Field names on the
wire are as written here. Readers ignore unknown fields, so fields can be added.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec


class RuleEventType(StrEnum):
    """What happened to a rule; the value is the CloudEvents type (header ``ce-type``)."""

    CREATED = "dev.attune.rule.created"
    ENABLED = "dev.attune.rule.enabled"
    UPDATED = "dev.attune.rule.updated"
    DISABLED = "dev.attune.rule.disabled"
    DELETED = "dev.attune.rule.deleted"


#: How the message of an active rule begins while a part is refused (docs/sensor-protocol.md, "When nothing gets
#: through"). Lists of problems look for it.
PARTLY_REFUSED: Final = "Not everything gets through"

#: In that message, and in what the API says of an event, when the rule's namespace may not report more at the moment
#: (docs/tenancy.md, "Quotas").
OVER_QUOTA: Final = "is over its quota"


#: The message of Active when all is well ends with this; what follows is the sensor's remark.
PLAIN_ACTIVE: Final = " runs the rule."


class AckState(StrEnum):
    """What a sensor did with one generation of a rule."""

    ACTIVE = "Active"  #: it runs
    REJECTED = "Rejected"  #: it cannot run as written; ``message`` says why
    FAILING = "Failing"  #: it should run and does not; ``message`` says why, and the sensor keeps trying
    STOPPED = "Stopped"  #: it was disabled, and no longer runs
    COMPLETED = "Completed"  #: it has ended and will not fire again


#: The ``message`` of a ``Completed`` ack begins with this when the rule's time was over before it could fire.
NEVER_FIRES: Final = "It never fires"


#: A sensor says when a rule's next occurrence is due if at least so many seconds lie between it and the one before.
NEXT_WORTH_SAYING: Final = 60.0


class RuleState(msgspec.Struct, frozen=True, kw_only=True):
    """A rule's full state, the body of every rule lifecycle event. A tombstone carries the last known one.

    ``generation`` is the Rule's ``metadata.generation``; a reader drops a lower one than it has. ``trigger_type`` is
    canonical, never an alias. ``created_at`` is the Rule's creation, which is a timer's anchor unless the rule names another.
    """

    uid: str
    namespace: str
    name: str
    generation: int
    enabled: bool
    trigger_type: str
    parameters: dict[str, Any]
    created_at: datetime


class RuleHead(msgspec.Struct, frozen=True, kw_only=True):
    """A :class:`RuleState` without its parameters, for readers that do not need them."""

    uid: str
    namespace: str
    name: str
    generation: int
    enabled: bool
    trigger_type: str
    created_at: datetime


class Ack(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a sensor did with one generation of a rule. ``instance`` is the process (the pod's name). ``next_at`` is when the
    rule's next occurrence is due, where the sensor knows it and it is worth saying (:data:`NEXT_WORTH_SAYING`).
    """

    rule_uid: str
    generation: int
    state: AckState
    instance: str
    at: datetime
    message: str = ""
    next_at: datetime | None = None


class SensorHealth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The health of one instance of a sensor, reported every ``every`` seconds and when it changes. Silence for three times as
    long means that the instance cannot reach NATS. :func:`attune_contract.subjects.health_subject` keeps the last report of each.

    ``problems`` has a sentence for each thing that is wrong now, by a name: ``api`` (it cannot be reached, or refuses the
    sensor), ``token``, ``rules`` (they were not read), ``spool``, ``events`` (some are dropped), or one of the sensor's own.
    A sentence stays the same as long as the problem does, so it says since when, not for how long. ``versions`` has what decides
    how it works in addition to its own version, such as ``tzdata``.
    """

    instance: str  #: the pod's name (``ATTUNE_SENSOR_INSTANCE``)
    at: datetime
    every: float  #: seconds
    rules: int  #: rules that it knows, enabled or not
    problems: dict[str, str] = {}
    versions: dict[str, str] = {}


class IdentityState(msgspec.Struct, frozen=True, kw_only=True):
    """Which tokens of one sensor are still accepted (stream ``ATTUNE_IDENTITIES``, last message per sensor).

    The operator publishes it, on :func:`attune_contract.subjects.identity_subject`, before it hands out a token that needs
    it, so that a new token is never refused because of the old state. The API enforces it on every call. For a sensor
    without a published state (one outside the cluster) only the token is checked.
    """

    sensor_ref: str  #: ``namespace/name``
    uid: str  #: the Sensor's ``metadata.uid``; a token with another ``sub`` is refused
    not_before: int | None = None  #: earliest ``iat`` still accepted, seconds since the epoch; None accepts any
    trigger_types: tuple[str, ...] = ()  #: canonical names that are allowed now; a token may name more
    deleted: bool = False  #: the Sensor is gone: every token of it is refused
    #: JSON Schemas of payloads as JSON, by canonical trigger type; without an entry, any payload is accepted. As text, because
    #: most readers never parse them.
    payload_schemas: dict[str, str] = {}


_T = TypeVar("_T")


class InvalidMessageError(ValueError):
    """A message that is not what its subject promises. The text says what is wrong with it."""


_RULE_DECODER: Final = msgspec.json.Decoder(RuleState)
_RULE_HEAD_DECODER: Final = msgspec.json.Decoder(RuleHead)
_ACK_DECODER: Final = msgspec.json.Decoder(Ack)
_HEALTH_DECODER: Final = msgspec.json.Decoder(SensorHealth)
_IDENTITY_DECODER: Final = msgspec.json.Decoder(IdentityState)
_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def encode(message: RuleState | Ack | SensorHealth | IdentityState) -> bytes:
    """The message's JSON. Keys are sorted, so equal states have equal bytes."""
    return _ENCODER.encode(message)


def decoded(decoder: "msgspec.json.Decoder[_T]", body: bytes, what: str) -> _T:
    """Read a message; ``what`` it should be stands in the error.

    Raises:
        InvalidMessageError: the body is not JSON of the right shape.
    """
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidMessageError(f"not {what}: {error}") from error


def decode_rule(body: bytes) -> RuleState:
    """Read a rule's state.

    Raises:
        InvalidMessageError: the body is not JSON of the right shape.
    """
    return decoded(_RULE_DECODER, body, "a rule's state")


def decode_rule_head(body: bytes) -> RuleHead:
    """Read a rule's state without its parameters.

    Raises:
        InvalidMessageError: the body is not JSON of the right shape.
    """
    return decoded(_RULE_HEAD_DECODER, body, "a rule's state")


def decode_ack(body: bytes) -> Ack:
    """Read an ack.

    Raises:
        InvalidMessageError: the body is not JSON of the right shape.
    """
    return decoded(_ACK_DECODER, body, "an ack")


def decode_health(body: bytes) -> SensorHealth:
    """Read a sensor's health report.

    Raises:
        InvalidMessageError: the body is not JSON of the right shape.
    """
    return decoded(_HEALTH_DECODER, body, "a sensor's health")


def decode_identity(body: bytes) -> IdentityState:
    """Read which tokens of a sensor are accepted.

    Raises:
        InvalidMessageError: the body is not JSON of the right shape.
    """
    return decoded(_IDENTITY_DECODER, body, "a sensor's identity")


# CloudEvents 1.0, NATS protocol binding, binary mode: attributes are headers that begin with "ce-".
_SOURCE: Final = "/attune/operator"


def rule_event_headers(
    event_type: RuleEventType, state: RuleState, *, time: datetime, event_id: uuid.UUID
) -> dict[str, str]:
    """The CloudEvents headers of a rule lifecycle event."""
    return {
        "ce-specversion": "1.0",
        "ce-type": event_type,
        "ce-source": _SOURCE,
        "ce-id": str(event_id),
        "ce-time": time.isoformat().replace("+00:00", "Z"),
        "ce-subject": f"{state.namespace}/{state.name}",
        "content-type": "application/json",
    }


#: Extension attributes of entries in the rule history: the binding (``<namespace>.<name with underscores>``), the field
#: manager that last changed the Rule's spec and when, and why a rule left its subject.
HISTORY_SENSOR: Final = "ce-sensor"
HISTORY_CHANGED_BY: Final = "ce-changedby"
HISTORY_CHANGED_AT: Final = "ce-changedat"
HISTORY_REASON: Final = "ce-reason"


def is_tombstone(headers: Mapping[str, str] | None) -> bool:
    """Whether a message says that the rule is gone from this subject."""
    return headers is not None and headers.get("ce-type") == RuleEventType.DELETED
