"""Formats of strings that schemas of parameters may name, beyond patterns.

``cron`` and ``timezone`` (docs/timers.md), ``cron-calendar`` (a cron expression without ``@every``), ``date-time`` (a time with a
zone, RFC 3339, section 5.6, of the years 1 to 9999) and ``date``. Other formats are annotations, as JSON Schema has it
(2020-12, Validation, section 7).
"""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Final

from attune_contract.calendar import cron, zones

_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_SHOWN: Final = 80
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_time(text: str) -> datetime | None:
    """Read a time with a zone; None for anything else, a 30th of February among it. Finer than microseconds is cut off."""
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:
        return None


def _timezone_problem(text: str) -> str | None:
    return None if text in zones.shipped().names else "expected an IANA name like Europe/Berlin, or UTC"


def _time_problem(text: str) -> str | None:
    return None if parse_time(text) is not None else "write one that exists, like 2026-11-23T12:00:00Z"


def _date_problem(text: str) -> str | None:
    try:
        if _DATE.fullmatch(text):
            date.fromisoformat(text)
            return None
    except ValueError:
        pass
    return "expected one that exists, like 2026-12-24"


def _calendar_problem(text: str) -> str | None:
    try:
        cron.parse(text)
    except cron.CronError as error:
        return str(error)
    return None


#: By format: what it is called, and what is wrong with a text, None when nothing is.
_FORMATS: Final[Mapping[str, tuple[str, Callable[[str], str | None]]]] = {
    "cron": ("a cron expression", lru_cache(maxsize=4096)(cron.problem)),
    "timezone": ("a time zone", _timezone_problem),
    "cron-calendar": ("a cron expression", _calendar_problem),
    "date": ("a day", _date_problem),
    "date-time": ("a time with a zone", _time_problem),
}


def format_problem(name: str, value: Any) -> str | None:
    """What is wrong with a text that should be of a format; None when nothing is, or the format is unknown."""
    found = _FORMATS.get(name)
    if found is None or not isinstance(value, str):
        return None
    title, problem = found
    text = problem(value)
    return None if text is None else f"{value[:_SHOWN]!r}{'…' if len(value) > _SHOWN else ''} is not {title}: {text}"


def _fits(problem: Callable[[str], str | None]) -> Callable[[str], bool]:
    return lambda text: problem(text) is None


#: Formats that jsonschema-rs would check as well, and that are annotations here.
_ANNOTATIONS: Final = (
    *(
        "time",
        "duration",
        "email",
        "idn-email",
        "hostname",
        "idn-hostname",
        "ipv4",
        "ipv6",
        "uri",
        "uri-reference",
        "iri",
    ),
    *("iri-reference", "uri-template", "json-pointer", "relative-json-pointer", "regex", "uuid"),
)
#: The formats as a validator takes them: by name, whether a text is of the format.
FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    **dict.fromkeys(_ANNOTATIONS, lambda _: True),
    **{name: _fits(problem) for name, (_, problem) in _FORMATS.items()},
}
