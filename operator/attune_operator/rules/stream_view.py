"""What the operator knows of the rule stream: the last message of each subject, kept in the entries of the cache."""

from attune_contract.messages import InvalidMessageError, decode_rule
from attune_operator.rules.cache import RuleCache
from attune_operator.rules.entry import RuleEntry, StreamEntry


def entry_of(
    *, subject: str, sequence: int, tombstone: bool, body: bytes, seen: int, tombstone_at: float = 0.0
) -> StreamEntry:
    """Read a message of the stream.

    Something that cannot be read has generation -1: it is overwritten or gets a tombstone like any other state that is not the
    desired one.
    """
    try:
        generation = decode_rule(body).generation
    except InvalidMessageError:
        generation = -1
    return StreamEntry(
        subject=subject,
        sequence=sequence,
        generation=generation,
        tombstone=tombstone,
        body=b"" if tombstone else body,
        seen=seen,
        tombstone_at=tombstone_at if tombstone else 0.0,
    )


class StreamView:
    """Changes what is known of the stream. A Rule has more than one live entry only while its binding moves, or after
    somebody interfered.
    """

    def __init__(self, cache: RuleCache) -> None:
        self._cache = cache

    def put(self, uid: str, entry: StreamEntry) -> None:
        """Remember a subject's last message, unless a later one is known."""
        state, rule = self._cache.stream, self._cache.entry(uid)
        state.see(entry.sequence)
        others = []
        for known in rule.stream:
            if known.subject != entry.subject:
                others.append(known)
            elif known.sequence > entry.sequence:
                return
        self._set(rule, (*others, entry))

    def forget(self, uid: str, subject: str) -> None:
        """The subject has no message."""
        if (rule := self._cache.get(uid)) is not None:
            self._set(rule, tuple(entry for entry in rule.stream if entry.subject != subject))
            self._cache.release(rule)

    def clear(self) -> None:
        """Forget everything, before the stream is read again."""
        for rule in list(self._cache.entries()):
            self._set(rule, ())
            self._cache.release(rule)
        self._cache.stream.last_sequence = 0

    def forget_tombstones(self, *, set_before: float) -> int:
        """Drop tombstones that the stream has let go by now, and those of Rules that do not come back; returns how many.

        A tombstone of a Rule that there is (or may be, before the first complete list) is kept: the Rule may return to the
        subject, and then the tombstone has to be overwritten.
        """
        ended = [
            (rule.uid, entry.subject)
            for rule in self._cache.entries()
            for entry in rule.stream
            if entry.tombstone and (entry.tombstone_at < set_before or (rule.rule is None and self._cache.complete))
        ]
        for uid, subject in ended:
            self.forget(uid, subject)
        return len(ended)

    def _set(self, rule: RuleEntry, entries: tuple[StreamEntry, ...]) -> None:
        self._cache.stream.live += sum(not entry.tombstone for entry in entries)
        self._cache.stream.live -= sum(not entry.tombstone for entry in rule.stream)
        rule.stream = entries
