"""What is remembered of a rule, and how it is packed. Pure."""

from collections.abc import Iterable
from typing import Final

import msgspec

#: Version of the packed form.
_FORM: Final = 1
#: Versions of files that are remembered, those that were seen last: as many as one state can hold, less some room.
MOST_KNOWN: Final = 200_000
_MARK: Final = 8


class State(msgspec.Struct, kw_only=True):
    """What is remembered.

    Attributes:
        fingerprint: of the parameters it belongs to.
        known: marks of files that are stored, or were there before.
    """

    fingerprint: bytes
    known: dict[bytes, None] = {}

    def remember(self, marks: Iterable[bytes], *, seen: Iterable[bytes] = ()) -> None:
        """Remember files. Those that are gone for the longest give way.

        Args:
            marks: what is to be remembered.
            seen: what was there at the last look; it matters only when something has to give way.
        """
        self.known.update(dict.fromkeys(marks))
        if len(self.known) <= MOST_KNOWN:
            return
        for mark in seen:
            if mark in self.known:
                del self.known[mark]
                self.known[mark] = None
        for mark in list(self.known)[: len(self.known) - MOST_KNOWN]:
            del self.known[mark]


class _Packed(msgspec.Struct, array_like=True):
    form: int
    fingerprint: bytes
    known: bytes


_DECODER: Final = msgspec.msgpack.Decoder(_Packed)


def pack(state: State) -> bytes:
    """A state as bytes. Digests cannot be made shorter."""
    return msgspec.msgpack.encode(_Packed(_FORM, state.fingerprint, b"".join(state.known)))


def unpack(packed: bytes) -> State | None:
    """The state again; None when it is none of this version of the program."""
    try:
        found = _DECODER.decode(packed)
    except msgspec.MsgspecError:
        return None
    if found.form != _FORM:
        return None
    marks = (found.known[place : place + _MARK] for place in range(0, len(found.known), _MARK))
    return State(fingerprint=found.fingerprint, known=dict.fromkeys(marks))
