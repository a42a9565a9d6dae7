"""Sensor tokens: verified as RFC 8725 (JWT best practices) says, and minted."""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attune_api.identity.errors import InvalidTokenError
from attune_api.identity.keys import PublicKeys, SigningKey, VerificationKeys
from attune_contract.claims import ALGORITHM, AUDIENCE, MAX_TTL, SCOPE, SensorClaims

#: Longest token that is looked at, in characters.
MAX_TOKEN_LENGTH: Final = 8192
# Base64url without padding (RFC 7515 §2), so that a token can be written in one way only.
_PARTS: Final = re.compile(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
#: Seconds by which the minter's clock may be ahead of ours. None are granted after ``exp``.
CLOCK_LEEWAY: Final = 10
_REQUIRED: Final = ["iss", "aud", "sub", "iat", "nbf", "exp", "jti"]
_REMEMBERED: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """A token whose signature, issuer and audience are right. Times are left to :func:`check_times`."""

    claims: SensorClaims
    not_before: int
    issued_at: int
    expires_at: int


def verify(token: str, *, keys: Mapping[str, Ed25519PublicKey], issuer: str) -> VerifiedToken:
    """Check everything about a token that does not change with time.

    The algorithm is fixed, whatever the token says of itself (RFC 8725 §3.1): ``none`` and an HMAC over the public key
    get no further than its header. So is the key's kind, since only Ed25519 keys are ever loaded.

    Raises:
        InvalidTokenError: it is not a sensor token that this issuer signed with one of the keys.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        raise InvalidTokenError("The token is too long to be one.", reason="malformed")
    if _PARTS.fullmatch(token) is None:
        raise InvalidTokenError("The token is not a JSON Web Token.", reason="malformed")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise InvalidTokenError("The token is not a JSON Web Token.", reason="malformed") from None
    if header.get("alg") != ALGORITHM:
        raise InvalidTokenError(f"The token must be signed with {ALGORITHM}.", reason="algorithm")
    if "crit" in header:
        raise InvalidTokenError("The token has critical extensions, and none is known here.", reason="malformed")
    kid = header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise InvalidTokenError("The token names no key that is known here.", reason="unknown_key")
    try:
        payload = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=issuer,
            options={"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
    except jwt.MissingRequiredClaimError as error:
        raise InvalidTokenError(f"The token lacks the claim '{error.claim}'.", reason="missing_claim") from None
    except jwt.InvalidAudienceError:
        raise InvalidTokenError(f"The token is not for {AUDIENCE}.", reason="audience") from None
    except jwt.InvalidIssuerError:
        raise InvalidTokenError("The token is from another issuer.", reason="issuer") from None
    except jwt.InvalidSignatureError:
        raise InvalidTokenError("The token's signature is wrong.", reason="signature") from None
    except (jwt.PyJWTError, ValueError):
        raise InvalidTokenError("The token is damaged.", reason="malformed") from None
    return _as_verified(payload)


def _as_verified(payload: Mapping[str, Any]) -> VerifiedToken:
    times = [payload[name] for name in ("nbf", "iat", "exp")]
    # Whole seconds, as SensorClaims writes them; a bool is an int in Python, and none here.
    if not all(type(time) is int and 0 <= time < 2**40 for time in times):
        raise InvalidTokenError("The token's nbf, iat and exp must be whole seconds.", reason="malformed")
    if not payload["sub"]:
        raise InvalidTokenError("The token's sub is empty.", reason="claims")
    if payload.get("scope") != SCOPE:
        raise InvalidTokenError(f"The token's scope is not {SCOPE!r}.", reason="scope")
    if times[2] - times[1] > MAX_TTL.total_seconds():
        hours = MAX_TTL.total_seconds() / 3600
        raise InvalidTokenError(f"The token is valid for more than {hours:.0f} hours.", reason="lifetime")
    try:
        claims = SensorClaims.from_payload(payload)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidTokenError(f"The token is not a sensor's: {error}.", reason="claims") from None
    return VerifiedToken(claims=claims, not_before=times[0], issued_at=times[1], expires_at=times[2])


def check_times(token: VerifiedToken, *, now: float) -> None:
    """Check what changes with time (RFC 7519 §4.1.4–4.1.6).

    Args:
        token: the token.
        now: seconds since the epoch.

    Raises:
        InvalidTokenError: it has expired, is not valid yet, or comes from the future.
    """
    if now >= token.expires_at:
        raise InvalidTokenError("The token has expired.", reason="expired")
    if now + CLOCK_LEEWAY < token.not_before:
        raise InvalidTokenError("The token is not valid yet.", reason="not_yet_valid")
    if now + CLOCK_LEEWAY < token.issued_at:
        raise InvalidTokenError("The token was issued in the future.", reason="not_yet_valid")


class TokenVerifier:
    """Verifies tokens, and remembers the good ones, since a sensor sends the same one all day.

    What is remembered is a hash of the token and what it says; times are checked on every call, and all is forgotten when
    the keys change.

    Args:
        keys: what signatures are checked with.
        issuer: ``iss`` that tokens must have.
        clock: seconds since the epoch, as ``time.time``.
    """

    def __init__(self, *, keys: VerificationKeys, issuer: str, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._issuer = issuer
        self._clock = clock
        self._version = -1
        self._good: OrderedDict[bytes, VerifiedToken] = OrderedDict()

    def verify(self, token: str) -> VerifiedToken:
        """Check everything about a token but revocation.

        Raises:
            InvalidTokenError: it proves nothing.
            KeysUnavailableError: there are no keys to check it with.
        """
        keys = self._current(at_once=False)
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        verified = self._good.get(digest)
        if verified is None:
            try:
                verified = verify(token, keys=keys.by_id, issuer=self._issuer)
            except InvalidTokenError as error:
                if error.reason != "unknown_key":
                    raise
                verified = verify(token, keys=self._current(at_once=True).by_id, issuer=self._issuer)
            self._good[digest] = verified
            if len(self._good) > _REMEMBERED:
                self._good.popitem(last=False)
        else:
            self._good.move_to_end(digest)
        check_times(verified, now=self._clock())
        return verified

    def _current(self, *, at_once: bool) -> PublicKeys:
        keys = self._keys.current(at_once=at_once)
        if keys.version != self._version:
            self._good.clear()
            self._version = keys.version
        return keys


def looks_like_sensor_token(token: str, *, issuer: str) -> bool:
    """Whether a token *claims* to be a sensor's, so that the cluster need not be asked about it. Proves nothing."""
    if len(token) > MAX_TOKEN_LENGTH or token.count(".") != 2:
        return False
    try:
        payload = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError):
        return False
    audience = payload.get("aud")
    return bool(payload.get("iss") == issuer or audience == AUDIENCE or payload.get("token_type") == "sensor")


def mint(claims: SensorClaims, *, key: SigningKey) -> str:
    """Sign a token (EdDSA, header ``kid``)."""
    return jwt.encode(claims.to_payload(), key.private, algorithm=ALGORITHM, headers={"kid": key.kid})


def whole_second(time: datetime) -> datetime:
    """A time without its fraction, as tokens keep it."""
    return time.replace(microsecond=0)
