"""How long to wait before the next attempt."""

import random
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with full jitter (at least half of the step), in seconds."""

    first: float = 0.5
    limit: float = 30.0
    factor: float = 2.0
    rng: random.Random = field(default_factory=random.Random)
    attempts: int = 0

    def next(self) -> float:
        """The next wait."""
        step = min(self.limit, self.first * self.factor ** min(self.attempts, 30))
        self.attempts += 1
        return step * self.rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked."""
        self.attempts = 0
