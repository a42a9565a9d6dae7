"""Ed25519 signatures (RFC 8032). The library is loaded when a rule first needs it: it takes 10 MiB."""

from typing import Final

#: Public keys of small order (the sign bit aside). For them signatures can be made without a private key.
_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(text)
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)


def is_public_key(key: bytes) -> bool:
    """Whether this can be a public key: 32 bytes, and not of small order."""
    return len(key) == 32 and key[:31] + bytes([key[31] & 0x7F]) not in _SMALL_ORDER


def verifies(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the signature is the key's over the message."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
