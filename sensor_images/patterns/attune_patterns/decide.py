"""What follows from an event, or from the time, for one rule. Pure: the state is handed over and comes back changed.

The time is the log's: an event brings the time at which the API received it, and :meth:`Decider.advance` that at which the API
was asked and had nothing further. Everything that is due by then is decided first. So the same log gives the same events with the
same ids, however often it is read, from whichever state, by however many pods.
"""

import msgspec

from attune_patterns.operators import Fired, Operator
from attune_patterns.state import Deadlines, KeyState, Mark, State


class Pattern(msgspec.Struct, frozen=True, kw_only=True):
    """A rule's parameters, as far as they decide.

    Attributes:
        operator: what is made of a key's events.
        most_keys: keys that are remembered at most.
        expected: keys that are there from the beginning, and are never given up.
    """

    operator: Operator
    most_keys: int
    expected: frozenset[str] = frozenset()


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An event that counts: its key, when the API received it, and what is remembered of it."""

    key: str
    received: int
    mark: Mark


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, for which key."""

    key: str
    fired: Fired


def begin(pattern: Pattern, *, fingerprint: str, now: int, position: int) -> State:
    """The state of a rule that begins now.

    Args:
        pattern: the rule's.
        fingerprint: of its parameters.
        now: the API's time.
        position: the ``seq`` of the newest event there is.
    """
    keys = {key: KeyState(touched=now) for key in sorted(pattern.expected)}
    return State(fingerprint=fingerprint, began=now, position=position, clock=now, keys=keys)


class Decider:
    """Decides for one rule.

    Args:
        pattern: the rule's.
        state: what is remembered of it. It belongs to this object from now on.
    """

    def __init__(self, pattern: Pattern, state: State) -> None:
        self._pattern = pattern
        self._deadlines = Deadlines()
        self.state = state
        for key, known in state.keys.items():
            self._arm(key, known)

    @property
    def next_deadline(self) -> int | None:
        """A time before which nothing can happen by itself; None when nothing can."""
        return self._deadlines.next()

    def advance(self, now: int) -> list[Outcome]:
        """Time has passed, and all that was stored before ``now`` was taken."""
        state = self.state
        state.clock = max(state.clock, now)
        outcomes: list[Outcome] = []
        for key in self._deadlines.pop_until(state.clock):
            known = state.keys.get(key)
            if known is None:
                continue
            due = self._pattern.operator.due(known)
            if due is not None and due <= state.clock:
                fired, keep = self._pattern.operator.expired(key, known)
                if fired is not None:
                    outcomes.append(Outcome(key=key, fired=fired))
                if not keep:
                    del state.keys[key]
                    continue
            self._arm(key, known)
        return outcomes

    def take(self, seen: Seen, *, judge: bool = True) -> list[Outcome]:
        """An event came. Those of a ``seq`` that is in the state already change nothing.

        Args:
            seen: the event.
            judge: whether what is due by then is decided before; not while sensors still deliver what they could not before.
        """
        state = self.state
        if seen.mark.seq <= state.position:
            return []
        outcomes = self.advance(seen.received) if judge else []
        state.position = seen.mark.seq
        now = max(state.clock, seen.received)
        known = state.keys.pop(seen.key, None)
        if known is None:
            self._make_room()
            known = KeyState(touched=now)
        fired = self._pattern.operator.heard(seen.key, known, seen.mark, now)
        known.touched = now
        state.keys[seen.key] = known
        self._arm(seen.key, known)
        if fired is not None:
            outcomes.append(Outcome(key=seen.key, fired=fired))
        return outcomes

    def skip(self, position: int) -> None:
        """All up to this ``seq`` was looked at."""
        self.state.position = max(self.state.position, position)

    def _arm(self, key: str, known: KeyState) -> None:
        if (due := self._pattern.operator.due(known)) is not None:
            self._deadlines.arm(key, due)

    def _make_room(self) -> None:
        """Give up the keys that were idle the longest."""
        keys = self.state.keys
        while len(keys) >= self._pattern.most_keys:
            idle = next((key for key in keys if key not in self._pattern.expected), None)
            if idle is None:
                return
            del keys[idle]
            self.state.dropped += 1
