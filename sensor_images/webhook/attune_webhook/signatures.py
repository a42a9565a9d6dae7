"""Whether a request comes from who may send: pure functions of its headers, its body, the keys and the time.

Every comparison takes the same time wherever the two differ, and all keys are tried, so that an answer's delay tells nothing.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from attune_webhook.parameters import Auth, Scheme


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request is not taken: one word for metrics and a sentence for the log. Senders are not told which it was."""

    kind: str
    sentence: str


def check(auth: Auth, *, headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], now: float) -> Refused | None:
    """Whether the request may pass; None when it may.

    Args:
        auth: what the rule asks for.
        headers: the request's, found whatever their case.
        body: as it came.
        keys: those that are valid now (:func:`attune_webhook.keys.key_of`); several while one replaces another.
        now: Unix time in seconds.
    """
    match auth.scheme:
        case Scheme.NONE:
            return None
        case Scheme.BEARER:
            return check_bearer(headers, keys)
        case Scheme.GITHUB:
            return _github(headers, body, keys)
        case Scheme.STRIPE:
            return _stripe(headers, body, keys, tolerance=auth.tolerance, now=now)
        case Scheme.STANDARD:
            return _standard(headers, body, keys, tolerance=auth.tolerance, now=now)


def check_bearer(headers: Mapping[str, str], keys: Sequence[bytes]) -> Refused | None:
    """Whether the header ``Authorization`` names one of the secrets (RFC 6750 §2.1); None when it does."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        return Refused("unsigned", "there is no bearer token")
    if not _any_equal([token.strip().encode("utf-8", "surrogateescape")], keys):
        return Refused("signature", "the bearer token is none of the secrets")
    return None


def _github(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes]) -> Refused | None:
    name, _, given = headers.get("X-Hub-Signature-256", "").partition("=")
    if name != "sha256" or not given:
        return Refused("unsigned", "there is no X-Hub-Signature-256: sha256=…")
    return _signed([_from_hex(given)], [_digest(key, body) for key in keys])


def _stripe(
    headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], *, tolerance: int, now: float
) -> Refused | None:
    time, given = "", []
    for part in headers.get("Stripe-Signature", "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            time = value
        elif name == "v1":
            given.append(_from_hex(value))
    if not time or not given:
        return Refused("unsigned", "there is no Stripe-Signature: t=…,v1=…")
    signed = time.encode("utf-8", "surrogateescape") + b"." + body
    # The time is judged only of who knows a secret.
    return _signed(given, [_digest(key, signed) for key in keys]) or _in_time(time, tolerance, now)


def _standard(
    headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], *, tolerance: int, now: float
) -> Refused | None:
    name, time = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = []
    for part in headers.get("webhook-signature", "").split(" "):
        version, _, value = part.partition(",")
        if version == "v1":
            given.append(_from_base64(value))
    if not name or not time or not given:
        return Refused("unsigned", "there are no webhook-id, webhook-timestamp and webhook-signature: v1,…")
    signed = f"{name}.{time}.".encode("utf-8", "surrogateescape") + body
    return _signed(given, [_digest(key, signed) for key in keys]) or _in_time(time, tolerance, now)


def _digest(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")


def _signed(given: Iterable[bytes], expected: Sequence[bytes]) -> Refused | None:
    return None if _any_equal(given, expected) else Refused("signature", "the signature does not match")


def _any_equal(given: Iterable[bytes], expected: Sequence[bytes]) -> bool:
    found = False
    for one in given:
        for other in expected:
            found |= hmac.compare_digest(one, other)
    return found


def _in_time(text: str, tolerance: int, now: float) -> Refused | None:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        return Refused("expired", "the signed time is not a number of seconds")
    if abs(now - int(text)) > tolerance:
        return Refused("expired", f"it was signed {now - int(text):.0f} s ago; at most {tolerance} are tolerated")
    return None


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
