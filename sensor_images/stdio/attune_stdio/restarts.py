"""When a program that ended is started again. Pure."""

from dataclasses import dataclass
from typing import Final

from attune_kit.backoff import Backoff

#: A program that ran for so long (seconds) after a failure is said to work again.
HEALTHY_AFTER: Final = 10.0
#: After a run of this length (seconds) the next failure counts as the first.
FORGIVEN_AFTER: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """Exponential backoff with jitter, without end: a program is never given up.

    Args:
        initial: seconds before the first restart, before jitter.
        maximum: the longest wait in seconds.
        forgiven_after: seconds that a program must have run for its failures to be forgotten.
    """

    initial: float = 1.0
    maximum: float = 60.0
    forgiven_after: float = FORGIVEN_AFTER

    def after(self, *, attempt: int, ran: float, chance: float) -> tuple[int, float]:
        """What follows the end of a program.

        Args:
            attempt: how many failures there were in a row before this end.
            ran: for how long it ran, seconds.
            chance: a random number in [0, 1).

        Returns:
            How many failures there are in a row now, and how many seconds to wait: between half and all of the
            exponential value.
        """
        attempt = 1 if ran >= self.forgiven_after else attempt + 1
        backoff = Backoff(initial=self.initial, maximum=self.maximum)
        return attempt, backoff.delay(attempt=attempt, chance=chance)
