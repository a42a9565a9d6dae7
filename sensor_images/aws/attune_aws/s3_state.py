"""Which objects of a bucket are known, and how that is packed. Pure."""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

#: Version of the packed form.
_FORM: Final = 1
_MARK: Final = 8
#: Objects that one listing may have with ``order: time``: all of them are in memory, and each costs eight bytes at the API.
MOST_OBJECTS: Final = 100_000
#: Objects that are remembered by name once all that was listed is stored: those that were written last.
MOST_KNOWN: Final = 50_000


class Object(msgspec.Struct, frozen=True, kw_only=True):
    """An object as it is listed.

    Attributes:
        key: its key.
        etag: of its content.
        size: bytes.
        at: when it was written, in microseconds since 1970.
        storage: its storage class; empty when nobody says.
    """

    key: str
    etag: str
    size: int
    at: int
    storage: str = ""


class State(msgspec.Struct, kw_only=True):
    """What is remembered of a rule.

    Attributes:
        fingerprint: of the parameters it belongs to.
        marker: with ``order: name``, the key up to which everything is known.
        before: with ``order: time``, when what was written before this (microseconds since 1970) is known.
        known: marks of what was written later and is known.
    """

    fingerprint: bytes
    marker: str = ""
    before: int = 0
    known: set[bytes] = msgspec.field(default_factory=set)


def mark_of(found: Object, *, changes: bool) -> bytes:
    """Eight bytes for an object; with ``changes``, for this content and time of it."""
    name = f"{found.key}\0{found.etag}\0{found.at}" if changes else found.key
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_MARK).digest()


def new_in(state: State, listed: Iterable[Object], *, changes: bool) -> list[Object]:
    """What is not known, in the order in which it was written."""
    found = [each for each in listed if each.at >= state.before and mark_of(each, changes=changes) not in state.known]
    found.sort(key=lambda each: (each.at, each.key))
    return found


def settle(state: State, listed: Iterable[tuple[int, bytes]], *, most: int = MOST_KNOWN) -> None:
    """Everything that was listed is stored: remember that, and forget what is no longer there.

    With more objects than can be remembered by name, the time of the oldest of them speaks for all that are older.

    Args:
        state: what is remembered.
        listed: of each object, when it was written, and its mark.
        most: how many to remember by name.
    """
    kept = [(at, mark) for at, mark in listed if at >= state.before]
    if len(kept) > most:
        state.before = sorted(at for at, _ in kept)[len(kept) - most]
        kept = [(at, mark) for at, mark in kept if at >= state.before]
    state.known = {mark for _, mark in kept}


class _Packed(msgspec.Struct, array_like=True):
    form: int
    fingerprint: bytes
    marker: str
    before: int
    known: bytes


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Packed)


def pack(state: State) -> bytes:
    """A state as bytes."""
    known = b"".join(sorted(state.known))
    return _ENCODER.encode(_Packed(_FORM, state.fingerprint, state.marker, state.before, known))


def unpack(packed: bytes) -> State | None:
    """The state again; None when it is none of this version of the program."""
    try:
        found = _DECODER.decode(packed)
    except msgspec.MsgspecError:
        return None
    if found.form != _FORM:
        return None
    marks = {found.known[place : place + _MARK] for place in range(0, len(found.known), _MARK)}
    return State(fingerprint=found.fingerprint, marker=found.marker, before=found.before, known=marks)
