"""When a Sensor's credentials are renewed, and why: a chain of small pure functions over one :class:`Input`.

Each checks one aspect and returns a :class:`Renewal` or None. The first renewal decides, and its reason goes into the log
line, the Event and the metric (the shape is cert-manager's; docs/credentials.md). Times are whole seconds, as in RFC 7519.
The token that is really in the Secret is judged, never what the operator remembers.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from attune_contract.identity import SensorRef
from attune_operator.credentials.keys import KeySet, KeyState
from attune_operator.credentials.mint import ReadToken

#: A token is renewed at this fraction of its life, give or take half of the jitter.
RENEW_AT: Final = 2 / 3
JITTER: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsUser:
    """The verified NATS credentials in a Secret: who may use them and until when."""

    subject: str
    expires_at: datetime | None
    current: bool  #: signed by the present key, with the present permissions


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """Everything that the decision depends on.

    ``damage`` says why ``token`` is None although the Secret has one; ``nats_damage`` likewise. ``nats_wanted`` says
    whether sensors get NATS credentials at all. ``ttl`` is within its limits already.
    """

    ref: SensorRef
    uid: str
    trigger_types: tuple[str, ...]
    ttl: timedelta
    now: datetime
    keys: KeySet
    secret_exists: bool
    token: ReadToken | None = None
    damage: str = ""
    not_before: int | None = None
    nats_wanted: bool = False
    nats: NatsUser | None = None
    nats_damage: str = ""
    rotate_at: datetime | None = None
    revoke_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """Renew the credentials. ``not_before``: tokens issued before it (seconds since the epoch) are refused from now on."""

    reason: str
    message: str
    not_before: int | None = None


def whole_seconds(time: datetime) -> int:
    """Return the first whole second that is not before ``time``: ``iat`` has no fractions to compare with."""
    return math.ceil(time.timestamp())


def _has_come(time: datetime, now: datetime) -> bool:
    """Whether the first whole second after ``time`` has come: before it, new and old tokens could not be distinguished."""
    return whole_seconds(time) <= now.timestamp()


def _jitter(uid: str, issued_at: datetime) -> float:
    """Between -1 and 1: the same for the same token, and spread evenly over Sensors."""
    digest = hashlib.sha256(f"{uid}/{issued_at.timestamp()}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**63 - 1


def due_at(token: ReadToken) -> datetime:
    """Return when a token is renewed: at two thirds of its real life, with jitter so that a thousand do not renew at once."""
    issued_at, expires_at = token.claims.issued_at, token.claims.expires_at
    life = expires_at - issued_at
    return issued_at + life * (RENEW_AT + JITTER / 2 * _jitter(token.claims.subject, issued_at))


def missing(data: Input) -> Renewal | None:
    """There is no Secret, or no token in it."""
    if data.token is None and not data.damage:
        what = "the Secret holds no token" if data.secret_exists else "there is no Secret"
        return Renewal(reason="Missing", message=what)
    return None


def damaged(data: Input) -> Renewal | None:
    """The token was changed by hand, or its key is no longer published."""
    if data.token is None and data.damage:
        return Renewal(reason="Damaged", message=f"the token in the Secret is damaged: {data.damage}")
    return None


def other_sensor(data: Input) -> Renewal | None:
    """The token speaks for another Sensor, or for one of this name that was deleted."""
    if data.token and (data.token.claims.subject != data.uid or data.token.claims.sensor != data.ref):
        return Renewal(reason="OtherSensor", message="the token in the Secret is another Sensor's")
    return None


def expired(data: Input) -> Renewal | None:
    """The token has expired."""
    if data.token and data.token.claims.expires_at <= data.now:
        return Renewal(
            reason="Expired", message=f"the token expired at {data.token.claims.expires_at:%Y-%m-%dT%H:%M:%SZ}"
        )
    return None


def narrowed(data: Input) -> Renewal | None:
    """A trigger type was removed: tokens that still name it are refused at once (docs/decisions/0014)."""
    if data.token is None:
        return None
    taken = sorted(set(data.token.claims.trigger_types) - set(data.trigger_types))
    if not taken:
        return None
    return Renewal(
        reason="TriggerTypesNarrowed",
        message=f"the token allows trigger types that the Sensor no longer declares: {', '.join(taken)}",
        not_before=int(data.token.claims.issued_at.timestamp()) + 1,
    )


def widened(data: Input) -> Renewal | None:
    """A trigger type was added."""
    if data.token is None:
        return None
    added = sorted(set(data.trigger_types) - set(data.token.claims.trigger_types))
    if not added:
        return None
    return Renewal(reason="TriggerTypesChanged", message=f"the token does not allow {', '.join(added)} yet")


def revoked(data: Input) -> Renewal | None:
    """``attune.dev/revoke-before`` names a time that has come, and the token is older."""
    if data.token is None or data.revoke_before is None or not _has_come(data.revoke_before, data.now):
        return None
    limit = whole_seconds(data.revoke_before)
    if int(data.token.claims.issued_at.timestamp()) >= limit:
        return None
    return Renewal(
        reason="Revoked",
        message=f"tokens issued before {data.revoke_before:%Y-%m-%dT%H:%M:%SZ} are revoked",
        not_before=limit,
    )


def refused(data: Input) -> Renewal | None:
    """The token is older than the API still accepts (a renewal that was not finished)."""
    if data.token is None or data.not_before is None:
        return None
    if int(data.token.claims.issued_at.timestamp()) >= data.not_before:
        return None
    return Renewal(
        reason="Refused", message="the token is older than the API still accepts", not_before=data.not_before
    )


def key_replaced(data: Input) -> Renewal | None:
    """Another key signs now. While none is active, tokens of a lost key stay: their public half still verifies them."""
    if data.token is None or data.keys.active is None or data.token.kid == data.keys.active:
        return None
    key = data.keys.find(data.token.kid)
    if key is not None and data.keys.state(key) is KeyState.NEXT:
        return None
    return Renewal(reason="SigningKeyReplaced", message="the key that signed the token was replaced")


def asked(data: Input) -> Renewal | None:
    """``attune.dev/rotate-at`` names a time that has come, and the token is older."""
    if data.token is None or data.rotate_at is None or not _has_come(data.rotate_at, data.now):
        return None
    if int(data.token.claims.issued_at.timestamp()) >= whole_seconds(data.rotate_at):
        return None
    return Renewal(reason="Asked", message=f"a renewal at {data.rotate_at:%Y-%m-%dT%H:%M:%SZ} was requested")


def ttl_changed(data: Input) -> Renewal | None:
    """The Sensor's lifetime for tokens changed."""
    if data.token is None:
        return None
    life = data.token.claims.expires_at - data.token.claims.issued_at
    if life == data.ttl:
        return None
    return Renewal(reason="TTLChanged", message=f"the token's lifetime is {life}, and the Sensor's is {data.ttl}")


def nats_credentials(data: Input) -> Renewal | None:
    """The NATS credentials are missing or damaged, expire at another time, or were signed by a key that was replaced."""
    if not data.nats_wanted:
        return None
    if data.nats is None:
        what = f"are damaged: {data.nats_damage}" if data.nats_damage else "are missing"
        return Renewal(reason="NatsCredentials", message=f"the NATS credentials in the Secret {what}")
    if not data.nats.current or data.nats.subject != data.uid:
        return Renewal(
            reason="NatsCredentials", message="the NATS credentials do not match the Sensor's present permissions"
        )
    if data.token is not None and data.nats.expires_at != data.token.claims.expires_at:
        return Renewal(reason="NatsCredentials", message="the NATS credentials expire at another time than the token")
    return None


def due(data: Input) -> Renewal | None:
    """Two thirds of the token's lifetime have passed."""
    if data.token and due_at(data.token) <= data.now:
        return Renewal(reason="Due", message="two thirds of the token's lifetime have passed")
    return None


CHAIN: Final[tuple[Callable[[Input], Renewal | None], ...]] = (
    missing,
    damaged,
    other_sensor,
    revoked,
    narrowed,
    refused,
    expired,
    widened,
    key_replaced,
    asked,
    ttl_changed,
    nats_credentials,
    due,
)


def decide(data: Input) -> Renewal | None:
    """Return whether the credentials are renewed, and the first reason for it."""
    for check in CHAIN:
        if (renewal := check(data)) is not None:
            return renewal
    return None


def accepted_from(data: Input, renewal: Renewal | None) -> int | None:
    """Return the earliest ``iat`` that the API accepts for this Sensor (seconds since the epoch); None for any.

    It never falls. A ``revoke-before`` in the future does not count yet.
    """
    limits = [data.not_before, renewal.not_before if renewal else None]
    if data.revoke_before is not None and _has_come(data.revoke_before, data.now):
        limits.append(whole_seconds(data.revoke_before))
    return max((limit for limit in limits if limit is not None), default=None)


def recheck_at(data: Input) -> datetime | None:
    """Return when the decision may change by time alone; None if there is no token."""
    if data.token is None:
        return None
    times = [due_at(data.token)]
    asked_for = [time for time in (data.rotate_at, data.revoke_before) if time is not None]
    times += [time for time in asked_for if not _has_come(time, data.now)]
    return min(datetime.fromtimestamp(whole_seconds(time), UTC) for time in times)
