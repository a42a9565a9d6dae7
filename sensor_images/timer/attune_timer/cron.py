"""Cron schedules in a time zone, right through changes of the clock (docs/timers.md, "Daylight saving").

The calendar (:mod:`attune_contract.calendar.cron`) knows local times without a zone. What they mean in real time is decided
here:

- A schedule that names its hours and minutes fires once for each local time. One that the clock skips fires at the end of the
  gap. Of one that comes twice, the first counts.
- A schedule with a ``*`` in minute or hour means an interval of real time. It fires whenever the local clock matches: twice
  when that comes twice, and not in a gap.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from attune_contract.calendar.cron import Cron
from attune_timer import instants
from attune_timer.exclusions import NOTHING, Exclusions
from attune_timer.schedule import Occurrence

_SECOND: Final = 1_000_000
#: Clocks are never set by more than this when an offset changes (the largest so far is a day, where the date line moved).
_LONGEST_SHIFT: Final = 24 * 3600 * _SECOND
#: Two changes of one zone's offset are further apart than this. A test holds it against all zones that are shipped.
BETWEEN_CHANGES: Final = 48 * 3600 * _SECOND
#: After so many occurrences in a row that are excluded, there is none.
_MOST_EXCLUDED: Final = 5_000
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - local times have no zone here
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CronSchedule:
    """Fires when the local clock says what a cron expression asks for.

    Args:
        cron: the expression.
        zone: the time zone.
        start: no occurrence is earlier; None for no such bound.
        end: no occurrence is later; None for no such bound.
        exclusions: local times at which nothing fires.
    """

    cron: Cron
    zone: ZoneInfo
    start: int | None = None
    end: int | None = None
    exclusions: Exclusions = NOTHING

    def next(self, after: int) -> Occurrence | None:
        """The first occurrence later than ``after``; None when there is none any more."""
        if self.start is not None:
            after = max(after, self.start - 1)
        for _ in range(_MOST_EXCLUDED):
            at = _next(self.cron, self.zone, after)
            if at is None or (self.end is not None and at > self.end):
                return None
            excluded = self._excluded(at)
            if excluded is None:
                return Occurrence(at)
            after = excluded[1] - 1
        return None

    def latest(self, *, after: int, until: int) -> Occurrence | None:
        """The last occurrence later than ``after`` and not later than ``until``; None when there is none."""
        at = next(self._backwards(after=after, until=until), None)
        return None if at is None else Occurrence(at)

    def first_of_latest(self, number: int, *, after: int, until: int) -> Occurrence | None:
        """The first of the last ``number`` occurrences later than ``after`` and not later than ``until``."""
        first = None
        for at in islice(self._backwards(after=after, until=until), number):
            first = at
        return None if first is None else Occurrence(first)

    def _backwards(self, *, after: int, until: int) -> Iterator[int]:
        """The occurrences in (after, until], the last one first."""
        if self.start is not None:
            after = max(after, self.start - 1)
        if self.end is not None:
            until = min(until, self.end)
        skipped = 0
        while until > after and skipped < _MOST_EXCLUDED:
            for at in _all_backwards(self.cron, self.zone, until):
                if at <= after:
                    return
                excluded = self._excluded(at)
                if excluded is not None:
                    until = excluded[0] - 1
                    skipped += 1
                    break
                yield at
            else:
                return

    def _excluded(self, at: int) -> tuple[int, int] | None:
        """When the exclusion that holds at an instant begins, and when it is over; None when none holds."""
        if not self.exclusions:
            return None
        window = self.exclusions.window(_EPOCH + timedelta(microseconds=at + _offset(self.zone, at)))
        if window is None:
            return None
        begin, end = (_real(self.zone, (moment - _EPOCH) // _MICROSECOND) for moment in window)
        return min(begin, at), max(end, at + 1)


def _all_backwards(cron: Cron, zone: ZoneInfo, until: int) -> Iterator[int]:
    latest = _latest(cron, zone, until)
    if latest is not None:
        yield latest
        yield from _backwards(cron, zone, latest - 1)


@lru_cache(maxsize=4096)  # thousands of rules often have the same few schedules, and all of them are due at once
def _next(cron: Cron, zone: ZoneInfo, after: int) -> int | None:
    try:
        return _next_fixed(cron, zone, after) if cron.wall_clock else _next_matching(cron, zone, after)
    except (OverflowError, ValueError):  # the end of the calendar
        return None


@lru_cache(maxsize=4096)
def _latest(cron: Cron, zone: ZoneInfo, until: int) -> int | None:
    return next(_backwards(cron, zone, until), None)


def _backwards(cron: Cron, zone: ZoneInfo, until: int) -> Iterator[int]:
    """All occurrences that are not later than ``until``, the last one first."""
    try:
        yield from _fixed_until(cron, zone, until) if cron.wall_clock else _matching_until(cron, zone, until)
    except (OverflowError, ValueError):  # the beginning of the calendar
        return


# Local times are microseconds as well: what a clock on the wall shows, counted from its 1970.


def _offset(zone: ZoneInfo, instant: int) -> int:
    """How far the zone's clocks are ahead of UTC."""
    offset = instants.to_datetime(instant).astimezone(zone).utcoffset()
    return (offset or timedelta()) // _MICROSECOND


def _local_after(cron: Cron, local: int) -> int | None:
    found = cron.after(_EPOCH + timedelta(microseconds=local))
    return None if found is None else (found - _EPOCH) // _MICROSECOND


def _locals_until(cron: Cron, local: int) -> Iterator[int]:
    """The matches that are not later than ``local``, the last one first."""
    for found in cron.until(_EPOCH + timedelta(microseconds=local)):
        yield (found - _EPOCH) // _MICROSECOND


def _real(zone: ZoneInfo, local: int) -> int:
    """When the clock shows a local time: the first time that it does; the end of the gap when it never does."""
    naive = _EPOCH + timedelta(microseconds=local)
    first = naive.replace(tzinfo=zone, fold=0)
    instant = instants.from_datetime(first.astimezone(UTC))
    if instant + _offset(zone, instant) == local:
        return instant
    # In a gap, fold=0 reads the clock as before it and fold=1 as after it, so the change is between the two readings.
    other = instants.from_datetime(naive.replace(tzinfo=zone, fold=1).astimezone(UTC))
    return _change(zone, min(instant, other), max(instant, other))


def _change(zone: ZoneInfo, before: int, after: int) -> int:
    """The first instant after ``before`` with the offset that holds at ``after``."""
    offset = _offset(zone, after)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(zone, middle) == offset:
            after = middle
        else:
            before = middle
    return after


def _first_change(zone: ZoneInfo, after: int, until: int) -> int | None:
    """The first instant in (after, until] at which the offset differs from the one before."""
    offset = _offset(zone, after)
    begin = after
    while begin < until:
        probe = min(begin + BETWEEN_CHANGES, until)
        if _offset(zone, probe) != offset:
            return _change(zone, begin, probe)
        begin = probe
    return None


def _last_change(zone: ZoneInfo, after: int, until: int) -> int | None:
    """The last instant in (after, until] at which the offset differs from the one before."""
    offset = _offset(zone, until)
    end = until
    while end > after:
        probe = max(end - BETWEEN_CHANGES, after)
        if _offset(zone, probe) != offset:
            return _change(zone, probe, end)
        end = probe
    return None


def _next_fixed(cron: Cron, zone: ZoneInfo, after: int) -> int | None:
    local: int | None = after + _offset(zone, after)
    while local is not None:
        local = _local_after(cron, local)
        if local is not None and (real := _real(zone, local)) > after:
            return real  # else it was the first of two, and this is the second
    return None


def _fixed_until(cron: Cron, zone: ZoneInfo, until: int) -> Iterator[int]:
    # After the clock was set back, the local times that it showed before are still to be looked at.
    shown = [until + _offset(zone, until)]
    change = _last_change(zone, until - _LONGEST_SHIFT, until)
    if change is not None:
        shown.append(change - 1 + _offset(zone, change - 1))
    before = None
    for local in _locals_until(cron, max(shown)):
        real = _real(zone, local)
        if real <= until and real != before:
            before = real
            yield real


def _next_matching(cron: Cron, zone: ZoneInfo, after: int) -> int | None:
    while True:
        offset = _offset(zone, after + 1)
        local = _local_after(cron, after + offset)
        if local is None:
            return None
        real = local - offset
        # Until the offset changes, local times are real ones at a distance.
        change = _first_change(zone, after + 1, real)
        if change is None:
            return real
        after = change - 1


def _matching_until(cron: Cron, zone: ZoneInfo, until: int) -> Iterator[int]:
    while True:
        offset, checked = _offset(zone, until), until
        for local in _locals_until(cron, until + offset):
            real = local - offset
            change = _last_change(zone, real - 1, checked)
            if change is not None and change > real:
                until = change - 1
                break
            checked = real
            yield real
        else:
            return
