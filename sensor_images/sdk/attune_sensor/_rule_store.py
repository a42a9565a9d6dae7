"""What a source remembers of a rule where nothing that it reads keeps a place for its readers: a feed, a folder."""

import time
from collections.abc import Callable
from typing import Final

from attune_contract.derived import MOST_STATE_BYTES
from attune_sensor._rules import Rule
from attune_sensor._source_events import ApiUnavailableError, SourceEvents
from attune_sensor._sources import SourceError

#: A state is due again after so many seconds though nothing has changed: the API forgets those that nobody keeps.
_REFRESH: Final = 6 * 3600.0


class RuleStore:
    """Keeps bytes for one rule at the API, so that a pod on another node goes on where this one ended.

    Args:
        events: asks the API (:attr:`SensorContext.source_events`).
        rule: whose they are.
        monotonic: seconds.
    """

    def __init__(self, events: SourceEvents, rule: Rule, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._events = events
        self._rule = rule
        self._monotonic = monotonic
        self._position = 0
        self._kept_at = monotonic()

    @property
    def stale(self) -> bool:
        """Whether what is kept should be kept again, so that it is not forgotten."""
        return self._monotonic() - self._kept_at > _REFRESH

    async def load(self) -> bytes | None:
        """What was kept last, by any pod; None when nothing is.

        Raises:
            SourceError: the API does not answer.
        """
        try:
            memory = await self._events.load(self._rule)
        except ApiUnavailableError as error:
            raise SourceError(f"the API does not say what is remembered of the rule: {error}") from None
        self._position = 0 if memory is None else memory.position
        return None if memory is None else memory.state

    async def keep(self, state: bytes) -> bool:
        """Keep this instead; False when the API does not answer now, so that it has to be tried again.

        Raises:
            SourceError: it is too large, or another pod has kept something newer: load that.
        """
        if len(state) > MOST_STATE_BYTES:
            raise SourceError(
                f"what is to be remembered has {len(state)} bytes; at most {MOST_STATE_BYTES} can be kept. Ask for less"
            )
        try:
            kept = await self._events.save(self._rule, position=self._position + 1, state=state)
        except ApiUnavailableError:
            return False
        if not kept:
            raise SourceError("another pod serves the rule, too, and has gone on. Sensors that poll need one replica")
        self._position += 1
        self._kept_at = self._monotonic()
        return True
