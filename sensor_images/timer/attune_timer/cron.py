"""Cron schedules in a time zone, right through changes of the clock (docs/timers.md, "Daylight saving").

The calendar is cronsim's (5 and 6 fields, names, ``L``, ``LW``, ``#``), used on local times without a zone; what those mean in
real time is decided here:

- A schedule at given hours and minutes fires once for each local time that it names. One that the clock skips fires at the
  end of the gap; of one that comes twice, the first counts. (Debian's cron does the same.)
- A schedule with a ``*`` in minute or hour means an interval of real time: it fires whenever the local clock matches, twice
  when that comes twice, and not in a gap.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from attune_timer import instants
from attune_timer.schedule import Occurrence

#: Names for schedules, as in crontab(5).
NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_SECOND: Final = 1_000_000
#: Clocks are never set by more than this when an offset changes (the largest so far is a day, where the date line moved).
_LONGEST_SHIFT: Final = 24 * 3600 * _SECOND
#: Two changes of the offset of one zone are further apart than this.
_BETWEEN_CHANGES: Final = 7 * 24 * 3600 * _SECOND
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - local times have no zone here
_MICROSECOND: Final = timedelta(microseconds=1)
_MAX_LENGTH: Final = 200


def parse(expression: str) -> str:
    """The expression in fields.

    Raises:
        ValueError: it is not a cron expression, or can never be due.
    """
    text = expression.strip()
    if text.startswith("@"):
        fields = NICKNAMES.get(text.lower())
        if fields is None:
            raise ValueError(f"{expression!r} is not one of {', '.join(NICKNAMES)}")
        return fields
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"a cron expression has at most {_MAX_LENGTH} characters")
    try:
        calendar = CronSim(text, datetime(2000, 1, 1))  # noqa: DTZ001
    except CronSimError as error:
        raise ValueError(f"{expression!r} is not a cron expression: {_reason(str(error), text)}") from None
    if next(calendar, None) is None:
        raise ValueError(f"{expression!r} is never due")
    return " ".join(text.upper().split())


def _reason(problem: str, text: str) -> str:
    name = problem.removeprefix("Bad ")
    ranges = {
        "second": "0-59",
        "minute": "0-59",
        "hour": "0-23",
        "day-of-month": "1-31 (or L, LW) that the months have",
        "month": "1-12 or JAN-DEC",
        "day-of-week": "0-7 or SUN-SAT",
    }
    if name in ranges:
        return f"the {name} is wrong; it takes {ranges[name]}, with * , - and / as in crontab"
    return f"it has {len(text.split())} fields; write minute hour day month weekday, or a second before them"


def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name.

    Raises:
        ValueError: there is none of this name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone; write an IANA name like Europe/Berlin, or UTC") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CronSchedule:
    """Fires when the local clock says what a cron expression asks for.

    Args:
        fields: the expression, as :func:`parse` returns it.
        zone: the time zone.
        start: no occurrence is earlier; None for no such bound.
        end: no occurrence is later; None for no such bound.
    """

    fields: str
    zone: ZoneInfo
    start: int | None = None
    end: int | None = None
    _fixed: bool = field(init=False)

    def __post_init__(self) -> None:
        minute, hour = self.fields.split()[-5:-3]
        object.__setattr__(self, "_fixed", not minute.startswith("*") and not hour.startswith("*"))

    def next(self, after: int) -> Occurrence | None:
        """The first occurrence later than ``after``; None when there is none any more."""
        if self.start is not None:
            after = max(after, self.start - 1)
        at = _next(self.fields, self.zone, self._fixed, after)
        return Occurrence(at) if at is not None and (self.end is None or at <= self.end) else None

    def latest(self, *, after: int, until: int) -> Occurrence | None:
        """The last occurrence later than ``after`` and not later than ``until``; None when there is none."""
        if self.start is not None:
            after = max(after, self.start - 1)
        if self.end is not None:
            until = min(until, self.end)
        if until <= after:
            return None
        at = _latest(self.fields, self.zone, self._fixed, until)
        return Occurrence(at) if at is not None and at > after else None

    def first_of_latest(self, number: int, *, after: int, until: int) -> Occurrence | None:
        """The first of the last ``number`` occurrences later than ``after`` and not later than ``until``."""
        if self.start is not None:
            after = max(after, self.start - 1)
        if self.end is not None:
            until = min(until, self.end)
        first = None
        for at in islice(_backwards(self.fields, self.zone, self._fixed, until), number):
            if at <= after:
                break
            first = Occurrence(at)
        return first


@lru_cache(maxsize=4096)  # thousands of rules often have the same few schedules, and all of them are due at once
def _next(fields: str, zone: ZoneInfo, fixed: bool, after: int) -> int | None:
    try:
        return _next_fixed(fields, zone, after) if fixed else _next_matching(fields, zone, after)
    except (OverflowError, ValueError):  # the end of the calendar
        return None


@lru_cache(maxsize=4096)
def _latest(fields: str, zone: ZoneInfo, fixed: bool, until: int) -> int | None:
    return next(_backwards(fields, zone, fixed, until), None)


def _backwards(fields: str, zone: ZoneInfo, fixed: bool, until: int) -> Iterator[int]:
    """All occurrences that are not later than ``until``, the last one first."""
    try:
        yield from _fixed_until(fields, zone, until) if fixed else _matching_until(fields, zone, until)
    except (OverflowError, ValueError):  # the beginning of the calendar
        return


# Local times are microseconds as well: what a clock on the wall shows, counted from its 1970.


def _offset(zone: ZoneInfo, instant: int) -> int:
    """How far the zone's clocks are ahead of UTC."""
    offset = instants.to_datetime(instant).astimezone(zone).utcoffset()
    return (offset or timedelta()) // _MICROSECOND


def _local_after(fields: str, local: int) -> int | None:
    found = next(CronSim(fields, _EPOCH + timedelta(microseconds=local)), None)
    return None if found is None else (found - _EPOCH) // _MICROSECOND


def _locals_until(fields: str, local: int) -> Iterator[int]:
    """The matches that are not later than ``local``, the last one first."""
    begin = _EPOCH + timedelta(microseconds=local + _SECOND)
    for found in CronSim(fields, begin.replace(microsecond=0), reverse=True):
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
        probe = min(begin + _BETWEEN_CHANGES, until)
        if _offset(zone, probe) != offset:
            return _change(zone, begin, probe)
        begin = probe
    return None


def _last_change(zone: ZoneInfo, after: int, until: int) -> int | None:
    """The last instant in (after, until] at which the offset differs from the one before."""
    offset = _offset(zone, until)
    end = until
    while end > after:
        probe = max(end - _BETWEEN_CHANGES, after)
        if _offset(zone, probe) != offset:
            return _change(zone, probe, end)
        end = probe
    return None


def _next_fixed(fields: str, zone: ZoneInfo, after: int) -> int | None:
    local: int | None = after + _offset(zone, after)
    while local is not None:
        local = _local_after(fields, local)
        if local is not None and (real := _real(zone, local)) > after:
            return real  # else it was the first of two, and this is the second
    return None


def _fixed_until(fields: str, zone: ZoneInfo, until: int) -> Iterator[int]:
    # After the clock was set back, the local times that it showed before are still to be looked at.
    shown = [until + _offset(zone, until)]
    change = _last_change(zone, until - _LONGEST_SHIFT, until)
    if change is not None:
        shown.append(change - 1 + _offset(zone, change - 1))
    before = None
    for local in _locals_until(fields, max(shown)):
        real = _real(zone, local)
        if real <= until and real != before:
            before = real
            yield real


def _next_matching(fields: str, zone: ZoneInfo, after: int) -> int | None:
    while True:
        offset = _offset(zone, after + 1)
        local = _local_after(fields, after + offset)
        if local is None:
            return None
        real = local - offset
        # Until the offset changes, local times are real ones at a distance.
        change = _first_change(zone, after + 1, real)
        if change is None:
            return real
        after = change - 1


def _matching_until(fields: str, zone: ZoneInfo, until: int) -> Iterator[int]:
    while True:
        offset, checked = _offset(zone, until), until
        for local in _locals_until(fields, until + offset):
            real = local - offset
            change = _last_change(zone, real - 1, checked)
            if change is not None and change > real:
                until = change - 1
                break
            checked = real
            yield real
        else:
            return
