"""How long to wait before the next try."""

from collections.abc import Callable


def delay(attempt: int, *, random: Callable[[], float], first: float = 0.2, most: float = 15.0) -> float:
    """Seconds before try number ``attempt`` + 1: doubling, "equal jitter", never more than ``most``.

    Args:
        attempt: failures so far, from 0.
        random: a number from 0 to 1, as ``random.random``.
        first: seconds after the first failure.
        most: upper bound in seconds.
    """
    ceiling = min(most, first * 2.0 ** min(attempt, 30))
    return ceiling / 2 + random() * ceiling / 2
