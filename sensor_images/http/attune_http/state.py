"""What is remembered of a rule, and how it is packed. Pure."""

import zlib
from collections.abc import Iterable
from typing import Final

import msgspec

#: Version of the packed form.
_FORM: Final = 1
#: Items that are remembered, those that were listed last.
MOST_KNOWN: Final = 50_000
_MARK: Final = 8
_LARGEST: Final = 16 * 1024 * 1024


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A change that may not be stored yet.

    Attributes:
        encoding: of the body.
        raw: the bytes of which its body is made; empty when they are too many.
        size: how many bytes it has.
        at: when it was seen, in microseconds since 1970.
        etag: with which it came.
    """

    encoding: str
    raw: bytes
    size: int
    at: int
    etag: str


class State(msgspec.Struct, kw_only=True):
    """What is remembered.

    Attributes:
        fingerprint: of the parameters it belongs to.
        began: since when, in microseconds since 1970.
        etag, modified: of the last answer, all of which is in here; empty without one.
        known: marks of items that are stored, or were there before.
        number: of the last change.
        digest: of what was there last.
        change: the last change, as long as it may not be stored.
    """

    fingerprint: bytes
    began: int
    etag: str = ""
    modified: str = ""
    known: dict[bytes, None] = {}
    number: int = 0
    digest: bytes = b""
    change: Change | None = None

    def remember(self, marks: Iterable[bytes]) -> None:
        """Remember items. Those that were not listed for the longest give way."""
        for mark in marks:
            self.known.pop(mark, None)
            self.known[mark] = None
        if (more := len(self.known) - MOST_KNOWN) > 0:
            for mark in list(self.known)[:more]:
                del self.known[mark]


class _Packed(msgspec.Struct, array_like=True):
    form: int
    fingerprint: bytes
    began: int
    etag: str
    modified: str
    known: bytes
    number: int
    digest: bytes
    change: Change | None


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Packed)


def pack(state: State) -> bytes:
    """A state as bytes."""
    packed = _Packed(
        _FORM,
        state.fingerprint,
        state.began,
        state.etag,
        state.modified,
        b"".join(state.known),
        state.number,
        state.digest,
        state.change,
    )
    return zlib.compress(_ENCODER.encode(packed), 1)


def unpack(packed: bytes) -> State | None:
    """The state again; None when it is none of this version of the program."""
    try:
        found = _DECODER.decode(zlib.decompressobj().decompress(packed, _LARGEST))
    except (zlib.error, msgspec.MsgspecError):
        return None
    if found.form != _FORM:
        return None
    marks = (found.known[place : place + _MARK] for place in range(0, len(found.known), _MARK))
    return State(
        fingerprint=found.fingerprint,
        began=found.began,
        etag=found.etag,
        modified=found.modified,
        known=dict.fromkeys(marks),
        number=found.number,
        digest=found.digest,
        change=found.change,
    )
