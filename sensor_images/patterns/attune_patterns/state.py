"""What is remembered of a rule, and how it is packed. Pure.

All times are microseconds since 1970.
"""

import heapq
import zlib
from collections.abc import Iterator
from typing import Final

import msgspec

#: Version of the packed form.
_FORM: Final = 1
_LARGEST: Final = 64 * 1024 * 1024


class Mark(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """An event that counts, in the order of time.

    Attributes:
        at: when it occurred; not after it was stored.
        seq: its place in the order of storage.
        member: whose event it is: the place of the rule's name among those that are listened to.
        hops: derived and emitted events in a row that ended with it.
        id: its id.
    """

    at: int
    seq: int
    member: int
    hops: int
    id: bytes


class KeyState(msgspec.Struct, array_like=True):
    """What is remembered of one key.

    Attributes:
        touched: the log's time when its last event came, or when it began.
        marks: its events, as far as they matter, in the order of time.
        count: a number of the operator's own.
        missing: its absence has made an event.
    """

    touched: int
    marks: list[Mark] = []
    count: int = 0
    missing: bool = False


class State(msgspec.Struct, kw_only=True):
    """What is remembered of a rule.

    Attributes:
        fingerprint: of the parameters it belongs to.
        began: since when.
        position: the ``seq`` up to which events are in it.
        clock: the log's time: up to then, everything was decided. It never goes back.
        keys: by key, the one that was idle the longest first.
        dropped: keys that were given up for want of room.
    """

    fingerprint: str
    began: int
    position: int
    clock: int
    keys: dict[str, KeyState] = {}
    dropped: int = 0


class _Packed(msgspec.Struct, array_like=True):
    form: int
    state: State


class PackedError(ValueError):
    """It is no packed state of ours."""


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Packed)


def pack(state: State) -> bytes:
    """A state as bytes."""
    return zlib.compress(_ENCODER.encode(_Packed(_FORM, state)), 1)


def unpack(packed: bytes) -> State:
    """The state again.

    Raises:
        PackedError: it is none, or of another version of this program.
    """
    try:
        unpacker = zlib.decompressobj()
        found = _DECODER.decode(unpacker.decompress(packed, _LARGEST))
    except (zlib.error, msgspec.MsgspecError) as error:
        raise PackedError(str(error)) from None
    if found.form != _FORM:
        raise PackedError(f"its form is {found.form}, and this program knows {_FORM}")
    return found.state


class Deadlines:
    """When which key is due, the earliest first. Each key is there once; it follows from the state, so it is not kept."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._armed: dict[str, int] = {}

    def arm(self, key: str, due: int) -> None:
        """The key is due then. What was said before, if that was earlier, stays, and is looked at again when it comes."""
        if (before := self._armed.get(key)) is None or due < before:
            self._armed[key] = due
            heapq.heappush(self._heap, (due, key))

    def next(self) -> int | None:
        """A time before which nothing is due; None when nothing is."""
        while self._heap and self._armed.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_until(self, time: int) -> Iterator[str]:
        """Take out keys that are due, the earliest first; those that are not due after all have to be armed again."""
        while (due := self.next()) is not None and due <= time:
            key = heapq.heappop(self._heap)[1]
            del self._armed[key]
            yield key
