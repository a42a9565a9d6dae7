"""How long to wait before the next attempt.

Exponential backoff with "equal jitter": each wait is between half and all of a value that doubles, so that clients that
failed together do not come back together (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

#: Bound of the exponent, so that a client that has failed for weeks does not overflow.
_MAX_EXPONENT: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """A schedule of waits.

    Args:
        initial: seconds before the first retry, before jitter.
        maximum: the longest wait in seconds.
        factor: how much longer each further wait is.
    """

    initial: float
    maximum: float
    factor: float = 2.0

    def delay(self, *, attempt: int, chance: float | None = None) -> float:
        """Seconds to wait before retry number ``attempt``: between half and all of the exponential value.

        Args:
            attempt: how many attempts have failed; the first retry is 1.
            chance: a random number in [0, 1); drawn unless given.
        """
        if chance is None:
            chance = random.random()  # noqa: S311 - jitter
        exponent = min(max(attempt - 1, 0), _MAX_EXPONENT)
        return min(self.initial * self.factor**exponent, self.maximum) * (0.5 + chance / 2)

    def start(self, *, chance: Callable[[], float] = random.random) -> "Retries":
        """A counter of failures that follows this schedule.

        Args:
            chance: random numbers in [0, 1), for jitter.
        """
        return Retries(self, chance=chance)


def spread(period: float, *, chance: float | None = None) -> float:
    """A period with up to 10 % more or less, so that what started together does not stay in step.

    Args:
        period: seconds.
        chance: a random number in [0, 1); drawn unless given.
    """
    if chance is None:
        chance = random.random()  # noqa: S311 - jitter
    return period * (0.9 + 0.2 * chance)


class Retries:
    """Failures in a row, and the wait after each.

    Attributes:
        failures: how many attempts have failed since the last success.
    """

    __slots__ = ("_backoff", "_chance", "failures")

    def __init__(self, backoff: Backoff, *, chance: Callable[[], float]) -> None:
        self._backoff = backoff
        self._chance = chance
        self.failures = 0

    def next_delay(self) -> float:
        """Count a failure; returns the seconds to wait before the next attempt."""
        self.failures += 1
        return self._backoff.delay(attempt=self.failures, chance=self._chance())

    def reset(self) -> None:
        """An attempt succeeded: the next failure begins the schedule again."""
        self.failures = 0
