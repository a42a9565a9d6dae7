"""Cursors: where a reader is, as text that only this module reads."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import msgspec

Order = Literal["asc", "desc"]

_VERSION: Final = 1
_LARGEST: Final = 2**63 - 1
_FOREIGN: Final = "cursor is not one that this API gave out; leave it out to start from the beginning."
_T = TypeVar("_T")


class InvalidCursorError(ValueError):
    """A cursor that this API did not make, or that belongs to another order."""


def _encode(*members: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([_VERSION, *members])).decode().rstrip("=")


def _decode(cursor: str, shape: type[_T]) -> _T:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=shape)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise InvalidCursorError(_FOREIGN) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The ``seq`` behind which the next page begins, in the direction of ``order``."""

    seq: int
    order: Order

    def encode(self) -> str:
        """The cursor as text for a URL."""
        return _encode(self.order, self.seq)

    @classmethod
    def decode(cls, text: str, *, order: Order) -> "Cursor":
        """Read a cursor that goes on in ``order``.

        Raises:
            InvalidCursorError: it is none of ours, or goes the other way.
        """
        version, its_order, seq = _decode(text, tuple[int, str, int])
        if version != _VERSION or its_order not in ("asc", "desc") or not 0 <= seq <= _LARGEST:
            raise InvalidCursorError(_FOREIGN)
        if its_order != order:
            raise InvalidCursorError(f"cursor belongs to order={its_order}; use it with that.")
        return cls(seq=seq, order=order)


def encode_text(key: str) -> str:
    """A cursor of a list that is ordered by a text."""
    return _encode(key)


def decode_text(cursor: str) -> str:
    """Read a cursor of :func:`encode_text`.

    Raises:
        InvalidCursorError: it is none of ours.
    """
    version, key = _decode(cursor, tuple[int, str])
    if version != _VERSION or "\0" in key:
        raise InvalidCursorError(_FOREIGN)
    return key
