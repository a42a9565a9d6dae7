"""How long to wait before trying again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with jitter, so that many clients that failed together do not come back together.

    Args:
        initial: seconds before the first retry, before jitter.
        maximum: the longest wait in seconds.
        factor: how much longer each further wait is.
    """

    initial: float
    maximum: float
    factor: float = 2.0

    def delay(self, *, attempt: int, chance: float) -> float:
        """Seconds to wait before retry number ``attempt`` (the first is 1): between half and all of the exponential value.

        Args:
            attempt: how many tries have failed.
            chance: a random number in [0, 1).
        """
        # The exponent is bounded, so that a sensor that tried for weeks does not overflow.
        exponential = self.initial * self.factor ** min(max(attempt - 1, 0), 32)
        return min(exponential, self.maximum) * (0.5 + chance / 2)
