"""What a sensor's token says, and whether its signature and times are valid. Pure; keys and the time are passed in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt

from attune_cli.errors import UsageError
from attune_contract.claims import ALGORITHM, AUDIENCE, SensorClaims

#: How far another machine's clock may be ahead, as in the API.
_LEEWAY: Final = timedelta(seconds=10)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A decoded token. It proves nothing."""

    header: Mapping[str, Any]
    payload: Mapping[str, Any]
    claims: SensorClaims | None
    problem: str | None
    """Why it is not a sensor's token; None if it is."""


def open_token(token: str) -> Opened:
    """Read a token without checking it.

    Raises:
        UsageError: the text is not a JSON Web Token.
    """
    try:
        decoded = jwt.decode_complete(token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise UsageError(f"This is not a token (a JSON Web Token): {error}.") from None
    header, payload = decoded["header"], decoded["payload"]
    try:
        claims = SensorClaims.from_payload(payload)
    except (ValueError, OverflowError, OSError) as error:
        return Opened(header=header, payload=payload, claims=None, problem=f"it is not a sensor's token: {error}")
    if payload.get("aud") != AUDIENCE:
        return Opened(header=header, payload=payload, claims=claims, problem=f"it is not for {AUDIENCE}")
    return Opened(header=header, payload=payload, claims=claims, problem=None)


def signature_problem(token: str, jwks: Mapping[str, Any]) -> str | None:
    """Why these public keys (RFC 7517) do not verify the token's signature; None if they do."""
    header = jwt.get_unverified_header(token)
    if header.get("alg") != ALGORITHM:
        return f"it is signed with {header.get('alg')}, not with {ALGORITHM}"
    try:
        keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(dict(jwks)).keys}
    except (jwt.PyJWTError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"The keys are not a JSON Web Key Set: {error}.") from None
    key = keys.get(header.get("kid"))
    if key is None:
        return f"it was signed with the key {header.get('kid')}, but the public keys are {', '.join(map(str, keys)) or 'none'}"
    unchecked = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
    try:
        jwt.decode(token, key, algorithms=[ALGORITHM], options=unchecked)  # type: ignore[arg-type]
    except jwt.PyJWTError:
        return f"its signature was not made with the key {header.get('kid')}"
    return None


def time_problem(claims: SensorClaims, now: datetime) -> str | None:
    """Why the token is not valid at this time; None if it is."""
    if claims.expires_at <= now:
        return f"it expired at {claims.expires_at.isoformat()}"
    if claims.issued_at > now + _LEEWAY:
        return f"it is valid from {claims.issued_at.isoformat()} on; is a clock wrong?"
    return None


def described(opened: Opened) -> dict[str, Any]:
    """What a token says, for people and programs; never the token itself."""
    payload, claims = opened.payload, opened.claims

    def time(name: str) -> str | None:
        value = payload.get(name)
        if not isinstance(value, int):
            return None
        try:
            return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")
        except (OverflowError, OSError, ValueError):
            return str(value)

    return {
        "login": payload.get("login"),
        "sensor_ref": None if claims is None else str(claims.sensor),
        "trigger_types": None if claims is None else list(claims.trigger_types),
        "issued_at": time("iat"),
        "expires_at": time("exp"),
        "key_id": opened.header.get("kid"),
        "issuer": payload.get("iss"),
        "subject": payload.get("sub"),
        "token_id": payload.get("jti"),
    }
