"""What the operator knows of the rule stream: the last message of each subject, by rule."""

from collections.abc import Callable, Iterator

import msgspec

from attune_contract import subjects
from attune_contract.messages import InvalidMessage, decode_rule


class StreamEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The last message of a subject.

    ``body`` is the rule's state as it stands there; nothing for a tombstone, whose state nobody needs. ``seen`` is when we
    learnt of it, on the operator's own count (see :class:`~attune_operator.rules.inventory.Inventory`); 0: we wrote it
    ourselves. ``buried_at`` is in seconds since the epoch, for a tombstone; it ends by its own TTL.
    """

    subject: str
    sequence: int
    generation: int
    tombstone: bool
    body: bytes
    seen: int
    buried_at: float = 0.0

    @property
    def binding(self) -> str:
        """The binding's two tokens (``SensorRef.token``)."""
        return subjects.split_binding(self.subject)[0]


def entry_of(
    *, subject: str, sequence: int, tombstone: bool, body: bytes, seen: int, buried_at: float = 0.0
) -> StreamEntry:
    """Read a message of the stream.

    Something that cannot be read has generation -1: it is overwritten or buried like any other state that is not the
    wanted one.
    """
    try:
        generation = decode_rule(body).generation
    except InvalidMessage:
        generation = -1
    return StreamEntry(
        subject=subject,
        sequence=sequence,
        generation=generation,
        tombstone=tombstone,
        body=b"" if tombstone else body,
        seen=seen,
        buried_at=buried_at if tombstone else 0.0,
    )


class StreamView:
    """The entries by rule. A rule has one live entry, and more only while its binding moves or after somebody interfered."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[StreamEntry, ...]] = {}
        self.live = 0
        """How many subjects hold a state, and not a tombstone."""
        self.last_sequence = 0
        """The newest sequence that we know of. The stream having a newer one means that somebody else wrote."""

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, uid: str) -> tuple[StreamEntry, ...]:
        """What stands on the stream for a rule, tombstones included."""
        return self._entries.get(uid, ())

    def uids(self) -> Iterator[str]:
        """Every rule that the stream has something of."""
        return iter(self._entries)

    def put(self, uid: str, entry: StreamEntry) -> None:
        """Remember a subject's last message, unless a later one is known."""
        self.last_sequence = max(self.last_sequence, entry.sequence)
        others = []
        for known in self._entries.get(uid, ()):
            if known.subject != entry.subject:
                others.append(known)
            elif known.sequence > entry.sequence:
                return
        self._set(uid, (*others, entry))

    def _set(self, uid: str, entries: tuple[StreamEntry, ...]) -> None:
        before = self._entries.pop(uid, ())
        self.live += sum(not entry.tombstone for entry in entries) - sum(not entry.tombstone for entry in before)
        if entries:
            self._entries[uid] = entries

    def forget(self, uid: str, subject: str) -> None:
        """The subject has no message."""
        self._set(uid, tuple(entry for entry in self._entries.get(uid, ()) if entry.subject != subject))

    def forget_tombstones(self, *, buried_before: float, known: Callable[[str], bool]) -> int:
        """Drop tombstones that the stream has let go by now, and those of Rules that do not come back; returns how many.

        A tombstone of a Rule that is ``known`` is kept: the Rule may return to the subject, and then has to be written over
        it.
        """
        ended = [
            (uid, entry.subject)
            for uid, entries in self._entries.items()
            for entry in entries
            if entry.tombstone and (entry.buried_at < buried_before or not known(uid))
        ]
        for uid, subject in ended:
            self.forget(uid, subject)
        return len(ended)
