"""Cursors: where a reader is, as text that only this module reads."""

import base64
import binascii
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

Order = Literal["asc", "desc"]

_LARGEST: Final = 2**63 - 1


class InvalidCursor(ValueError):  # noqa: N818 - read as a sentence: "raise InvalidCursor"
    """A cursor that this API did not make, or that belongs to another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The ``seq`` behind which the next page begins, in the direction of ``order``."""

    seq: int
    order: Order

    def encode(self) -> str:
        """The cursor as text for a URL."""
        return base64.urlsafe_b64encode(msgspec.json.encode([1, self.order, self.seq])).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, *, order: Order) -> "Cursor":
        """Read a cursor that goes on in ``order``.

        Raises:
            InvalidCursor: it is none of ours, or goes the other way.
        """
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            version, its_order, seq = msgspec.json.decode(raw, type=tuple[int, str, int])
        except (ValueError, binascii.Error, msgspec.MsgspecError):
            raise InvalidCursor("cursor is not one that this API gave out; leave it away to begin anew.") from None
        if version != 1 or not 0 <= seq <= _LARGEST:
            raise InvalidCursor("cursor is not one that this API gave out; leave it away to begin anew.")
        if its_order != order:
            raise InvalidCursor(f"cursor belongs to order={its_order}; use it with that.")
        return cls(seq=seq, order=order)


def encode_text(key: str) -> str:
    """A cursor of a list that is ordered by a text."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def decode_text(cursor: str) -> str:
    """Read a cursor of :func:`encode_text`.

    Raises:
        InvalidCursor: it is none of ours.
    """
    try:
        key = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (ValueError, binascii.Error):
        key = "\0"
    if "\0" in key:
        raise InvalidCursor("cursor is not one that this API gave out; leave it away to begin anew.")
    return key
