"""What each trigger type makes of one key's events. Pure.

An operator sees a key's events in the order of storage, and between them the time of the log: when the API received the event, or
when it was asked and had nothing further. So what it decides follows from what is stored, and not from when somebody looked.
"""

import bisect
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from attune_patterns.state import KeyState, Mark

SECOND: Final = 1_000_000
#: An event that came late, from a sensor's spool, is followed by others of that spool: so long nothing is held to be missing.
LATE: Final = 15 * SECOND
#: Events that a sequence looks at for each key.
MOST_MARKS: Final = 64


class Fired(msgspec.Struct, frozen=True):
    """Something that a rule asks for.

    Attributes:
        occurrence: its name, which makes the event's id.
        at: when it occurred.
        status: what happened, for people and conditions.
        count: how many events it is made of.
        marks: these, or the last of them.
    """

    occurrence: str
    at: int
    status: str
    count: int
    marks: Sequence[Mark]


class Operator(Protocol):
    """One trigger type with its parameters."""

    def heard(self, key: str, state: KeyState, mark: Mark, now: int) -> Fired | None:
        """An event came. ``state`` is changed; ``now`` is the log's time."""

    def due(self, state: KeyState) -> int | None:
        """When :meth:`expired` has to be called, by the log's time; None: never, unless another event comes."""

    def expired(self, key: str, state: KeyState) -> tuple[Fired | None, bool]:
        """It is due. ``state`` is changed; returns what happened, and whether the key is to be remembered."""


class Count:
    """N events within a window."""

    def __init__(self, *, count: int, window: int) -> None:
        self._count = count
        self._window = window

    def heard(self, key: str, state: KeyState, mark: Mark, now: int) -> Fired | None:
        """See :class:`Operator`."""
        marks = _within(state, mark, self._window)
        if len(marks) < self._count:
            return None
        state.marks = []
        return Fired(f"count/{key}/{marks[0].seq}/{mark.seq}", marks[-1].at, "reached", len(marks), marks)

    def due(self, state: KeyState) -> int | None:
        """See :class:`Operator`."""
        return state.touched + self._window

    def expired(self, key: str, state: KeyState) -> tuple[Fired | None, bool]:
        """See :class:`Operator`."""
        return None, False


class All(Count):
    """An event of each rule within a window."""

    def __init__(self, *, members: int, window: int) -> None:
        super().__init__(count=members, window=window)

    def heard(self, key: str, state: KeyState, mark: Mark, now: int) -> Fired | None:
        """See :class:`Operator`."""
        latest = {each.member: each for each in _within(state, mark, self._window)}
        state.marks = sorted(latest.values())
        if len(latest) < self._count:
            return None
        marks, state.marks = state.marks, []
        return Fired(f"all/{key}/{marks[0].seq}/{mark.seq}", marks[-1].at, "complete", len(marks), marks)


class InOrder(Count):
    """Events of certain rules in a certain order within a window."""

    def __init__(self, *, steps: Sequence[int], window: int) -> None:
        super().__init__(count=len(steps), window=window)
        self._steps = tuple(steps)

    def heard(self, key: str, state: KeyState, mark: Mark, now: int) -> Fired | None:
        """See :class:`Operator`."""
        state.marks = _within(state, mark, self._window)[-MOST_MARKS:]
        # From the end, each as late as it can be: so the whole is as short as it can be.
        for end in range(len(state.marks) - 1, -1, -1):
            chain: list[Mark] = []
            for each in reversed(state.marks[: end + 1]):
                if each.member == self._steps[-1 - len(chain)]:
                    chain.insert(0, each)
                elif not chain:
                    break
                if len(chain) == len(self._steps):
                    state.marks = []
                    return Fired(
                        f"sequence/{key}/{chain[0].seq}/{mark.seq}", chain[-1].at, "complete", len(chain), chain
                    )
        return None


class Debounce:
    """Events that are followed by a time without any."""

    def __init__(self, *, quiet: int) -> None:
        self._quiet = quiet

    def heard(self, key: str, state: KeyState, mark: Mark, now: int) -> Fired | None:
        """See :class:`Operator`."""
        # The one in between may be part of a loop.
        hops = max(each.hops for each in (*state.marks, mark))
        state.marks = [*state.marks[:1], msgspec.structs.replace(mark, hops=hops)]
        state.count += 1
        return None

    def due(self, state: KeyState) -> int | None:
        """See :class:`Operator`."""
        return state.touched + self._quiet

    def expired(self, key: str, state: KeyState) -> tuple[Fired | None, bool]:
        """See :class:`Operator`."""
        last = state.marks[-1]
        at = state.touched + self._quiet
        return Fired(f"debounce/{key}/{last.seq}", at, "quiet", state.count, state.marks), False


class Throttle:
    """The first event, and no other for a time."""

    def __init__(self, *, every: int) -> None:
        self._every = every

    def heard(self, key: str, state: KeyState, mark: Mark, now: int) -> Fired | None:
        """See :class:`Operator`. ``count`` is when the last one was let through, by the log's time."""
        if state.count and now < state.count + self._every:
            return None
        state.count = now
        return Fired(f"throttle/{key}/{mark.seq}", mark.at, "passed", 1, [mark])

    def due(self, state: KeyState) -> int | None:
        """See :class:`Operator`."""
        return state.count + self._every

    def expired(self, key: str, state: KeyState) -> tuple[Fired | None, bool]:
        """See :class:`Operator`."""
        return None, False


class Absent:
    """A heartbeat that did not come within a time after the one before."""

    def __init__(self, *, within: int, tells_return: bool) -> None:
        self._within = within
        self._tells_return = tells_return

    def heard(self, key: str, state: KeyState, mark: Mark, now: int) -> Fired | None:
        """See :class:`Operator`."""
        before = state.marks[-1] if state.marks else None
        if before is not None and mark.at < before.at:
            return None
        state.marks = [mark]
        was_missing, state.missing = state.missing, False
        if was_missing and self._tells_return:
            return Fired(f"back/{key}/{mark.seq}", mark.at, "back", 1, [mark])
        return None

    def due(self, state: KeyState) -> int | None:
        """See :class:`Operator`."""
        if state.missing:
            return None
        return max(self._since(state) + self._within, state.touched + min(self._within, LATE))

    def expired(self, key: str, state: KeyState) -> tuple[Fired | None, bool]:
        """See :class:`Operator`."""
        state.missing = True
        last = f"{state.marks[-1].seq}" if state.marks else f"since {state.touched}"
        at = self._since(state) + self._within
        return Fired(f"absent/{key}/{last}", at, "missing", 0, state.marks), True

    @staticmethod
    def _since(state: KeyState) -> int:
        return state.marks[-1].at if state.marks else state.touched


class AbsentAt:
    """A heartbeat that did not come within a time before a time of the calendar.

    Args:
        within: how long before it counts.
        next_time: the first such time after another one; None when there is none.
        tells_return: whether the first heartbeat after a missing one makes an event.
    """

    def __init__(self, *, within: int, next_time: Callable[[int], int | None], tells_return: bool) -> None:
        self._within = within
        self._next_time = next_time
        self._tells_return = tells_return

    def heard(self, key: str, state: KeyState, mark: Mark, now: int) -> Fired | None:
        """See :class:`Operator`. ``count`` is the time up to which is decided, or nothing is expected yet."""
        state.count = state.count or state.touched + self._within
        due = self.due(state)
        marks = sorted([*state.marks, mark])
        in_time = [each for each in marks if due is None or each.at <= due][-1:]
        state.marks = [*in_time, *[each for each in marks if due is not None and each.at > due][-1:]]
        was_missing, state.missing = state.missing, False
        if was_missing and self._tells_return:
            return Fired(f"back/{key}/{mark.seq}", mark.at, "back", 1, [mark])
        return None

    def due(self, state: KeyState) -> int | None:
        """See :class:`Operator`."""
        return self._next_time(state.count or state.touched + self._within)

    def expired(self, key: str, state: KeyState) -> tuple[Fired | None, bool]:
        """See :class:`Operator`."""
        at = self.due(state)
        if at is None:
            return None, True
        state.count = at
        if any(at - self._within < each.at <= at for each in state.marks):
            return None, True
        state.missing = True
        return Fired(f"absent/{key}/at {at}", at, "missing", 0, [each for each in state.marks if each.at <= at]), True


def _within(state: KeyState, mark: Mark, window: int) -> list[Mark]:
    """The key's events with this one, less those that are older than the window; kept so in the state."""
    marks = state.marks
    bisect.insort(marks, mark)
    oldest = marks[-1].at - window
    state.marks = [each for each in marks if each.at >= oldest]
    return state.marks
