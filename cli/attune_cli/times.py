"""Times and durations as people write them."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from attune_cli.errors import UsageError

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART: Final = re.compile(r"([0-9]{1,9})([smhdw])")


def length(text: str) -> timedelta:
    """Read ``90s``, ``1h30m``, ``7d``.

    Raises:
        UsageError: the text is not a duration.
    """
    if not re.fullmatch(rf"(?:{_PART.pattern})+", text):
        raise UsageError(f"{text!r} is not a duration; write it like 90s, 15m, 1h30m or 7d.")
    return timedelta(seconds=sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(text)))


def moment(text: str, now: datetime) -> datetime:
    """Read a time (RFC 3339; without a zone it is the machine's), or how long ago: ``15m``.

    Raises:
        UsageError: the text is neither.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - length(text)
        except (UsageError, OverflowError):
            raise UsageError(
                f"{text!r} is not a time; write 2026-11-24T06:00:00Z, or how long ago, like 15m or 7d."
            ) from None
    return time.astimezone(UTC)


def rfc3339(time: datetime) -> str:
    """As the API writes times: UTC."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
