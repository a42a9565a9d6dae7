"""How many requests a rule takes in a second: a token bucket."""

import math


class Bucket:
    """Fills with ``rate`` tokens a second up to ``burst``; a request takes one.

    Args:
        rate: tokens in a second.
        burst: how many it holds; full at the beginning.
        now: the time in seconds, monotonic.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, *, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> int:
        """Take a token. Returns 0 when there was one, else the seconds (whole, at least 1) until there is."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0
        return max(1, math.ceil((1 - self._tokens) / self._rate))
