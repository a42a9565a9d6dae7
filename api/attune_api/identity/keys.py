"""Keys: the public ones that sensor tokens are verified with, and the private ones that they are signed with.

Both come as JSON Web Key Sets (RFC 7517) of Ed25519 keys (RFC 8037), in mounted files that change under the program.
"""

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from attune_kit.watched_file import WatchedFile

log = structlog.get_logger(__name__)


class KeysUnavailableError(Exception):
    """There are no keys to work with; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKeys:
    """Keys by ``kid``. ``version`` changes whenever they do."""

    version: int = 0
    by_id: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)

    def jwks(self) -> dict[str, Any]:
        """The set as JSON (RFC 7517 §5)."""
        return {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "kid": kid,
                    "use": "sig",
                    "alg": "EdDSA",
                    "x": _encode(key.public_bytes_raw()),
                }
                for kid, key in self.by_id.items()
            ]
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """The key that signs now."""

    kid: str
    private: Ed25519PrivateKey = field(repr=False)


#: Seconds between looks at the file of verification keys; a look costs up to 0.2 ms, which is much for every request.
_LOOK: Final = 0.5
_PRIVATE_MEMBERS: Final = frozenset({"d", "k", "p", "q"})


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("not text")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _members(data: bytes) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError("it is not JSON") from None  # the decoder's text could repeat a key
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError('it has no list "keys" (RFC 7517)')
    return [key for key in keys if isinstance(key, dict)], document


def parse_public(data: bytes) -> dict[str, Ed25519PublicKey]:
    """The Ed25519 keys of a JSON Web Key Set; keys of other kinds are left out (RFC 7517 §5).

    Raises:
        ValueError: it is no key set, or one of its Ed25519 keys is damaged.
    """
    found: dict[str, Ed25519PublicKey] = {}
    for key in _members(data)[0]:
        kid = key.get("kid")
        if key.get("kty") != "OKP" or key.get("crv") != "Ed25519" or not isinstance(kid, str) or not kid:
            continue
        if key.get("use", "sig") != "sig" or key.get("alg", "EdDSA") not in ("EdDSA", "Ed25519"):
            continue
        if _PRIVATE_MEMBERS & key.keys():
            raise ValueError(f"the key {kid!r} is a private one; this file is public")
        try:
            found[kid] = Ed25519PublicKey.from_public_bytes(_decode(key.get("x")))
        except (ValueError, binascii.Error):
            raise ValueError(f'the key {kid!r} has no valid "x"') from None
    return found


def _next(keys: list[Mapping[str, Any]]) -> Any:
    """The ``kid`` of the key that will sign first, None when none will."""
    waiting = [key for key in keys if "d" in key and not key.get("retired_at")]
    return min(waiting, key=lambda key: str(key.get("activates_at")), default={}).get("kid")


def parse_signing(data: bytes) -> SigningKey:
    """The key that ``active`` names in a JSON Web Key Set of private keys.

    While it names none (the keys were lost and created again, and the first of them is published for a while before it signs
    by itself), the next one, as the operator does for Sensors that have no token at all.

    Raises:
        ValueError: it is no such set, or the active key is missing or damaged. The text holds no key.
    """
    keys, document = _members(data)
    active = document.get("active") or _next(keys)
    if not isinstance(active, str):
        raise ValueError('it has no "active" with the kid of the key that signs')
    for key in keys:
        if key.get("kid") == active and key.get("kty") == "OKP" and key.get("crv") == "Ed25519":
            try:
                return SigningKey(kid=active, private=Ed25519PrivateKey.from_private_bytes(_decode(key.get("d"))))
            except (ValueError, binascii.Error):
                raise ValueError(f'the active key {active!r} has no valid "d"') from None
    raise ValueError(f"the active key {active!r} is not in it")


class VerificationKeys:
    """The keys in the JWKS file, as it is now.

    A file that is damaged or goes away later leaves the last good keys in force: tokens that were good stay good while
    somebody mends it.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = WatchedFile(path, bytes)
        self._clock = clock
        self._looked = float("-inf")
        self._seen = 0
        self._fault: str | None = None
        self._keys = PublicKeys()

    def current(self, *, at_once: bool = False) -> PublicKeys:
        """The keys in force.

        Args:
            at_once: look at the file now, and not only if that was longer than :data:`_LOOK` ago. For a key that is
                not known: it may just have been published.

        Raises:
            KeysUnavailableError: there never were any.
        """
        now = self._clock()
        if at_once or not self._keys.by_id or now - self._looked >= _LOOK:
            self._looked = now
            self._look()
        if not self._keys.by_id:
            raise KeysUnavailableError(
                f"There are no keys to verify sensor tokens with: {self._fault}. The operator writes them; "
                "see ATTUNE_API_JWKS_FILE."
            )
        return self._keys

    def _look(self) -> None:
        try:
            content = self._file.read()
        except OSError as error:
            self._report(str(error))
        else:
            if self._file.version != self._seen:
                self._seen = self._file.version
                self._load(content)

    def _load(self, content: bytes) -> None:
        try:
            keys = parse_public(content)
            if not keys:
                raise ValueError("it holds no Ed25519 key")
        except ValueError as error:
            self._report(f"{self._file.path} is no usable key set: {error}")
            return
        self._keys = PublicKeys(version=self._keys.version + 1, by_id=keys)
        self._fault = None
        log.info("verification_keys_loaded", file=str(self._file.path), kids=sorted(keys))

    def _report(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            log.error("verification_keys_unusable", reason=fault, kept=sorted(self._keys.by_id))


class SigningKeys:
    """The active key in the signing-keys file, as it is now."""

    def __init__(self, path: Path) -> None:
        self._file = WatchedFile(path, bytes)
        self._seen = 0
        self._key: SigningKey | None = None
        self._fault = ""

    def current(self) -> SigningKey:
        """The key that signs.

        Raises:
            KeysUnavailableError: the file is missing or damaged. An old key is not used further: it may have been withdrawn.
        """
        try:
            content = self._file.read()
        except OSError as error:
            raise KeysUnavailableError(f"The signing keys cannot be used: {error}.") from None
        if self._file.version != self._seen:
            self._seen = self._file.version
            try:
                self._key, self._fault = parse_signing(content), ""
                log.info("signing_key_loaded", kid=self._key.kid)
            except ValueError as error:
                self._key, self._fault = None, str(error)
                log.error("signing_keys_unusable", file=str(self._file.path), reason=self._fault)
        if self._key is None:
            raise KeysUnavailableError(f"The signing keys cannot be used: {self._fault}.")
        return self._key
