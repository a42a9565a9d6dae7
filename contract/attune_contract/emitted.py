"""What the runner of actions hands to the Sensor ``core.event``: an event that an action of kind ``emit`` makes (docs/emit.md).

The runner posts an :class:`Emission` to the Sensor's Service, signed with the Sensor's own token, which both read from the same
Secret. The token itself is not sent. The Sensor stores one event for each Rule that takes it, and then answers.
"""

import hashlib
import hmac
import uuid
from collections.abc import Iterable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from attune_contract.messages import decoded

#: The Sensor's name. It is in the namespace of the runner, since the runner reads its Secret.
SENSOR_NAME: Final = "core.event"
#: The Sensor's port, by its name in ``spec.ports``, and the path of the request.
PORT_NAME: Final = "emit"
PATH: Final = "/emit"
#: Headers of the request: when it was signed (Unix time in seconds), and the signature.
TIME_HEADER: Final = "X-Attune-Time"
SIGNATURE_HEADER: Final = "X-Attune-Signature"
#: Seconds that the time may differ from the Sensor's.
TOLERANCE: Final = 300

#: So many actions of kind ``emit`` may follow one another: the event of the last one can make no further event.
MOST_HOPS: Final = 8
#: Bytes of the payload as JSON, without what is added to it, and of the whole request.
MOST_PAYLOAD_BYTES: Final = 256 * 1024
MOST_REQUEST_BYTES: Final = MOST_PAYLOAD_BYTES + 16 * 1024
#: The field of the payload that says where the event comes from. The runner sets it, whatever the action says.
ORIGIN: Final = "emitted"
#: What an event may be called. The same pattern is in the parameters of ``core.event`` (packs/events).
NAME_PATTERN: Final = r"^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$"
MOST_NAME: Final = 253

_CONTEXT: Final = b"attune emit v1\n"


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where an emitted event comes from: its payload's field ``emitted``."""

    name: Annotated[str, Meta(min_length=1, max_length=MOST_NAME, pattern=NAME_PATTERN.removesuffix("$") + r"\Z")]
    rule: str  #: the Rule whose action made it, ``namespace/name``
    action: str
    event: uuid.UUID  #: the event that the action was carried out for
    run: uuid.UUID  #: the action's run
    hops: Annotated[int, Meta(ge=1, le=MOST_HOPS)]  #: so many emit actions lie behind it, this one included


class Emission(msgspec.Struct, frozen=True, kw_only=True):
    """An event to be stored for each Rule of the namespace that takes this name.

    The event's id is that of the occurrence ``run:<run id>`` of each Rule: handed over twice, it is stored once.
    """

    namespace: Annotated[str, Meta(min_length=1, max_length=63)]
    origin: Origin
    payload: dict[str, Any]


class Taken(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of the event of one Rule. ``status``: stored, duplicate, spooled, refused or dropped."""

    rule: str
    id: uuid.UUID
    status: str
    reason: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The Sensor's answer: status 200 when all are stored, 202 when one is on its disk only."""

    events: tuple[Taken, ...]


_EMISSION: Final = msgspec.json.Decoder(Emission)


def occurrence(run: uuid.UUID) -> str:
    """The occurrence's name in the ids of its events (:func:`attune_contract.events.event_id`)."""
    return f"run:{run}"


def decode_emission(body: bytes) -> Emission:
    """Read a request's body.

    Raises:
        InvalidMessageError: it is not JSON of the right shape.
    """
    return decoded(_EMISSION, body, "an emitted event")


def signature(token: str, *, time: int, body: bytes) -> str:
    """The signature of a request: HMAC-SHA256 (RFC 2104) with the Sensor's token as its key.

    Args:
        token: the Sensor's token.
        time: when it is signed: Unix time in seconds.
        body: the request's.
    """
    return hmac.new(token.strip().encode(), b"%b%d\n%b" % (_CONTEXT, time, body), hashlib.sha256).hexdigest()


def is_signed(*, tokens: Iterable[str], time: str, given: str, body: bytes, now: float) -> bool:
    """Whether a request was signed lately with one of these tokens.

    Args:
        tokens: the Sensor's, the one before it included: it is renewed while the runner may still read the old one.
        time: the header :data:`TIME_HEADER`.
        given: the header :data:`SIGNATURE_HEADER`.
        body: the request's.
        now: Unix time in seconds.
    """
    if not (time.isascii() and time.isdigit() and len(time) <= 12) or abs(int(time) - now) > TOLERANCE:
        return False
    if not given.isascii():
        return False
    return any(hmac.compare_digest(signature(token, time=int(time), body=body), given) for token in tokens if token)
