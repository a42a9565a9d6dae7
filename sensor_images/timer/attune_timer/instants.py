"""Points in time as whole microseconds since 1970 (UTC), so that schedules are computed without rounding."""

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

#: The last instant that a ``datetime`` can hold.
LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def now() -> int:
    """The wall clock."""
    return time.time_ns() // 1000


def from_datetime(moment: datetime) -> int:
    """The instant of a ``datetime`` that has a zone."""
    return (moment - _EPOCH) // _MICROSECOND


def to_datetime(instant: int) -> datetime:
    """The instant as a ``datetime`` in UTC."""
    return _EPOCH + timedelta(microseconds=instant)


def text(instant: int) -> str:
    """The instant as :func:`attune_sensor.scheduled` writes it (``2026-11-23T12:00:00.000000Z``)."""
    second, microsecond = divmod(instant, 1_000_000)
    return f"{_second(second)}.{microsecond:06d}Z"


@lru_cache(maxsize=64)  # timers fire by the thousand in the same seconds
def _second(second: int) -> str:
    return (_EPOCH + timedelta(seconds=second)).replace(tzinfo=None).isoformat(timespec="seconds")


def parse(text: str) -> int:
    """Read a time as RFC 3339 has it (``2026-11-23T12:00:00Z``, ``2026-11-23T13:00:00.5+01:00``).

    Raises:
        ValueError: it is something else, or a day or hour that does not exist.
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError(f"{text!r} is not a time with a zone; write it like 2026-11-23T12:00:00Z")
    try:
        moment = datetime.fromisoformat(text.upper())
        return from_datetime(moment)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a time: {error}") from None
