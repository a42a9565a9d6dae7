"""The part of the library ``nkeys`` that the SDK uses, without libsodium: Ed25519 signatures (RFC 8032) in plain Python.

It becomes the module ``nkeys`` inside the zipapp. A signature takes some milliseconds, and one is made for each connection to
NATS. Unlike libsodium's its time depends on the key; what it signs is chosen by the NATS server that it connects to.
"""

import base64
import binascii
import hashlib
from typing import Final

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, _P - 2, _P) % _P

#: A point in extended homogeneous coordinates (RFC 8032, section 5.1.4).
_Point = tuple[int, int, int, int]

_BASE_Y: Final = 4 * pow(5, _P - 2, _P) % _P
_BASE_X: Final = 15112221349535400772501151409588531511454012693041857206046113283949847762202
_BASE: Final[_Point] = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P)

#: The first byte of a seed's prefix (nkeys, "SEED"), and the seed's length with its two bytes of prefix.
_SEED_PREFIX: Final = 18 << 3
_SEED_BYTES: Final = 34


class NkeysError(Exception):
    """The seed is none."""


class KeyPair:
    """A key pair made from a seed.

    Args:
        seed: 32 bytes.
    """

    def __init__(self, seed: bytes) -> None:
        digest = hashlib.sha512(seed).digest()
        scalar = int.from_bytes(digest[:32], "little")
        self._scalar = scalar & ((1 << 254) - 8) | (1 << 254)
        self._prefix = digest[32:]
        self._public = _encoded(_multiplied(self._scalar, _BASE))

    def sign(self, data: bytes) -> bytes:
        """The signature of ``data`` (RFC 8032, section 5.1.6), 64 bytes."""
        nonce = _digest(self._prefix + data)
        point = _encoded(_multiplied(nonce, _BASE))
        challenge = _digest(point + self._public + data)
        return point + ((nonce + challenge * self._scalar) % _ORDER).to_bytes(32, "little")

    def wipe(self) -> None:
        """Forget the key, as far as Python lets one."""
        self._scalar, self._prefix = 0, b""


def from_seed(seed: bytes | bytearray) -> KeyPair:
    """Read a seed as ``nats.creds`` has it.

    Raises:
        NkeysError: it is none.
    """
    text = bytes(seed)
    try:
        raw = base64.b32decode(text + b"=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise NkeysError("the seed is not in base 32") from None
    body, check = raw[:-2], raw[-2:]
    if len(body) != _SEED_BYTES or body[0] & 0xF8 != _SEED_PREFIX:
        raise NkeysError("not a seed")
    if binascii.crc_hqx(body, 0).to_bytes(2, "little") != check:
        raise NkeysError("the seed's checksum is wrong")
    return KeyPair(body[2:])


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.sha512(data).digest(), "little") % _ORDER


def _added(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _multiplied(scalar: int, point: _Point) -> _Point:
    result: _Point = (0, 1, 1, 0)
    while scalar > 0:
        if scalar & 1:
            result = _added(result, point)
        point = _added(point, point)
        scalar >>= 1
    return result


def _encoded(point: _Point) -> bytes:
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")
