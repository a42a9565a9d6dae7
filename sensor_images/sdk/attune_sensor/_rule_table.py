"""The rules that a sensor knows: pure state, changed by snapshots and live messages (docs/sensor-protocol.md)."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from attune_contract.messages import RuleState
from attune_sensor._rules import Rule

_NONE: Final[Mapping[str, int | None]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RuleChange:
    """What became of one rule: new (``old`` is None), gone (``new`` is None) or changed."""

    uid: str
    old: Rule | None
    new: Rule | None


class RuleTable:
    """All rules bound to this sensor, disabled ones too.

    The truth is the stream. Within it, order is given by the generation: a lower one than what is known is a repetition
    or was overtaken, and is dropped.
    """

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}
        # Generations of rules that a live tombstone took away, so that an overtaken message does not bring one back. A
        # snapshot is complete and in order, so these live only until the next one.
        self._removed: dict[str, int] = {}
        # Rules that the last snapshot lacked without a tombstone, and since when (seconds, as the caller counts them).
        self._missing: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules.values())

    @property
    def missing(self) -> int:
        """How many rules are kept although the last snapshot lacked them."""
        return len(self._missing)

    def get(self, uid: str) -> Rule | None:
        """The rule with this uid; None when it is not bound to this sensor."""
        return self._rules.get(uid)

    def put(self, rule: Rule) -> RuleChange | None:
        """Apply a live message with a rule's state; None when it changes nothing."""
        uid = rule.uid
        old = self._rules.get(uid)
        if old is not None and old.state == rule.state:
            self._missing.pop(uid, None)
        if not _supersedes(rule, old) or rule.generation < self._removed.get(uid, rule.generation):
            return None
        self._rules[uid] = rule
        self._removed.pop(uid, None)
        self._missing.pop(uid, None)
        return RuleChange(uid, old, rule)

    def remove(self, uid: str, last: RuleState | None) -> RuleChange | None:
        """Apply a live tombstone; None when it changes nothing.

        Args:
            uid: the rule's uid, from the subject.
            last: the state that the tombstone carries; None when it carries none.
        """
        old = self._rules.get(uid)
        if old is not None and last is not None and last.generation < old.generation:
            return None
        if last is not None:
            self._removed[uid] = max(last.generation, self._removed.get(uid, 0))
        if old is None:
            return None
        del self._rules[uid]
        self._missing.pop(uid, None)
        return RuleChange(uid, old, None)

    def replace(
        self,
        snapshot: Mapping[str, Rule],
        *,
        now: float,
        patience: float,
        tombstones: Mapping[str, int | None] = _NONE,
        unreadable: AbstractSet[str] = frozenset(),
    ) -> list[RuleChange]:
        """Swap the whole state for a complete snapshot.

        What has a tombstone is deleted, unless the tombstone is about an older generation than what is known: then it
        is a repetition, or was overtaken, and counts as absence. What is absent is deleted too, but only when a
        snapshot taken ``patience`` later lacks it as well: a stream that was wiped is filled again by the operator, and
        a snapshot taken meanwhile is complete and yet lacks rules that nobody deleted.

        Args:
            snapshot: every rule in the stream, by uid.
            now: seconds, monotonic.
            patience: for how long a rule must be absent, in seconds.
            tombstones: uids that have a tombstone, and the generation that it carries (None: it carries none).
            unreadable: uids whose message could not be read; what is known of them stays.
        """
        changes: list[RuleChange] = []
        after: dict[str, Rule] = {}
        missing: dict[str, float] = {}
        for uid, rule in snapshot.items():
            old = self._rules.get(uid)
            if _supersedes(rule, old):
                changes.append(RuleChange(uid, old, rule))
                after[uid] = rule
            elif old is not None:
                after[uid] = old
        for uid, old in self._rules.items():
            if uid in after:
                continue
            if uid in unreadable:
                after[uid] = old
                continue
            since = self._missing.get(uid, now)
            if _covers(tombstones.get(uid, -1), old) or now - since >= patience:
                changes.append(RuleChange(uid, old, None))
            else:
                after[uid] = old
                missing[uid] = since
        self._rules = after
        self._missing = missing
        self._removed.clear()
        return changes


def _covers(generation: int | None, old: Rule) -> bool:
    """Whether a tombstone of this generation (None: of any) is meant for what is known; -1: there is no tombstone."""
    return generation is None or generation >= old.generation


def _supersedes(new: Rule, old: Rule | None) -> bool:
    """Whether ``new`` replaces ``old``: its generation is not lower, and it differs."""
    return old is None or (new.generation >= old.generation and new.state != old.state)
