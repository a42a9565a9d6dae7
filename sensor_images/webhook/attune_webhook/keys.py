"""From the text of a secret to the key that a scheme signs with. A text that cannot be a key is refused, never guessed at."""

import base64
import binascii
from typing import Final

from attune_webhook.parameters import Scheme

#: A shorter key can be found by trying; bytes, after decoding.
SHORTEST_KEY: Final = 8
#: Prefixes of Standard Webhooks' asymmetric keys. The public one is no secret, so it must never become an HMAC key.
_ASYMMETRIC: Final = (b"whpk_", b"whsk_")


class UnusableSecretError(Exception):
    """The text of a secret cannot be a key of the scheme. The message says why, without the text."""


def key_of(scheme: Scheme, secret: bytes) -> bytes:
    """The key that the scheme's senders derive from a secret.

    Args:
        scheme: how requests are signed.
        secret: the secret's text, as its file holds it.

    Raises:
        UnusableSecretError: the text cannot be a key of this scheme.
    """
    if scheme is Scheme.STANDARD:
        secret = _standard_key(secret)
    # HMAC pads keys with NULs (RFC 2104), so a key of NULs alone signs like the empty key.
    length = len(secret.rstrip(b"\0"))
    if length < SHORTEST_KEY:
        raise UnusableSecretError(f"its key has {length} bytes; at least {SHORTEST_KEY} are needed")
    return secret


def _standard_key(secret: bytes) -> bytes:
    """Standard Webhooks shows its keys in base64: with ``whsec_`` before them, with ``v1,whsec_``, or bare.

    Padding may be missing, and the URL-safe alphabet is accepted.
    """
    text = secret.strip().removeprefix(b"v1,")
    if text.startswith(_ASYMMETRIC):
        prefix = text[:5].decode()
        raise UnusableSecretError(f"it is a {prefix} key, which signs with Ed25519; type standard needs a whsec_ key")
    text = text.removeprefix(b"whsec_").rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise UnusableSecretError("it is not base64; type standard needs a key like whsec_<base64>") from None
