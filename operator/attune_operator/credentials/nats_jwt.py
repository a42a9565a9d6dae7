"""NATS's decentralised authorisation: keys (NKeys) and the JWTs of operator, accounts and users (NATS ADR-14; jwt v2). Pure.

An operator signs accounts, an account's signing key signs users, and the server trusts the operator. So users are created
without the server. The signature's algorithm is Ed25519, under the name ``ed25519-nkey``.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

import nkeys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attune_operator.credentials.mint import DamagedError

Role = Literal["operator", "account", "user"]

_PREFIXES: Final[dict[Role, int]] = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}
_UNLIMITED: Final = -1


def make_seed(role: Role, raw: bytes) -> str:
    """Encode a key's private half in NATS's form, from 32 random bytes."""
    return cast("bytes", nkeys.encode_seed(raw, _PREFIXES[role])).decode("ascii")


def public_of(seed: str) -> str:
    """Return the public half of a key: a letter for its role, and its id.

    Raises:
        ValueError: it is not a seed.
    """
    try:
        # No padding is needed: 35 bytes are 56 characters.
        return cast("bytes", nkeys.from_seed(seed.encode("ascii")).public_key).decode("ascii")
    except (nkeys.NkeysError, ValueError, IndexError):
        raise ValueError("it is not a NATS seed") from None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _sign(claims: dict[str, Any], *, seed: str) -> str:
    claims = {**claims, "iss": public_of(seed)}
    # As NATS's own tools do: the id is a digest of the claims.
    identity = hashlib.sha256(json.dumps(claims, sort_keys=True).encode()).digest()
    claims["jti"] = base64.b32encode(identity).rstrip(b"=").decode("ascii")
    header = {"typ": "JWT", "alg": "ed25519-nkey"}
    body = ".".join(_encode(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    signature = nkeys.from_seed(seed.encode("ascii")).sign(body.encode("ascii"))
    return f"{body}.{_encode(signature)}"


def operator_jwt(*, seed: str, system_account: str, created: datetime) -> str:
    """Create the operator's JWT, signed by itself: servers are configured to trust it."""
    return _sign(
        {
            "sub": public_of(seed),
            "name": "attune",
            "iat": int(created.timestamp()),
            "nats": {"type": "operator", "version": 2, "system_account": system_account},
        },
        seed=seed,
    )


def account_jwt(
    *,
    operator_seed: str,
    account: str,
    name: str,
    issued_at: datetime,
    jetstream: bool,
    connections: int = _UNLIMITED,
    signing_keys: Sequence[str] = (),
    exports: Sequence[Mapping[str, Any]] = (),
    imports: Sequence[Mapping[str, Any]] = (),
    revocations: Mapping[str, int] | None = None,
) -> str:
    """An account. With ``jetstream`` it may keep as much as the server has.

    Args:
        operator_seed: signs it.
        account: its public key.
        name: for people.
        issued_at: a server keeps the newest of two.
        jetstream: whether it may have streams.
        connections: how many it may have at once.
        signing_keys: public keys that may sign its users in addition to its own.
        exports: what other accounts may import, as NATS's jwt library writes it.
        imports: what it imports.
        revocations: users by their public keys, and the latest ``iat`` that is refused, seconds since 1970.
    """
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), _UNLIMITED)
    limits["conn"] = connections
    storage = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), _UNLIMITED if jetstream else 0)
    nats: dict[str, Any] = {
        "type": "account",
        "version": 2,
        "limits": {**limits, "wildcards": True, **storage},
        "signing_keys": list(signing_keys),
        "default_permissions": {"pub": {}, "sub": {}},
    }
    optional = {"exports": list(exports), "imports": list(imports), "revocations": dict(revocations or {})}
    nats |= {key: value for key, value in optional.items() if value}
    return _sign({"sub": account, "name": name, "iat": int(issued_at.timestamp()), "nats": nats}, seed=operator_seed)


def same_account(one: str, other: str) -> bool:
    """Whether two JWTs of an account say the same but for when they were issued.

    Raises:
        ValueError: one of them cannot be read.
    """
    return _account_claims(one) == _account_claims(other)


def _account_claims(token: str) -> dict[str, Any]:
    try:
        claims = json.loads(_decode(token.split(".")[1]))
        return {key: value for key, value in claims.items() if key not in ("iat", "jti")}
    except (ValueError, IndexError, AttributeError):
        raise ValueError("it is not an account's JWT") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """The subjects that a user may publish and subscribe to; others are refused.

    Attributes:
        publish: subjects.
        subscribe: subjects.
        subscriptions: how many one connection may have.
        payload: largest message, in bytes.
    """

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    subscriptions: int = _UNLIMITED
    payload: int = _UNLIMITED


@dataclass(frozen=True, slots=True, kw_only=True)
class UserClaims:
    """The content of a user's JWT. ``name`` and ``subject`` (a Sensor's uid; may be empty) say whose it is."""

    name: str
    subject: str
    key: str
    issuer: str
    permissions: Permissions
    expires_at: datetime | None


def user_creds(
    *,
    user_seed: str,
    signing_seed: str,
    account: str,
    name: str,
    subject: str,
    permissions: Permissions,
    issued_at: datetime,
    expires_at: datetime | None,
) -> str:
    """Create a user's credentials file: its JWT, signed by the account's signing key, and its seed."""
    claims: dict[str, Any] = {
        "sub": public_of(user_seed),
        "name": name,
        "iat": int(issued_at.timestamp()),
        "nats": {
            "type": "user",
            "version": 2,
            "issuer_account": account,
            "pub": {"allow": list(permissions.publish)},
            "sub": {"allow": list(permissions.subscribe)},
            "subs": permissions.subscriptions,
            "data": _UNLIMITED,
            "payload": permissions.payload,
            "tags": [f"uid:{subject}"] if subject else [],
        },
    }
    if expires_at is not None:
        claims["exp"] = int(expires_at.timestamp())
    token = _sign(claims, seed=signing_seed)
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user_seed}\n------END USER NKEY SEED------\n"
    )


def _section(text: str, begin: str) -> str:
    lines = text.splitlines()
    for number, line in enumerate(lines[:-1]):
        if line.startswith("-----BEGIN") and begin in line:
            return lines[number + 1].strip()
    raise DamagedError(f"there is no {begin} in it")


def _verifies(body: str, signature: str, issuer: str) -> bool:
    try:
        raw = base64.b32decode(issuer + "=" * (-len(issuer) % 8))
        Ed25519PublicKey.from_public_bytes(raw[1:33]).verify(_decode(signature), body.encode("ascii"))
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True


def read_creds(text: str) -> UserClaims:
    """Read a credentials file, and verify its issuer's signature and its seed.

    Raises:
        DamagedError: it is not a credentials file, or its parts do not match. The text contains nothing of it.
    """
    token, seed = _section(text, "NATS USER JWT"), _section(text, "USER NKEY SEED")
    try:
        head, payload, signature = token.split(".")
        claims = json.loads(_decode(payload))
        nats = claims["nats"]
        permissions = Permissions(
            publish=tuple(nats.get("pub", {}).get("allow", ())),
            subscribe=tuple(nats.get("sub", {}).get("allow", ())),
            subscriptions=int(nats.get("subs", _UNLIMITED)),
            payload=int(nats.get("payload", _UNLIMITED)),
        )
        tags = [tag for tag in nats.get("tags") or () if tag.startswith("uid:")]
        expires = claims.get("exp")
        found = UserClaims(
            name=str(claims["name"]),
            subject=tags[0].removeprefix("uid:") if tags else "",
            key=str(claims["sub"]),
            issuer=str(claims["iss"]),
            permissions=permissions,
            expires_at=None if expires is None else datetime.fromtimestamp(expires, UTC),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise DamagedError("its JWT cannot be read") from None
    if not _verifies(f"{head}.{payload}", signature, found.issuer):
        raise DamagedError("its JWT does not verify")
    try:
        fits = public_of(seed) == found.key
    except ValueError:
        fits = False
    if not fits:
        raise DamagedError("its seed does not match its JWT")
    return found
