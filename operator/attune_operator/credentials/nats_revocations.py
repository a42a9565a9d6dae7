"""Which sensors' NATS credentials are revoked, and until when that must be remembered. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from attune_contract.claims import MAX_TTL


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """JWTs of a user that were issued up to a moment are refused.

    Attributes:
        issued_until: the latest ``iat`` that is refused, seconds since 1970.
        kept_until: when the last of them has expired, seconds since 1970.
    """

    issued_until: int
    kept_until: int


#: Revocations by the Sensor's uid.
Revocations = Mapping[str, Revocation]


def revoke(known: Revocations, *, uid: str, issued_until: int, now: datetime) -> Revocations:
    """Revoke what a Sensor was given up to a moment. An earlier revocation that goes further stays as it is."""
    present = known.get(uid)
    if present is not None and present.issued_until >= issued_until:
        return known
    kept_until = max(issued_until, int(now.timestamp())) + int(MAX_TTL.total_seconds())
    return {**known, uid: Revocation(issued_until=issued_until, kept_until=kept_until)}


def merge(one: Revocations, other: Revocations) -> Revocations:
    """What either says; of two about one Sensor the one that goes further."""
    return {
        uid: max((known[uid] for known in (one, other) if uid in known), key=lambda each: each.issued_until)
        for uid in {**one, **other}
    }


def current(known: Revocations, *, now: datetime) -> Revocations:
    """Those that some credentials can still violate."""
    return {uid: each for uid, each in known.items() if each.kept_until >= now.timestamp()}


def dump(known: Revocations) -> str:
    """As the Secret holds them."""
    return json.dumps({uid: [each.issued_until, each.kept_until] for uid, each in sorted(known.items())})


def load(text: str) -> Revocations:
    """Read what :func:`dump` wrote; an empty text is none.

    Raises:
        ValueError: the text is damaged.
    """
    try:
        return {
            str(uid): Revocation(issued_until=int(issued), kept_until=int(kept))
            for uid, (issued, kept) in (json.loads(text) if text else {}).items()
        }
    except (ValueError, TypeError, AttributeError):
        raise ValueError("it does not hold revocations") from None
