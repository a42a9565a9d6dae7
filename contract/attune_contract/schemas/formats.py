"""Formats of strings that schemas of parameters may name, beyond patterns: ``cron``, ``timezone`` (docs/timers.md) and
``date-time``, a time with a zone (RFC 3339, section 5.6) of the years 1 to 9999.

Other formats are remarks, as JSON Schema has it (2020-12, Validation, section 7).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from jsonschema import ValidationError

_NICKNAMES: Final = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
#: Longer expressions are refused unread.
_MAX_LENGTH: Final = 200
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def parse_time(text: str) -> datetime | None:
    """Read a time with a zone; None for anything else, a 30th of February among it. Finer than microseconds is cut off."""
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:
        return None


def _cron_problem(text: str) -> str | None:
    if text.lower() in _NICKNAMES:
        return None
    fields = text.split()
    if len(fields) not in (5, 6) or len(text) > _MAX_LENGTH:
        return (
            "write minute, hour, day of month, month and day of week, like 30 6 * * MON-FRI (with a second before them if "
            f"need be), or one of {', '.join(sorted(_NICKNAMES))}"
        )
    try:
        never = next(CronSim(text, datetime(2000, 1, 1)), None) is None  # noqa: DTZ001 - a calendar, no point in time
    except CronSimError as error:
        return f"{str(error).lower()}; each field takes what crontab(5) says"
    return "it is never due" if never else None


def _timezone_problem(text: str) -> str | None:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "write an IANA name like Europe/Berlin, or UTC"
    return None


def _time_problem(text: str) -> str | None:
    return None if parse_time(text) is not None else "write one that exists, like 2026-11-23T12:00:00Z"


#: By format: what it is called, and what is wrong with a text, None when nothing is.
_FORMATS: Final[Mapping[str, tuple[str, Callable[[str], str | None]]]] = {
    "cron": ("a cron expression", lru_cache(maxsize=4096)(_cron_problem)),
    "timezone": ("a time zone", lru_cache(maxsize=4096)(_timezone_problem)),
    "date-time": ("a time with a zone", _time_problem),
}


def check_format(validator: Any, name: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    """The keyword ``format``."""
    found = _FORMATS.get(name) if isinstance(name, str) else None
    if found is None or not validator.is_type(instance, "string"):
        return
    title, problem = found
    if (text := problem(str(instance))) is not None:
        yield ValidationError(f"{instance!r} is not {title}: {text}")


def format_fits(name: Any) -> Callable[[Any], bool]:
    """Whether a value is of the format; one that is not a string is, and so is any of a format that is but a remark."""
    found = _FORMATS.get(name) if isinstance(name, str) else None
    if found is None:
        return lambda value: True
    problem = found[1]
    return lambda value: not isinstance(value, str) or problem(str(value)) is None
