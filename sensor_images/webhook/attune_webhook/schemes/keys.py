"""From the text of a secret to the key that a sender signs with. A text that cannot be a key is refused, never guessed at."""

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from attune_webhook.schemes import ed25519
from attune_webhook.schemes.model import KeyFormat, Variant

#: A shorter key can be found by trying; bytes, after decoding.
SHORTEST_KEY: Final = 8
#: Prefixes of Standard Webhooks' asymmetric keys. The public one is no secret, so it must never become an HMAC key.
_ASYMMETRIC: Final = (b"whpk_", b"whsk_")
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


class UnusableSecretError(Exception):
    """The text of a secret cannot be a key of the scheme. The message says why, without the text."""


def key_of(variants: Sequence[Variant], secret: bytes) -> tuple[int, bytes]:
    """The variant that a secret belongs to, by its position, and the key that senders derive from the secret.

    Args:
        variants: how the sender shows who it is.
        secret: the secret's text, as its file holds it.

    Raises:
        UnusableSecretError: the text cannot be a key.
    """
    text = _shown(secret)
    for number, variant in enumerate(variants):
        if not variant.secret_prefixes or text.startswith(tuple(each.encode() for each in variant.secret_prefixes)):
            return number, derive(variant.key, secret)
    raise UnusableSecretError("no key of this type begins so")


def derive(key_format: KeyFormat, secret: bytes) -> bytes:
    """The key that a secret is.

    Raises:
        UnusableSecretError: the text cannot be a key of this format.
    """
    match key_format:
        case KeyFormat.TEXT:
            _refuse_asymmetric(secret)
            key = secret
        case KeyFormat.BASE64:
            key = _decoded(secret.strip())
        case KeyFormat.HEX:
            key = _from_hex(secret)
        case KeyFormat.WHSEC:
            text = _shown(secret)
            _refuse_asymmetric(text)
            key = _decoded(text.removeprefix(b"whsec_"))
        case KeyFormat.WHPK:
            return _public(_decoded(_shown(secret).removeprefix(b"whpk_")))
        case KeyFormat.ED25519_HEX:
            return _public(_from_hex(secret))
        case KeyFormat.USER:
            return _user_and_password(secret)
    # HMAC pads keys with NULs (RFC 2104), so a key of NULs alone signs like the empty key.
    return _long_enough(key, len(key.rstrip(b"\0")))


def _shown(secret: bytes) -> bytes:
    """A secret without the version that some senders show before it (``v1,whsec_…``)."""
    text = secret.strip()
    for version in (b"v1,", b"v1a,"):
        if text.startswith((version + b"whsec_", version + b"whpk_", version + b"whsk_")):
            return text.removeprefix(version)
    return text


def _refuse_asymmetric(text: bytes) -> None:
    if _shown(text).startswith(_ASYMMETRIC):
        prefix = _shown(text)[:5].decode()
        raise UnusableSecretError(
            f"it is a {prefix} key, which is for Ed25519; this type signs with HMAC or sends tokens"
        )


def _decoded(text: bytes) -> bytes:
    """Base64 with or without its padding, in the standard or the URL-safe alphabet."""
    bare = text.rstrip(b"=").translate(_URL_SAFE)
    try:
        return base64.b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
    except binascii.Error:
        raise UnusableSecretError("it is not base64") from None


def _from_hex(secret: bytes) -> bytes:
    try:
        return bytes.fromhex(secret.strip().decode("ascii"))
    except ValueError:
        raise UnusableSecretError("it is not hexadecimal") from None


def _public(key: bytes) -> bytes:
    if not ed25519.is_public_key(key):
        raise UnusableSecretError("it is not an Ed25519 public key of 32 bytes")
    return key


def _user_and_password(secret: bytes) -> bytes:
    user, _, password = secret.partition(b":")
    if not user or not password:
        raise UnusableSecretError("it is not user:password")
    _long_enough(password, len(password))
    return secret


def _long_enough(key: bytes, length: int) -> bytes:
    if length < SHORTEST_KEY:
        raise UnusableSecretError(f"its key has {length} bytes; at least {SHORTEST_KEY} are needed")
    return key
