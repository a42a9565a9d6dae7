"""Times as programs print them. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,9})?")
_TIME: Final = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[Tt _](?P<time>[0-9]{2}:[0-9]{2}(:[0-9]{2})?)([.,](?P<fraction>[0-9]+))?"
    r" ?(?P<zone>[Zz]|UTC|GMT|[Zz]?[+-][0-9]{2}(:?[0-9]{2})?)?"
)
#: Epochs are recognised by their size: a number below the first bound is in seconds, and so on to nanoseconds. In seconds the
#: first bound is the year 5138, in milliseconds it is 1973.
_UNITS: Final = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))


class MomentError(ValueError):
    """A value is not a time."""


def parse_moment(value: object) -> datetime:
    """Read a time.

    Args:
        value: an RFC 3339 time, also with a blank for the T and with zones like ``+0100``, ``Z+0000`` or ``UTC``; or an epoch in
            seconds, milliseconds, microseconds or nanoseconds, as a number or as text.

    Raises:
        MomentError: it is something else, has no zone, or does not exist.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise MomentError(f"{value!r} is not a time")
    text = str(value).strip()
    try:
        if _NUMBER.fullmatch(text):
            return _of_epoch(text)
        match = _TIME.fullmatch(text)
        if match is None:
            raise MomentError(f"{text[:50]!r} is not a time; expected one like 2026-11-23T12:00:00Z, or an epoch")
        if match["zone"] is None:
            raise MomentError(f"{text!r} has no zone; expected one like 2026-11-23T12:00:00Z")
        moment = datetime.fromisoformat(f"{match['day']}T{match['time']}")
        fraction = timedelta(microseconds=int((match["fraction"] or "0").ljust(6, "0")[:6]))
        return moment.replace(tzinfo=UTC) + fraction - _offset(match["zone"])
    except MomentError:
        raise
    except (ValueError, OverflowError) as error:
        raise MomentError(f"{text[:50]!r} is not a time: {error}") from None


def _of_epoch(text: str) -> datetime:
    whole, _, fraction = text.partition(".")
    number = int(whole)
    for bound, microseconds in _UNITS:
        if abs(number) < bound:
            part = int(fraction.ljust(9, "0")) * microseconds // 1_000_000_000 if fraction else 0
            return _EPOCH + timedelta(microseconds=number * microseconds + (-part if whole.startswith("-") else part))
    return _EPOCH + timedelta(microseconds=number // 1000)


def _offset(zone: str) -> timedelta:
    zone = zone.lstrip("Zz")
    if zone in {"", "UTC", "GMT"}:
        return timedelta()
    digits = zone[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
    return -offset if zone[0] == "-" else offset
