"""Creates and reads sensors' tokens (JWT, RFC 7519; EdDSA, RFC 8037). The contract defines the claims."""

from dataclasses import dataclass

import jwt

from attune_contract import claims
from attune_contract.claims import SensorClaims
from attune_operator.credentials.keys import KeySet, SigningKey


class DamagedError(ValueError):
    """Something in a Secret is not what the operator wrote. The text says what, and contains nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadToken:
    """A token whose signature was verified; its times were not."""

    kid: str
    claims: SensorClaims


def mint(token: SensorClaims, *, key: SigningKey) -> str:
    """Sign the claims.

    Raises:
        ValueError: the key's private half is lost.
    """
    return jwt.encode(
        token.to_payload(), key.private_key(), algorithm=claims.ALGORITHM, headers={"kid": key.kid, "typ": "JWT"}
    )


def read(text: str, *, keys: KeySet, issuer: str) -> ReadToken:
    """Read a token that one of ``keys`` signed, even if it has expired.

    Raises:
        DamagedError: it is not such a token.
    """
    try:
        kid = jwt.get_unverified_header(text).get("kid")
    except jwt.PyJWTError:
        raise DamagedError("it is not a JSON Web Token") from None
    key = keys.find(kid) if isinstance(kid, str) else None
    if key is None:
        raise DamagedError("it was signed by a key that is no longer published")
    try:
        payload = jwt.decode(
            text,
            key.public_key(),
            algorithms=[claims.ALGORITHM],
            audience=claims.AUDIENCE,
            issuer=issuer,
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
        return ReadToken(kid=key.kid, claims=SensorClaims.from_payload(payload))
    except jwt.PyJWTError as error:
        raise DamagedError(f"it does not verify ({type(error).__name__})") from None
    except (ValueError, OverflowError):
        raise DamagedError("its claims are not those of a sensor") from None
