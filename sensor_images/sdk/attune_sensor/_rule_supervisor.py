"""Reconciles what runs with the rules that are known, one rule at a time, and acks the result.

Level-triggered: it compares what runs with what should run now, so changes that arrive while a handler is busy are
taken together. A rule that fails is retried with backoff and does not hold up others.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, Protocol

from attune_contract.messages import AckState
from attune_kit.backoff import Backoff
from attune_sensor._errors import InvalidRuleError
from attune_sensor._metrics import Metrics
from attune_sensor._outcomes import Outcomes, Told, due
from attune_sensor._rule_table import RuleChange
from attune_sensor._rules import Rule, RuleHandler

_RETRY: Final = Backoff(initial=1.0, maximum=60.0)
#: Rules that are worked on at once.
_WORKERS: Final = 8
#: A worker lets others run after so many rules that never waited for anything.
_YIELD_AFTER: Final = 32


class AckSink(Protocol):
    """Publishes results (:class:`attune_sensor._acks.AckPublisher`)."""

    def publish(self, rule: Rule, state: AckState, message: str = "", next_at: datetime | None = None) -> None:
        """Ack this generation of the rule."""

    def forget(self, uid: str) -> None:
        """The rule is gone: publish nothing more about it."""


class _Entry:
    """One rule: what should run, what runs, and the latest ack."""

    __slots__ = (
        "attempt", "busy", "early", "next_at", "queued", "reported", "retry", "running", "told", "verdict", "wanted",
    )  # fmt: skip

    def __init__(self) -> None:
        self.wanted: Rule | None = None
        self.running: Rule | None = None
        self.verdict: AckState | None = None
        self.reported: tuple[Rule, AckState, str] | None = None  # what the handler says of it
        self.told: Told | None = None  # what was said last of its outcomes
        self.early: tuple[AckState, str] | None = None  # reported by the handler before its method returned
        self.next_at: datetime | None = None  # when the next occurrence is due, as the handler says
        self.attempt = 0
        self.queued = False
        self.busy = False
        self.retry: asyncio.TimerHandle | None = None


class RuleSupervisor:
    """Calls the handler's methods.

    Args:
        handler: what runs rules.
        acks: publishes the results.
        trigger_types: what this sensor provides; a rule of another type is rejected.
        metrics: where rules are counted by state.
        log: a structlog logger.
        call_timeout: seconds after which a call of the handler is cancelled and counts as failed.
        chance: random numbers in [0, 1), for jitter.
        outcomes: what becomes of the rules' occurrences; it is part of what is acked.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        handler: RuleHandler,
        acks: AckSink,
        trigger_types: Iterable[str],
        metrics: Metrics,
        log: Any,
        call_timeout: float = 30.0,
        retry: Backoff = _RETRY,
        chance: Callable[[], float] = random.random,
        outcomes: Outcomes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handler = handler
        self._serves_disabled = getattr(handler, "serves_disabled_rules", False)
        self._acks = acks
        self._trigger_types = frozenset(trigger_types)
        self._metrics = metrics
        self._log = log
        self._call_timeout = call_timeout
        self._retry = retry
        self._chance = chance
        self._clock = clock
        self._outcomes = outcomes or Outcomes(clock=clock)
        self._outcomes.on_change = self._outcome_changed
        self._due: dict[str, asyncio.TimerHandle] = {}  # rules whose outcomes are said soon
        self._reviews: dict[str, asyncio.TimerHandle] = {}  # rules of which something holds for a time only
        self._entries: dict[str, _Entry] = {}
        self._queue: asyncio.Queue[str] = asyncio.Queue()  # holds a rule once at most, so it is bounded by their number
        for state in AckState:
            metrics.rules.labels(state)

    def apply(self, changes: Iterable[RuleChange]) -> None:
        """Apply changes; they are reconciled soon."""
        for change in changes:
            entry = self._entries.get(change.uid)
            if entry is None:
                entry = self._entries[change.uid] = _Entry()
            entry.wanted = change.new
            entry.attempt = 0
            self._enqueue(change.uid, entry)

    @property
    def caught_up(self) -> bool:
        """Whether no change waits to be taken up. Of those that are, the handler's method has begun."""
        return self._queue.empty()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_WORKERS):
                tasks.create_task(self._work())

    async def close(self) -> None:
        """Let the handler stop everything. Call it after :meth:`run` was cancelled."""
        for entry in self._entries.values():
            if entry.retry is not None:
                entry.retry.cancel()
        for handle in self._due.values():
            handle.cancel()
        await self._handler.close()

    def report(self, rule: Rule, state: AckState, message: str = "") -> None:
        """Ack what the handler reports about a rule that it runs, or is about to run; others are ignored."""
        entry = self._entries.get(rule.uid)
        if entry is None or entry.wanted is None or entry.wanted.state != rule.state:
            return
        if entry.busy:
            entry.early = (state, message)
        elif entry.running is not None and entry.wanted.state.enabled:
            self._verdict(entry, entry.wanted, state, message)

    def next_occurrence(self, rule: Rule, at: datetime | None) -> None:
        """Ack when the next occurrence of a rule is due that the handler runs, or is about to run; others are ignored."""
        entry = self._entries.get(rule.uid)
        if entry is None or entry.wanted is None or entry.wanted.state != rule.state or entry.next_at == at:
            return
        if entry.busy:
            entry.next_at = at  # said when its method has returned
        elif entry.running is not None and entry.reported is not None and entry.wanted.state.enabled:
            entry.next_at = at
            self._say(rule.uid, entry)

    def _enqueue(self, uid: str, entry: _Entry) -> None:
        if entry.retry is not None:
            entry.retry.cancel()
            entry.retry = None
        if not entry.queued:
            entry.queued = True
            if not entry.busy:
                self._queue.put_nowait(uid)

    async def _work(self) -> None:
        streak = 0
        while True:
            uid = await self._queue.get()
            entry = self._entries[uid]
            entry.queued, entry.busy = False, True
            try:
                await self._reconcile(uid, entry)
            finally:
                entry.busy = False
            if entry.queued:
                self._queue.put_nowait(uid)
            elif entry.wanted is None and entry.running is None:
                del self._entries[uid]
            streak += 1
            if streak % _YIELD_AFTER == 0:
                await asyncio.sleep(0)

    async def _reconcile(self, uid: str, entry: _Entry) -> None:
        wanted = entry.wanted
        provided = wanted is not None and wanted.trigger_type in self._trigger_types
        if wanted is None or not provided or not (wanted.state.enabled or self._serves_disabled):
            await self._stop(entry)
            if wanted is None:
                self._acks.forget(uid)
                self._outcomes.forget(uid)
                self._count(entry, None)
            elif not wanted.state.enabled:
                self._verdict(entry, wanted, AckState.STOPPED, "")
            else:
                offered = ", ".join(sorted(self._trigger_types))
                text = f"this sensor does not provide the trigger type {wanted.trigger_type}; it provides {offered}"
                self._verdict(entry, wanted, AckState.REJECTED, text)
            return
        if entry.running is not None and entry.running.state == wanted.state:
            if entry.running is not wanted:
                entry.running = wanted
            return
        entry.early = entry.next_at = None
        entry.told = None
        self._outcomes.begin(uid)
        try:
            async with asyncio.timeout(self._call_timeout):
                if entry.running is None:
                    await self._handler.start(wanted)
                else:
                    await self._handler.update(entry.running, wanted)
        except InvalidRuleError as error:
            # The rule no longer asks for what runs.
            await self._stop(entry)
            if not wanted.state.enabled:
                self._verdict(entry, wanted, AckState.STOPPED, "")
                return
            self._log.info("rule_rejected", rule=wanted.ref, rule_uid=uid, reason=str(error))
            self._verdict(entry, wanted, AckState.REJECTED, str(error))
        except Exception as error:
            self._metrics.rule_failures.inc()
            # After a failed update it is not known what runs; begin from nothing.
            await self._stop(entry)
            entry.attempt += 1
            delay = self._retry.delay(attempt=entry.attempt, chance=self._chance())
            self._log.exception("rule_failed", rule=wanted.ref, rule_uid=uid, retry_in_seconds=round(delay, 1))
            if wanted.state.enabled:
                self._verdict(entry, wanted, AckState.FAILING, describe(error, timeout=self._call_timeout))
            else:
                self._verdict(entry, wanted, AckState.STOPPED, "")
            loop = asyncio.get_running_loop()
            entry.retry = loop.call_later(delay, self._enqueue, uid, entry)
        else:
            entry.running = wanted
            entry.attempt = 0
            state, message = entry.early or (AckState.ACTIVE, "")
            if not wanted.state.enabled:
                state, message = AckState.STOPPED, ""
            self._verdict(entry, wanted, state, message)

    async def _stop(self, entry: _Entry) -> None:
        running = entry.running
        if running is None:
            return
        entry.running = None
        try:
            async with asyncio.timeout(self._call_timeout):
                await self._handler.stop(running)
        except Exception:
            self._metrics.rule_failures.inc()
            self._log.exception("rule_stop_failed", rule=running.ref, rule_uid=running.uid)

    def _verdict(self, entry: _Entry, rule: Rule, state: AckState, message: str) -> None:
        entry.reported = (rule, state, message)
        self._say(rule.uid, entry)

    def _say(self, uid: str, entry: _Entry) -> None:
        """Ack what the handler reported of a rule, together with what becomes of its occurrences."""
        assert entry.reported is not None  # noqa: S101 - for the type checker
        rule, state, message = entry.reported
        standing = self._outcomes.standing(uid)
        entry.told = Told(standing, self._clock())
        if standing is not None and state in (AckState.ACTIVE, AckState.COMPLETED):
            state = AckState.FAILING if standing.failing else state
            message = f"{standing.text}. {message}".strip()
        self._count(entry, state)
        runs = state in (AckState.ACTIVE, AckState.FAILING)
        self._acks.publish(rule, state, message, entry.next_at if runs else None)
        if standing is not None and standing.until is not None and uid not in self._reviews:
            left = standing.until - self._clock()
            self._reviews[uid] = asyncio.get_running_loop().call_later(max(left, 0.0) + 0.1, self._review, uid)

    def _review(self, uid: str) -> None:
        """What was said of a rule holds for a time only: say so when it does not hold any more."""
        self._reviews.pop(uid, None)
        self._outcome_changed(uid)
        standing = self._outcomes.standing(uid)
        if uid in self._entries and standing is not None and standing.until is not None:
            left = standing.until - self._clock()
            self._reviews[uid] = asyncio.get_running_loop().call_later(max(left, 0.0) + 0.1, self._review, uid)

    def _outcome_changed(self, uid: str) -> None:
        entry = self._entries.get(uid)
        if entry is None or entry.reported is None:
            return
        if (delay := due(self._outcomes.standing(uid), entry.told, now=self._clock())) is None:
            return
        loop = asyncio.get_running_loop()
        if (waiting := self._due.get(uid)) is not None:
            if waiting.when() <= loop.time() + delay:
                return
            waiting.cancel()  # what it waited with, a number say, can wait; that all fails now cannot
        self._due[uid] = loop.call_later(delay, self._say_outcome, uid)

    def _say_outcome(self, uid: str) -> None:
        self._due.pop(uid, None)
        entry = self._entries.get(uid)
        if entry is None or entry.reported is None:
            return
        left = due(self._outcomes.standing(uid), entry.told, now=self._clock())
        if left == 0.0:
            self._say(uid, entry)

    def _count(self, entry: _Entry, state: AckState | None) -> None:
        if entry.verdict is not None:
            self._metrics.rules.labels(entry.verdict).dec()
        if state is not None:
            self._metrics.rules.labels(state).inc()
        entry.verdict = state


def describe(error: BaseException, *, timeout: float) -> str:
    """A sentence for the condition of a rule that failed."""
    if isinstance(error, TimeoutError) and not str(error):
        return f"the sensor did not finish within {timeout:g} s; it will try again"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
