"""One running rule: its state, what events mean to it, and keeping the state at the API."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from attune_kit.cel.evaluator import Evaluator
from attune_kit.cel.library import EvaluationError
from attune_patterns.decide import Decider, Outcome, begin
from attune_patterns.events import (
    MOST_HOPS,
    UnusableKeyError,
    hops_behind,
    instant,
    key_of,
    moment,
    report_of,
    seen_of,
    text_of,
    value_of,
)
from attune_patterns.parameters import Listening
from attune_patterns.state import PackedError, pack, unpack
from attune_sensor import MOST_STATE_BYTES, AckState, EventReport, Rule, SensorContext, StoredEvent

#: Seconds between two times that a state is kept: at least, and for each byte of it. Between them, a kill costs reading again.
_PAUSE: Final = 5.0
_PAUSE_PER_BYTE: Final = 1 / 50_000
#: A state is kept after so many seconds though nothing has changed: the API forgets those that nobody keeps.
_REFRESH: Final = 6 * 3600.0
#: Seconds between two times that a rule's condition says how many keys were given up.
_TOLD_EVERY: Final = 60.0


class Serving:
    """One rule.

    Args:
        rule: the rule.
        listening: its parameters.
        context: the sensor's.
        evaluator: evaluates its expressions.
    """

    def __init__(self, rule: Rule, listening: Listening, *, context: SensorContext, evaluator: Evaluator) -> None:
        self.rule = rule
        self.listening = listening
        self.decider: Decider | None = None
        self.loaded = asyncio.Event()  #: its state is there, and kept
        self.problem: str | None = None  #: why its state is not there
        self.began_at: float | None = None  #: when it began (``time.monotonic``); None: it goes on
        self._context = context
        self._evaluator = evaluator
        self._ended = False
        self._keeping = asyncio.Lock()
        self._dirty = False
        self._too_large = False
        self._kept_at = 0.0
        self._pause = _PAUSE
        self._told: tuple[int, float] = (0, 0.0)

    # -- the state ---------------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read the state, or begin now, and keep that: from here on nothing is missed.

        Raises:
            ApiUnavailableError: the API does not answer.
        """
        source = self._context.source_events
        memory = await source.load(self.rule)
        if memory is not None:
            try:
                state = await asyncio.to_thread(unpack, memory.state)
            except PackedError as error:
                self._context.log.error("pattern_state_unreadable", rule=self.rule.ref, error=str(error))
            else:
                if state.fingerprint == self.listening.fingerprint:
                    self._begin(Decider(self.listening.pattern, state))
                    return
        page = await source.read(self.rule, self.listening.names, after=None)
        state = begin(
            self.listening.pattern,
            fingerprint=self.listening.fingerprint,
            now=instant(page.asked_at),
            position=page.position,
        )
        decider = Decider(self.listening.pattern, state)
        if not await source.save(self.rule, position=state.position, state=pack(state)):
            return  # another pod was faster: the next turn reads what that has kept
        self.began_at = time.monotonic()
        self._begin(decider)

    def _begin(self, decider: Decider) -> None:
        self.decider = decider
        self._told = (decider.state.dropped, 0.0)
        self._kept_at = time.monotonic()
        self.loaded.set()
        self._say_next()

    async def reload(self, *, newest: int) -> None:
        """The API lost events (a backup was restored): go on with the state that it has.

        Raises:
            ApiUnavailableError: the API does not answer.
        """
        had, self.decider = self.decider, None
        self.loaded.clear()
        await self.load()
        if self.decider is None:
            self.decider = had
        if self.decider is not None:
            self.decider.state.position = min(self.decider.state.position, newest)
            self._dirty = True

    async def keep(self, *, now: bool = False) -> None:
        """Keep the state at the API, if it is time. All that it led to must be stored.

        Args:
            now: at once.

        Raises:
            ApiUnavailableError: the API does not answer.
        """
        async with self._keeping:
            await self._keep(now=now)

    async def end(self) -> None:
        """Keep nothing from now on."""
        async with self._keeping:
            self._ended = True

    async def _keep(self, *, now: bool) -> None:
        decider = self.decider
        since = time.monotonic() - self._kept_at
        wanted = self._dirty and (now or since >= self._pause)
        if self._ended or decider is None or not (wanted or since >= _REFRESH):
            return
        packed = await asyncio.to_thread(pack, decider.state)
        self._kept_at = time.monotonic()
        self._pause = max(_PAUSE, len(packed) * _PAUSE_PER_BYTE)
        if len(packed) > MOST_STATE_BYTES:
            self._too_large = True
            self._context.failing(
                self.rule,
                f"what is to be remembered has {len(packed)} bytes; at most {MOST_STATE_BYTES} can be kept. "
                "Lower parameters.maxKeys",
            )
            return
        # Another pod may have kept a newer one. That is as good: it has decided the same.
        await self._context.source_events.save(self.rule, position=decider.state.position, state=packed)
        self._dirty = False
        if self._too_large:
            self._too_large = False
            self._context.recovered(self.rule)

    # -- events ------------------------------------------------------------------------------------------------------------

    async def take(self, event: StoredEvent, *, judge: bool) -> list[EventReport]:
        """What follows from an event.

        Args:
            event: the event.
            judge: see :meth:`Decider.take`.
        """
        decider = self.decider
        if decider is None or event.seq <= decider.state.position or event.rule_name not in self.listening.names:
            return []
        key = await self._key(event)
        if key is None:
            return []
        hops = hops_behind(event)
        if hops >= MOST_HOPS:
            self._context.refused(
                self.rule,
                f"they came through {MOST_HOPS} Rules about events or actions of kind emit, one after the other: a loop",
            )
            return []
        outcomes = decider.take(seen_of(event, self.listening, key=key, hops=hops), judge=judge)
        self._dirty = True
        self._tell()
        self._say_next()
        return self._reports(outcomes, last=event)

    def advance(self, now: int) -> list[EventReport]:
        """What follows from the time.

        Args:
            now: up to then, everything that was stored was taken.
        """
        if self.decider is None:
            return []
        outcomes = self.decider.advance(now)
        self._dirty = self._dirty or bool(outcomes)
        self._say_next()
        return self._reports(outcomes, last=None)

    def _reports(self, outcomes: Sequence[Outcome], *, last: StoredEvent | None) -> list[EventReport]:
        return [
            report_of(
                self.rule,
                self.listening,
                outcome,
                last=last
                if last is not None and outcome.fired.marks and outcome.fired.marks[-1].seq == last.seq
                else None,
            )
            for outcome in outcomes
        ]

    async def _key(self, event: StoredEvent) -> str | None:
        """The event's key; None when it does not count."""
        program = self.listening.program
        if not program.expressions:
            return ""
        try:
            results = await self._evaluator.evaluate(self.rule.uid, program, {"event": value_of(event)})
        except EvaluationError as error:
            results = [error]
        for number, result in enumerate(results):
            if isinstance(result, EvaluationError):
                self._context.refused(self.rule, f"{self.listening.where(number)} could not be evaluated: {result}")
                return None
        if self.listening.when is not None and results[0] is not True:
            self._context.left_out(self.rule, "parameters.when was not true")
            return None
        return self._usable(results[-1]) if self.listening.key is not None else ""

    def _usable(self, value: Any) -> str | None:
        try:
            return key_of(value)
        except UnusableKeyError as error:
            self._context.refused(self.rule, str(error))
            return None

    def _say_next(self) -> None:
        """Say in the Rule's status when it is decided next, where that is a time of the calendar."""
        if self.listening.scheduled and self.decider is not None:
            due = self.decider.next_deadline
            self._context.next_occurrence(self.rule, None if due is None else moment(due))

    def _tell(self) -> None:
        """Say in the condition how many keys were given up."""
        assert self.decider is not None  # noqa: S101 - an event was taken
        state = self.decider.state
        dropped, at = self._told
        if state.dropped == dropped or time.monotonic() - at < _TOLD_EVERY:
            return
        self._told = (state.dropped, time.monotonic())
        most = self.listening.pattern.most_keys
        self._context.report(
            self.rule,
            AckState.ACTIVE,
            f"{state.dropped} keys that were idle the longest were given up since {text_of(state.began)}, because there are more "
            f"than {most} (parameters.maxKeys)",
        )
