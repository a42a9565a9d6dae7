"""What a source remembers of a rule where nothing that it reads keeps a place for its readers: a feed, a folder."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

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


class _OfParameters(Protocol):
    @property
    def fingerprint(self) -> bytes: ...


_State = TypeVar("_State", bound=_OfParameters)


class KeptState(Generic[_State]):
    """What a source remembers of its rule, in memory, and whether a :class:`RuleStore` keeps it.

    Args:
        store: keeps it.
        pack: a state as bytes.
        unpack: the state again; None when it is none that this version of the program can use.
        pause: seconds between two times that so many bytes are kept, while more is under way.
        monotonic: seconds.

    Attributes:
        state: what is remembered; None before anything is. Its ``fingerprint`` says to which parameters it belongs.
        dirty: whether something is in it that is not kept.
    """

    def __init__(
        self,
        store: RuleStore,
        *,
        pack: Callable[[_State], bytes],
        unpack: Callable[[bytes], _State | None],
        pause: Callable[[int], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._pack = pack
        self._unpack = unpack
        self._pause = pause
        self._monotonic = monotonic
        self._next_at = 0.0
        self.state: _State | None = None
        self.dirty = False

    @property
    def current(self) -> _State:
        """What is remembered, once something is."""
        if self.state is None:
            raise RuntimeError("the source is not open")
        return self.state

    @property
    def due(self) -> bool:
        """Whether it is worth keeping now what is in it."""
        return self.dirty and self._monotonic() >= self._next_at

    def refresh(self) -> bool:
        """Have it kept again if the API would forget it; returns whether that is so."""
        self.dirty = self.dirty or self._store.stale
        return self._store.stale

    async def load(self, fingerprint: bytes) -> bool:
        """Read what is kept; returns whether it belongs to these parameters. Else the rule begins from the start.

        Raises:
            SourceError: the API does not answer.
        """
        packed = await self._store.load()
        found = None if packed is None else await asyncio.to_thread(self._unpack, packed)
        if found is None or found.fingerprint != fingerprint:
            return False
        self.state = found
        return True

    async def keep(self) -> bool:
        """Keep it, if it is not kept; returns whether it is.

        Raises:
            SourceError: see :meth:`RuleStore.keep`.
        """
        if not self.dirty or self.state is None:
            return True
        packed = await asyncio.to_thread(self._pack, self.state)
        self._next_at = self._monotonic() + self._pause(len(packed))
        if not await self._store.keep(packed):
            return False
        self.dirty = False
        return True

    async def begin(self) -> None:
        """Keep what is remembered at first, before anything is reported.

        Raises:
            SourceError: the API does not keep it now, or see :meth:`RuleStore.keep`.
        """
        self.dirty = True
        if not await self.keep():
            raise SourceError("the API does not keep now what is to be remembered of the rule")
