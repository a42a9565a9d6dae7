"""When an address is asked next. Pure."""

import email.utils
from datetime import UTC, datetime
from typing import Final

from attune_kit.backoff import Backoff, spread

#: Seconds that an answer may ask to wait.
_MOST_WAIT: Final = 3600.0
_FIRST: Final = 1.0
_LONGEST: Final = 600.0


class Pace:
    """Of one rule. It outlives connections that are given up.

    Args:
        interval: seconds between two requests.

    Attributes:
        next_at: when to ask next, in monotonic seconds.
        why: why the last request did not succeed; None if it did.
    """

    def __init__(self, interval: float) -> None:
        self.next_at = 0.0
        self.why: str | None = None
        self._interval = interval
        self._failures = 0
        self._retry = Backoff(initial=min(_FIRST, interval), maximum=min(max(30.0, interval), _LONGEST))

    def succeeded(self, now: float, *, chance: float | None = None) -> None:
        """There was an answer."""
        self._failures = 0
        self.why = None
        self.next_at = now + spread(self._interval, chance=chance)

    def failed(self, now: float, why: str, *, wait: float = 0.0, chance: float | None = None) -> None:
        """There was none that can be used.

        Args:
            now: monotonic seconds.
            why: the reason.
            wait: seconds that the answer asks to wait.
            chance: a random number in [0, 1).
        """
        self._failures += 1
        self.why = why
        self.next_at = now + max(wait, self._retry.delay(attempt=self._failures, chance=chance))


def wait_of(header: str | None, *, now: datetime) -> float:
    """Seconds that ``Retry-After`` asks to wait, an hour at most; 0 when it asks for none.

    Args:
        header: its value: seconds, or a date.
        now: the time.
    """
    if not header:
        return 0.0
    text = header.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:6]), _MOST_WAIT)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), _MOST_WAIT)
