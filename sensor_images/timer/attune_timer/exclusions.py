"""Local times at which a cron timer does not fire: days, hours of the day, and what a second cron expression matches. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from attune_contract.calendar.cron import Cron, CronError, parse

MOST: Final = 64
_DAY: Final = timedelta(days=1)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?|24:00(:00)?")
#: From a local time, which is included, to another, which is not.
Window = tuple[datetime, datetime]


class ExclusionError(ValueError):
    """An entry of ``exclude`` cannot be used."""


@dataclass(frozen=True, slots=True)
class Days:
    """Whole days, both included."""

    first: date
    last: date

    def window(self, moment: datetime) -> Window | None:
        """The window that ``moment`` is in."""
        if not self.first <= moment.date() <= self.last:
            return None
        return datetime.combine(self.first, time()), datetime.combine(self.last, time()) + _DAY


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours of each day, in seconds since midnight. Where the end is not later than the begin, they run over midnight."""

    begin: int
    end: int

    def window(self, moment: datetime) -> Window | None:
        """The window that ``moment`` is in."""
        midnight = datetime.combine(moment.date(), time())
        for start in (midnight, midnight - _DAY):
            begin = start + timedelta(seconds=self.begin)
            end = start + timedelta(seconds=self.end) + (_DAY if self.end <= self.begin else timedelta())
            if begin <= moment < end:
                return begin, end
        return None


@dataclass(frozen=True, slots=True)
class Matches:
    """What a cron expression matches: whole minutes, or seconds where it has a field for them."""

    cron: Cron

    def window(self, moment: datetime) -> Window | None:
        """A window that ``moment`` is in; the next one may begin where it ends."""
        if not self.cron.matches(moment):
            return None
        if self.cron.whole_days:
            begin = datetime.combine(moment.date(), time())
            return begin, begin + _DAY
        if len(self.cron.text.split()) == 5:
            begin = moment.replace(second=0, microsecond=0)
            return begin, begin + timedelta(minutes=1)
        begin = moment.replace(microsecond=0)
        return begin, begin + timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Exclusions:
    """All that a rule excludes."""

    parts: tuple[Days | Hours | Matches, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.parts)

    def window(self, moment: datetime) -> Window | None:
        """A window that ``moment`` is in; None when it is not excluded."""
        return next((found for part in self.parts if (found := part.window(moment)) is not None), None)


NOTHING: Final = Exclusions()


def exclusions_of(value: Any) -> Exclusions:
    """Read the parameter ``exclude``.

    Raises:
        ExclusionError: it cannot be used. The text begins with where, like ``.dates[0]: ``.
    """
    if not isinstance(value, Mapping):
        raise ExclusionError(f": expected an object with {', '.join(_KINDS)}")
    if unknown := sorted(set(value) - set(_KINDS)):
        raise ExclusionError(f": unknown field {unknown[0]}; expected one of: {', '.join(_KINDS)}")
    parts = []
    for name, read in _KINDS.items():
        entries = value.get(name, ())
        if not isinstance(entries, Sequence) or isinstance(entries, str) or len(entries) > MOST:
            raise ExclusionError(f".{name}: expected a list of at most {MOST} entries")
        for number, entry in enumerate(entries):
            try:
                parts.append(read(entry))
            except ExclusionError as error:
                raise ExclusionError(f".{name}[{number}]: {error}") from None
    return Exclusions(tuple(parts))


def _day(entry: Any) -> Days:
    day = _date(entry)
    return Days(day, day)


def _period(entry: Any) -> Days:
    begin, end = _pair(entry, "{from: 2026-12-24, until: 2027-01-01}")
    first, last = _date(begin), _date(end)
    if last < first:
        raise ExclusionError(f"until ({end}) is before from ({begin})")
    return Days(first, last)


def _hours(entry: Any) -> Hours:
    begin, end = _pair(entry, '{from: "22:00", until: "06:00"}')
    return Hours(_seconds(begin), _seconds(end))


def _cron(entry: Any) -> Matches:
    if not isinstance(entry, str):
        raise ExclusionError(f"{entry!r} is not a cron expression; expected a text")
    try:
        return Matches(parse(entry))
    except CronError as error:
        raise ExclusionError(f"{entry!r} is not a cron expression: {error}") from None


_KINDS: Final[Mapping[str, Callable[[Any], Days | Hours | Matches]]] = {
    "dates": _day,
    "periods": _period,
    "hours": _hours,
    "cron": _cron,
}


def _pair(entry: Any, example: str) -> tuple[Any, Any]:
    if not isinstance(entry, Mapping) or set(entry) != {"from", "until"}:
        raise ExclusionError(f"expected from and until, like {example}")
    return entry["from"], entry["until"]


def _date(value: Any) -> date:
    try:
        if isinstance(value, str) and _DATE.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise ExclusionError(f"{value!r} is not a day; expected one that exists, like 2026-12-24")


def _seconds(value: Any) -> int:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ExclusionError(f"{value!r} is not a time of day; expected 00:00 to 24:00, like 22:00")
    hours, minutes, *rest = (int(part) for part in value.split(":"))
    return hours * 3600 + minutes * 60 + (rest[0] if rest else 0)
