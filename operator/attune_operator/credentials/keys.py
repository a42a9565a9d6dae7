"""The keys that sign tokens: several at a time, each published before it signs and for a while after (docs/credentials.md).

Pure values. A key is *next* (published, not signing yet), *active* (signs) or *retired* (no longer signs, still verifies). A
key whose private half is lost is retired as well: its tokens stay valid until they expire
(docs/decisions/0013-lost-signing-keys.md).

The keys are kept as a JSON Web Key Set (RFC 7517; Ed25519 keys by RFC 8037): with private parts in a Secret, and without
them in a ConfigMap that the API reads. A key's ``kid`` is its thumbprint (RFC 7638).
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from attune_contract import claims

#: How long a key stays published after it last signed: the longest ttl, and some minutes for clocks that differ.
RETAIN: Final = claims.MAX_TTL + timedelta(minutes=5)


class KeyState(StrEnum):
    """What a key is used for at a moment."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRED = "retired"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def thumbprint(public: str) -> str:
    """The key's id: base64url of SHA-256 over its required members in lexical order (RFC 7638 §3, RFC 8037 §2)."""
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": public}, separators=(",", ":"), sort_keys=True)
    return _encode(hashlib.sha256(canonical.encode("ascii")).digest())


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """One Ed25519 key. ``seed`` is its private half, None if that is lost. It is left out of the representation."""

    public: str
    seed: bytes | None
    created_at: datetime
    activates_at: datetime
    retired_at: datetime | None = None

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r}, retired_at={self.retired_at})"

    @property
    def kid(self) -> str:
        """The key's id, as in a token's header."""
        return thumbprint(self.public)

    def private_key(self) -> Ed25519PrivateKey:
        """Return the key that signs.

        Raises:
            ValueError: the private half is lost.
        """
        if self.seed is None:
            raise ValueError(f"the private half of the key {self.kid} is lost")
        return Ed25519PrivateKey.from_private_bytes(self.seed)

    def public_key(self) -> Ed25519PublicKey:
        """Return the key that verifies."""
        return Ed25519PublicKey.from_public_bytes(_decode(self.public))

    def public_jwk(self) -> dict[str, str]:
        """Return the key as it is published for the API."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": self.public,
            "kid": self.kid,
            "use": "sig",
            "alg": claims.ALGORITHM,
        }


def make_key(seed: bytes, *, now: datetime, activates_at: datetime) -> SigningKey:
    """Create a key from 32 random bytes."""
    raw = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return SigningKey(public=_encode(raw), seed=seed, created_at=now, activates_at=activates_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The published keys. ``rotation`` is the last request for a rotation that was carried out."""

    keys: tuple[SigningKey, ...] = ()
    active: str | None = None
    rotation: str = ""

    def find(self, kid: str) -> SigningKey | None:
        """Return the key with this id."""
        return next((key for key in self.keys if key.kid == kid), None)

    def state(self, key: SigningKey) -> KeyState:
        """Return what the key is used for."""
        if key.kid == self.active:
            return KeyState.ACTIVE
        return KeyState.NEXT if key.retired_at is None and key.seed is not None else KeyState.RETIRED

    @property
    def signing_key(self) -> SigningKey | None:
        """The key that signs now: the active one, or the next while there is none (the Secret was lost)."""
        for key in self.keys:
            if self.state(key) is KeyState.ACTIVE:
                return key
        return next((key for key in self.keys if self.state(key) is KeyState.NEXT), None)

    def jwks(self) -> dict[str, Any]:
        """Return the public keys (RFC 7517 §5)."""
        return {"keys": [key.public_jwk() for key in self.keys]}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """When keys change: the age at which one is replaced, and how long its successor is published before it signs."""

    period: timedelta
    lead: timedelta
    retain: timedelta = RETAIN


def advance(
    keys: KeySet, *, now: datetime, policy: KeyPolicy, requested: str, new_seed: Callable[[], bytes]
) -> tuple[KeySet, tuple[str, ...]]:
    """Return the desired key set, and what changed, in words for the log (without secrets).

    Args:
        keys: the present keys; empty if they are lost.
        now: the present time.
        policy: when keys change.
        requested: the latest request for a rotation (annotation ``attune.dev/rotate-keys``), empty for none.
        new_seed: returns 32 random bytes.
    """
    changes: list[str] = []
    kept = list(keys.keys)
    active = keys.active if keys.find(keys.active or "") else None
    rotation = keys.rotation

    due = [key for key in kept if key.retired_at is None and key.kid != active and key.activates_at <= now]
    if due:
        chosen = max(due, key=lambda key: key.activates_at)
        for index, key in enumerate(kept):
            if key.retired_at is None and key.kid != chosen.kid and key.activates_at <= now:
                kept[index] = replace(key, retired_at=now)
                changes.append(f"retired {key.kid}")
        active = chosen.kid
        changes.append(f"activated {active}")

    expired = [key for key in kept if key.retired_at is not None and key.retired_at + policy.retain <= now]
    for key in expired:
        kept.remove(key)
        changes.append(f"dropped {key.kid}")

    waiting = any(key.retired_at is None and key.kid != active for key in kept)
    signing = next((key for key in kept if key.kid == active), None)
    asked = bool(requested) and requested != rotation
    old = signing is not None and now >= signing.activates_at + policy.period
    if not waiting and (signing is None or asked or old):
        # Verifiers must have the key before it signs. Only if no key was ever published, there is no need to wait.
        activates_at = now + policy.lead if kept else now
        key = make_key(new_seed(), now=now, activates_at=activates_at)
        kept.append(key)
        why = "requested" if asked else "the active one is old" if old else "none could sign"
        changes.append(f"added {key.kid} ({why})")
        if activates_at <= now:
            active = key.kid
            changes.append(f"activated {active}")
    if asked:
        rotation = requested
    return KeySet(keys=tuple(kept), active=active, rotation=rotation), tuple(changes)


def next_change(keys: KeySet, policy: KeyPolicy) -> datetime | None:
    """Return when :func:`advance` will have something to do by time alone; None for never."""
    times = [key.activates_at for key in keys.keys if keys.state(key) is KeyState.NEXT]
    times += [key.retired_at + policy.retain for key in keys.keys if key.retired_at is not None]
    times += [key.activates_at + policy.period for key in keys.keys if keys.state(key) is KeyState.ACTIVE]
    return min(times, default=None)


def recovered(jwks: Mapping[str, Any], *, now: datetime) -> KeySet:
    """Return what is left if the Secret is lost: the published public halves, as retired keys.

    Keys that are not Ed25519, or are damaged, are left out.
    """
    found: dict[str, SigningKey] = {}
    listed = jwks.get("keys")
    for jwk in listed if isinstance(listed, list) else ():
        public = jwk.get("x") if isinstance(jwk, Mapping) and jwk.get("crv") == "Ed25519" else None
        try:
            if not isinstance(public, str) or len(_decode(public)) != 32:
                continue
        except ValueError:
            continue
        found[public] = SigningKey(public=public, seed=None, created_at=now, activates_at=now, retired_at=now)
    return KeySet(keys=tuple(found.values()))


def _time(value: Any, what: str) -> datetime:
    if not isinstance(value, str):
        raise ValueError(f"{what} is not a time")
    parsed = datetime.fromisoformat(value)
    if parsed.tzinfo is None:
        raise ValueError(f"{what} has no zone")
    return parsed.astimezone(UTC)


def dump(keys: KeySet) -> str:
    """Encode the key set with its private parts, as the Secret holds it."""
    entries = []
    for key in keys.keys:
        entry: dict[str, Any] = {
            **key.public_jwk(),
            "created_at": key.created_at.isoformat(),
            "activates_at": key.activates_at.isoformat(),
        }
        if key.seed is not None:
            entry["d"] = _encode(key.seed)
        if key.retired_at is not None:
            entry["retired_at"] = key.retired_at.isoformat()
        entries.append(entry)
    return json.dumps({"active": keys.active, "rotation": keys.rotation, "keys": entries}, indent=1)


def load(text: str) -> KeySet:
    """Read what :func:`dump` wrote.

    Raises:
        ValueError: the text is damaged. The message names no private part.
    """
    try:
        document = json.loads(text)
    except ValueError:
        raise ValueError("it is not JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("it is not a JSON Web Key Set")
    keys = []
    for entry in document["keys"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("x"), str):
            raise ValueError("a key has no public part")
        public = entry["x"]
        seed = None
        if "d" in entry:
            try:
                seed = _decode(entry["d"])
                right = make_key(seed, now=_EPOCH, activates_at=_EPOCH).public == public
            except (ValueError, TypeError):
                right = False
            if not right:
                raise ValueError(f"the private part of the key {thumbprint(public)} does not fit the public one")
        retired_at = entry.get("retired_at")
        keys.append(
            SigningKey(
                public=public,
                seed=seed,
                created_at=_time(entry.get("created_at"), "created_at"),
                activates_at=_time(entry.get("activates_at"), "activates_at"),
                retired_at=None if retired_at is None else _time(retired_at, "retired_at"),
            )
        )
    active = document.get("active")
    found = next((key for key in keys if key.kid == active), None)
    if active is not None and (found is None or found.seed is None):
        raise ValueError("the active key is not among the keys, or has no private part")
    return KeySet(keys=tuple(keys), active=active, rotation=str(document.get("rotation") or ""))


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
