"""When a timer fires: pure functions of time, with no clock inside (docs/timers.md)."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from attune_timer import instants


class Occurrence(NamedTuple):
    """One firing: the instant for which it is scheduled, and its number where the schedule counts."""

    at: int
    k: int | None = None


class Schedule(Protocol):
    """Instants in ascending order. All times are microseconds since 1970 (UTC)."""

    def next(self, after: int) -> Occurrence | None:
        """The first occurrence later than ``after``; None when there is none any more."""

    def latest(self, *, after: int, until: int) -> Occurrence | None:
        """The last occurrence later than ``after`` and not later than ``until``; None when there is none."""

    def first_of_latest(self, number: int, *, after: int, until: int) -> Occurrence | None:
        """The first of the last ``number`` occurrences later than ``after`` and not later than ``until``; None when there is
        none. With fewer of them, it is the first of all.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalSchedule:
    """Fires at ``anchor + k × interval``: nothing drifts, and every computation gives the same instants.

    Args:
        anchor: what fixes the phase.
        interval: length of the interval, positive.
        first_k: the first k that fires: 0 fires at the anchor, 1 an interval after it.
        start: no occurrence is earlier; None for no such bound.
        end: no occurrence is later; None for no such bound.
    """

    anchor: int
    interval: int
    first_k: int = 0
    start: int | None = None
    end: int | None = None

    def next(self, after: int) -> Occurrence | None:
        """The first occurrence later than ``after``; None when there is none any more."""
        k = (after - self.anchor) // self.interval + 1
        first = self.first_k if self.start is None else self._first()
        return self._occurrence(max(first, k))

    def latest(self, *, after: int, until: int) -> Occurrence | None:
        """The last occurrence later than ``after`` and not later than ``until``; None when there is none."""
        until = min(until, self._last_instant())
        k = (until - self.anchor) // self.interval
        if k < self._first() or self.anchor + k * self.interval <= after:
            return None
        return self._occurrence(k)

    def first_of_latest(self, number: int, *, after: int, until: int) -> Occurrence | None:
        """The first of the last ``number`` occurrences later than ``after`` and not later than ``until``."""
        last = self.latest(after=after, until=until)
        if last is None or last.k is None:
            return None
        return self._occurrence(max(last.k - number + 1, (after - self.anchor) // self.interval + 1, self._first()))

    def _first(self) -> int:
        if self.start is None:
            return self.first_k
        # The first k at or after the start: division rounded up.
        return max(self.first_k, -((self.anchor - self.start) // self.interval))

    def _last_instant(self) -> int:
        return instants.LAST if self.end is None else min(self.end, instants.LAST)

    def _occurrence(self, k: int) -> Occurrence | None:
        at = self.anchor + k * self.interval
        if at > instants.LAST or (self.end is not None and at > self.end):
            return None
        return Occurrence(at, k)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnceSchedule:
    """Fires at one instant and never again.

    Args:
        at: the instant.
    """

    at: int

    def next(self, after: int) -> Occurrence | None:
        """The occurrence, if it is later than ``after``."""
        return Occurrence(self.at) if self.at > after else None

    def latest(self, *, after: int, until: int) -> Occurrence | None:
        """The occurrence, if it is later than ``after`` and not later than ``until``."""
        return Occurrence(self.at) if after < self.at <= until else None

    def first_of_latest(self, number: int, *, after: int, until: int) -> Occurrence | None:
        """The occurrence, if it is later than ``after`` and not later than ``until``."""
        return self.latest(after=after, until=until)
