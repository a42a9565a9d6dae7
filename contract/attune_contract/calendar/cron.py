"""Cron expressions: what they mean, on local times that have no zone.

Read as crontab(5) does, with what Kubernetes, Quartz and croniter have beyond it where they agree (docs/timers.md, "Coming from
elsewhere"). Our own and not a library's: docs/decisions/0062-one-calendar.md says why.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time
from enum import StrEnum
from functools import lru_cache
from typing import Final

MAX_LENGTH: Final = 200

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
EVERY: Final = "@every"
_DURATION: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|h|m|s))+")
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")
_UNITS: Final = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
#: How many days a month may have, by its number.
_LENGTHS: Final = ((), (31,), (28, 29), (31,), (30,), (31,), (30,), (31,), (31,), (30,), (31,), (30,), (31,))
#: The calendar repeats after 400 years, so what has not come by then never comes.
_REPEATS: Final = 400


class CronError(ValueError):
    """An expression cannot be used. The text says why, for its author."""


class DayMatch(StrEnum):
    """How day of month and day of week go together."""

    CRON = "Cron"  #: as in crontab(5): either is enough, unless one of them begins with ``*``; then both must match
    ALL = "All"  #: both must match


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        if self.names:
            return f"{self.low}-{self.high} or {self.names[0]}-{self.names[-1]}"
        return f"{self.low}-{self.high}"


_SECOND: Final = _Field("second", 0, 59)
_MINUTE: Final = _Field("minute", 0, 59)
_HOUR: Final = _Field("hour", 0, 23)
_DAY: Final = _Field("day-of-month", 1, 31)
_MONTH: Final = _Field("month", 1, 12, _MONTHS)
_WEEKDAY: Final = _Field("day-of-week", 0, 7, _WEEKDAYS)
_FIELDS: Final = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression.

    Attributes:
        text: its fields in capitals, one blank between them. Two expressions with the same text and ``day_match`` are equal.
        day_match: how day of month and day of week go together.
        wall_clock: whether it names hours and minutes (neither begins with ``*``), so that it means times of the day and not
            an interval. Decides about skipped and repeated hours.
    """

    text: str
    day_match: DayMatch = DayMatch.CRON
    wall_clock: bool = field(default=False, compare=False)
    _times: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] = field(default=((), (), ()), compare=False)
    _months: frozenset[int] = field(default=frozenset(), compare=False)
    _days: "_Days" = field(default_factory=lambda: _Days(), compare=False)

    def after(self, moment: datetime) -> datetime | None:
        """The first match later than ``moment``; None when the calendar ends before it."""
        moment = moment.replace(microsecond=0)
        day = moment.date()
        if self._on(day) and (found := self._next_time(moment.time())) is not None:
            return datetime.combine(day, found)
        following = next(self._days_after(day), None)
        return None if following is None else datetime.combine(following, self._first_time())

    def until(self, moment: datetime) -> Iterator[datetime]:
        """The matches that are not later than ``moment``, the last one first."""
        day = moment.date()
        if self._on(day):
            yield from (datetime.combine(day, at) for at in self._times_back(moment.time()))
        for before in self._days_before(day):
            yield from (datetime.combine(before, at) for at in self._times_back(time.max))

    def matches(self, moment: datetime) -> bool:
        """Whether ``moment`` matches. Without a field for seconds, all seconds of a minute do."""
        seconds, minutes, hours = self._times
        return (
            moment.hour in hours
            and moment.minute in minutes
            and (len(self.text.split()) == 5 or moment.second in seconds)
            and self._on(moment.date())
        )

    @property
    def whole_days(self) -> bool:
        """Whether it matches every second of each of its days."""
        seconds, minutes, hours = self._times
        return len(hours) == 24 and len(minutes) == 60 and (len(self.text.split()) == 5 or len(seconds) == 60)

    # -- times of the day ----------------------------------------------------------------------------------------------

    def _first_time(self) -> time:
        seconds, minutes, hours = self._times
        return time(hours[0], minutes[0], seconds[0])

    def _next_time(self, after: time) -> time | None:
        seconds, minutes, hours = self._times
        hour, minute = after.hour, after.minute
        if hour in hours:
            if minute in minutes and (index := bisect_right(seconds, after.second)) < len(seconds):
                return time(hour, minute, seconds[index])
            if (index := bisect_right(minutes, minute)) < len(minutes):
                return time(hour, minutes[index], seconds[0])
        if (index := bisect_right(hours, hour)) < len(hours):
            return time(hours[index], minutes[0], seconds[0])
        return None

    def _times_back(self, last: time) -> Iterator[time]:
        seconds, minutes, hours = self._times
        for hour in reversed(hours[: bisect_right(hours, last.hour)]):
            this_hour = hour == last.hour
            for minute in reversed(minutes[: bisect_right(minutes, last.minute)] if this_hour else minutes):
                this_minute = this_hour and minute == last.minute
                for second in reversed(seconds[: bisect_right(seconds, last.second)] if this_minute else seconds):
                    yield time(hour, minute, second)

    # -- days ----------------------------------------------------------------------------------------------------------

    def _on(self, day: date) -> bool:
        return day.month in self._months and day.day in self._matching(day.year, day.month)

    def _matching(self, year: int, month: int) -> tuple[int, ...]:
        return self._days.of(*_shape(year, month)) if month in self._months else ()

    def _days_after(self, day: date) -> Iterator[date]:
        year, month = day.year, day.month
        found = self._matching(year, month)
        yield from (date(year, month, number) for number in found[bisect_right(found, day.day) :])
        for _ in range(_REPEATS * 12):
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
            if year > date.max.year:
                return
            yield from (date(year, month, number) for number in self._matching(year, month))

    def _days_before(self, day: date) -> Iterator[date]:
        year, month = day.year, day.month
        found = self._matching(year, month)
        yield from (date(year, month, number) for number in reversed(found[: bisect_left(found, day.day)]))
        for _ in range(_REPEATS * 12):
            year, month = (year, month - 1) if month > 1 else (year - 1, 12)
            if year < date.min.year:
                return
            yield from (date(year, month, number) for number in reversed(self._matching(year, month)))


@dataclass(frozen=True, slots=True)
class _Days:
    """Which days of a month match. A month is its length and the weekday of its first day (0 is Sunday): 28 kinds."""

    numbers: frozenset[int] = frozenset()
    last: bool = False
    last_working: bool = False
    weekdays: frozenset[int] = frozenset()
    nth: frozenset[tuple[int, int]] = frozenset()  #: (weekday, which one in the month)
    last_weekdays: frozenset[int] = frozenset()
    both: bool = True  #: whether day of month and day of week must match, or one of them
    _known: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    def of(self, length: int, first: int) -> tuple[int, ...]:
        """The days that match, in order."""
        found = self._known.get((length, first))
        if found is None:
            found = tuple(day for day in range(1, length + 1) if self._match(day, length, first))
            self._known[length, first] = found
        return found

    def _match(self, day: int, length: int, first: int) -> bool:
        weekday = (first + day - 1) % 7
        by_number = (
            day in self.numbers
            or (self.last and day == length)
            or (self.last_working and day == _last_working_day(length, first))
        )
        by_weekday = (
            weekday in self.weekdays
            or (weekday, (day - 1) // 7 + 1) in self.nth
            or (weekday in self.last_weekdays and day + 7 > length)
        )
        return by_number and by_weekday if self.both else by_number or by_weekday


def _last_working_day(length: int, first: int) -> int:
    weekday = (first + length - 1) % 7
    return length - {6: 1, 0: 2}.get(weekday, 0)


@lru_cache(maxsize=4096)
def _shape(year: int, month: int) -> tuple[int, int]:
    """A month's length, and the weekday of its first day."""
    first = date(year, month, 1)
    length = 31 if month == 12 else (date(year, month + 1, 1) - first).days
    return length, first.isoweekday() % 7


# -- reading -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def parse(expression: str, *, day_match: DayMatch = DayMatch.CRON) -> Cron:
    """Read an expression: five fields, six with seconds first, or a nickname. Not ``@every``: see :func:`parse_every`.

    Raises:
        CronError: it is not a cron expression, or is never due.
    """
    text = _fields_of(expression)
    parts = text.split()
    if len(parts) not in (5, 6):
        raise CronError(_wrong_number(len(parts)))
    second, minute, hour, day, month, weekday = parts if len(parts) == 6 else ["0", *parts]
    either = not day.startswith(("*", "?")) and not weekday.startswith(("*", "?")) and day_match is DayMatch.CRON
    months = frozenset(_values(_MONTH, month))
    days = _days_of(day, weekday, both=not either)
    if not any(days.of(length, first) for number in months for length in _LENGTHS[number] for first in range(7)):
        raise CronError("it is never due: no month that it names has such a day")
    return Cron(
        text=text,
        day_match=day_match,
        wall_clock=not minute.startswith("*") and not hour.startswith("*"),
        _times=(
            tuple(sorted(_values(_SECOND, second))),
            tuple(sorted(_values(_MINUTE, minute))),
            tuple(sorted(_values(_HOUR, hour))),
        ),
        _months=months,
        _days=days,
    )


def parse_every(expression: str) -> int | None:
    """The interval of ``@every 1h30m`` in microseconds; None when the expression is not of this kind.

    Raises:
        CronError: it is of this kind, and the interval cannot be read, or is not from 0.1 seconds to 3653 days.
    """
    word, _, rest = expression.strip().partition(" ")
    if word.lower() != EVERY:
        return None
    text = rest.strip()
    if not _DURATION.fullmatch(text) or len(text) > MAX_LENGTH:
        raise CronError(f"{EVERY} needs an interval like 90s, 5m or 1h30m")
    interval = round(sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text)))
    if not 100_000 <= interval <= 3653 * 24 * _UNITS["h"]:
        raise CronError(f"the interval {text} is not from 0.1 seconds to ten years (3653 days)")
    return interval


def warnings(expression: str) -> list[str]:
    """What is allowed in an expression that can be used, and hardly meant; a sentence for each."""
    if parse_every(expression) is not None:
        return []
    parts = _fields_of(expression).split()
    fields = _FIELDS if len(parts) == 6 else _FIELDS[1:]
    found = []
    for kind, part in zip(fields, parts, strict=True):
        for term in part.split(","):
            _, slash, step = term.partition("/")
            span = kind.high - kind.low + (0 if kind is _WEEKDAY else 1)
            if slash and int(step) >= span:
                found.append(f"the step /{step} is not smaller than the {kind.name} field, so it has one value")
    return found


def problem(expression: str) -> str | None:
    """Why an expression cannot be used, as a sentence without its subject; None when it can."""
    try:
        if parse_every(expression) is None:
            parse(expression)
    except CronError as error:
        return str(error)
    return None


def _fields_of(expression: str) -> str:
    text = expression.strip()
    if len(text) > MAX_LENGTH:
        raise CronError(f"it has {len(text)} characters; at most {MAX_LENGTH} are allowed")
    if text.startswith("@"):
        known = NICKNAMES.get(text.lower())
        if known is None:
            raise CronError(f"unknown nickname {text[:30]!r}; expected one of {', '.join(NICKNAMES)}, {EVERY} 90m")
        return known
    if text.upper().startswith(("TZ=", "CRON_TZ=")):
        raise CronError("put the time zone into the parameter timezone, not into the expression")
    return " ".join(text.upper().split())


def _wrong_number(number: int) -> str:
    text = f"it has {number} fields; expected five (minute hour day-of-month month day-of-week), or six with the second first"
    return f"{text}. A year, as in Quartz, is not supported" if number == 7 else text


def _days_of(day: str, weekday: str, *, both: bool) -> _Days:
    numbers: set[int] = set()
    weekdays: set[int] = set()
    nth: set[tuple[int, int]] = set()
    last_weekdays: set[int] = set()
    last = last_working = False
    for term in ("*" if day == "?" else day).split(","):
        if term == "L":
            last = True
        elif term == "LW":
            last_working = True
        else:
            numbers |= _term(_DAY, term)
    for term in ("*" if weekday == "?" else weekday).split(","):
        if "#" in term:
            of, _, which = term.partition("#")
            if which not in {"1", "2", "3", "4", "5"}:
                raise CronError(f"the day-of-week {term!r} is wrong; after # expected a number from 1 to 5, like MON#1")
            nth.add((_number(_WEEKDAY, of, term) % 7, int(which)))
        elif term.endswith("L") and term != "L":
            last_weekdays.add(_number(_WEEKDAY, term[:-1], term) % 7)
        else:
            weekdays |= _term(_WEEKDAY, term)
    return _Days(
        numbers=frozenset(numbers),
        last=last,
        last_working=last_working,
        weekdays=frozenset(weekdays),
        nth=frozenset(nth),
        last_weekdays=frozenset(last_weekdays),
        both=both,
    )


def _values(kind: _Field, text: str) -> set[int]:
    found: set[int] = set()
    for term in text.split(","):
        found |= _term(kind, term)
    return found


def _term(kind: _Field, term: str) -> set[int]:
    """The values of one term: ``*``, ``5``, ``1-5``, ``FRI-MON``, each with ``/step`` or without."""
    base, slash, step_text = term.partition("/")
    step = 1
    if slash:
        if not step_text.isascii() or not step_text.isdigit() or int(step_text) == 0:
            raise CronError(f"the {kind.name} {term!r} is wrong; after / expected a number above 0")
        step = int(step_text)
    cycle = 7 if kind is _WEEKDAY else kind.high - kind.low + 1
    first, dash, last = base.partition("-")
    if base == "*":
        start, length = kind.low, cycle
    elif dash:
        start, end = _number(kind, first, term), _number(kind, last, term)
        # 5-7 ends on a Sunday, FRI-MON runs over the end of the week, 22-5 over midnight.
        length = end - start + 1 if end >= start else end - start + 1 + cycle
        length = min(length, cycle)
    else:
        start = _number(kind, base, term)
        length = 1
        if slash:  # N/step runs to the end of the field
            start = start % 7 if kind is _WEEKDAY else start
            length = kind.low + cycle - start
    return {kind.low + (start - kind.low + offset) % cycle for offset in range(0, length, step)}


def _number(kind: _Field, text: str, term: str) -> int:
    if text in kind.names:
        return kind.names.index(text) + (1 if kind is _MONTH else 0)
    if text.isascii() and text.isdigit() and kind.low <= int(text) <= kind.high:
        return int(text)
    raise CronError(f"the {kind.name} {term[:30]!r} is wrong; {_advice(kind, term)}")


def _advice(kind: _Field, term: str) -> str:
    if kind is _DAY and term.endswith("W"):
        return "the nearest weekday (W) is not supported; LW, the last weekday of the month, is"
    if kind is _DAY and term.startswith("L"):
        return "days before the last one (L-3) are not supported; L, the last day, is"
    if term.startswith("H"):
        return "H, as in Jenkins, is not supported; give a value, and spread rules with jitter"
    if term.startswith("?"):
        return "? may stand for a day-of-month or a day-of-week only; write *"
    if "~" in term:
        return "random values (~) are not supported; give a value, and spread rules with jitter"
    return f"expected {kind.range}, with * , - and / as in crontab(5)"
