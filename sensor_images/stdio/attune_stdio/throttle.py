"""How fast lines are taken from a program, so that one that floods holds up nobody but itself. Pure."""

from typing import Final

#: Shorter waits than this (seconds) are saved up: sleeping for each line would cost more than the line.
_WORTH_A_SLEEP: Final = 0.02


class Throttle:
    """A token bucket that lets a second's worth through at once.

    Args:
        rate: lines a second.
        now: the time it begins, seconds, monotonic.
    """

    def __init__(self, *, rate: float, now: float) -> None:
        self._rate = rate
        self._tokens = rate
        self._at = now

    def take(self, number: float, *, now: float) -> float:
        """Take so many lines; returns how long (seconds) to wait before the next, 0 when that is not worth it."""
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate) - number
        self._at = now
        wait = -self._tokens / self._rate
        return wait if wait >= _WORTH_A_SLEEP else 0.0
