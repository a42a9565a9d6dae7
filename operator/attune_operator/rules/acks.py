"""The sensors' latest words, by rule.

An ack speaks for the binding that its subject names, and for the rule that its subject names: NATS lets a sensor publish
under its own prefix only, and nothing checks what it writes into the body. Only a word from the Rule's present binding
counts, so a sensor that speaks of other sensors' rules is not heard.
"""

import sys
from typing import Final

import msgspec

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import AckState, InvalidMessage, decode_ack
from attune_operator.rules.conditions import Word
from attune_operator.rules.inventory import Inventory

_MAX_MESSAGE: Final = 1024
#: Words on rules that are not known (yet) are kept up to this many, so that a sensor cannot fill the memory.
_MAX_STRANGERS: Final = 10_000


class AckEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A sensor's last word. ``binding`` is ``SensorRef.token``; ``seen`` as in ``view.StreamEntry``."""

    binding: str
    generation: int
    state: AckState
    message: str
    sequence: int
    seen: int

    @property
    def word(self) -> Word:
        """What the conditions are told."""
        return Word(generation=self.generation, state=self.state, message=self.message)


def parse_ack(*, subject: str, sequence: int, body: bytes, seen: int) -> tuple[str, AckEntry]:
    """Read a message of the ack stream.

    Returns:
        The rule's uid, as the subject names it, and the entry.

    Raises:
        InvalidMessage: it is not an ack, or speaks of another rule than its subject.
    """
    try:
        binding, uid = subjects.split_binding(subject)
    except ValueError as error:
        raise InvalidMessage(str(error)) from error
    ack = decode_ack(body)
    if ack.rule_uid != uid:
        raise InvalidMessage(f"it speaks of the rule {ack.rule_uid[:64]!r} on the subject of {uid!r}")
    return uid, AckEntry(
        binding=sys.intern(binding),
        generation=ack.generation,
        state=ack.state,
        message=ack.message[:_MAX_MESSAGE],
        sequence=sequence,
        seen=seen,
    )


class AckBook:
    """The last word of each sensor on each rule."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[AckEntry, ...]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, uid: str, entry: AckEntry, *, known_rules: int) -> bool:
        """Remember a word; returns whether it says something new.

        ``known_rules`` is how many Rules there are: words on many more rules than that are dropped.
        """
        present = self._entries.get(uid)
        if present is None:
            if len(self._entries) >= known_rules + _MAX_STRANGERS:
                return False
            self._entries[uid] = (entry,)
            return True
        others = []
        news = True
        for known in present:
            if known.binding != entry.binding:
                others.append(known)
            elif known.sequence > entry.sequence:
                return False
            else:
                news = known.word != entry.word
        self._entries[uid] = (*others, entry)
        return news

    def word(self, uid: str, sensor: SensorRef) -> Word | None:
        """What the sensor last said of the rule."""
        token = sensor.token
        for entry in self._entries.get(uid, ()):
            if entry.binding == token:
                return entry.word
        return None

    def of(self, uid: str) -> tuple[AckEntry, ...]:
        """Every sensor's word on the rule."""
        return self._entries.get(uid, ())

    def uids(self) -> list[str]:
        """Every rule that there is a word on."""
        return list(self._entries)

    def forget(self, uid: str, binding: str) -> None:
        """Drop one sensor's word on a rule."""
        remaining = tuple(entry for entry in self._entries.get(uid, ()) if entry.binding != binding)
        if remaining:
            self._entries[uid] = remaining
        else:
            self._entries.pop(uid, None)


def stale_acks(book: AckBook, *, inventory: Inventory) -> list[tuple[str, str]]:
    """Words that nobody will need: (rule's uid, binding).

    Those on Rules that a complete list, begun after the word came, does not have; and those of a binding that is not the
    Rule's any more, an interval later still, as a Rule may move back and forth.
    """
    found = []
    for uid in book.uids():
        tracked = inventory.rules.get(uid)
        sensor = tracked.acceptance.sensor if tracked is not None and tracked.acceptance is not None else None
        for entry in book.of(uid):
            if tracked is None:
                if entry.seen < inventory.listed:
                    found.append((uid, entry.binding))
            elif (sensor is None or entry.binding != sensor.token) and entry.seen < inventory.listed - 1:
                found.append((uid, entry.binding))
    return found
