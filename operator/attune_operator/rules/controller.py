"""Reconciles Rules: each is decided, projected onto the rule stream, and its status brought up to date.

What is done depends on what is known now and never on what just happened. A watch event, a list, an ack, an answer of NATS
and a new connection only enqueue the Rules that they concern.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from attune_kit.backoff import Backoff
from attune_operator.rules import metrics
from attune_operator.rules.actions_projector import ActionsProjector
from attune_operator.rules.cache import RuleCache
from attune_operator.rules.decisions import decide, prepare
from attune_operator.rules.entry import RuleEntry
from attune_operator.rules.expressions import ExpressionChecks
from attune_operator.rules.projector import Projector
from attune_operator.rules.records import RuleRecord
from attune_operator.rules.statuses import Statuses
from attune_operator.rules.summaries import Summaries
from attune_operator.rules.sweeper import Sweeper
from attune_operator.runtime.controller import Controller
from attune_operator.runtime.queue import PriorityQueue
from attune_operator.streams.publisher import ConnectionLostError

_log = structlog.stdlib.get_logger(__name__)

#: Waits until a Rule that could not be handled is tried again.
_RETRY: Final = Backoff(initial=1.0, maximum=300.0)
#: Seconds of one step of a Rule's reconciliation, after which other tasks have their turn.
_LONG: Final = 0.005


def rule_queue() -> PriorityQueue[str]:
    """The queue of Rules, by uid."""
    return PriorityQueue(retry=_RETRY)


class RuleController(Controller[str]):
    """Brings the rule stream and the statuses to what Kubernetes and the sensors say, one Rule at a time.

    Attributes:
        projector: writes to the rule stream; None while there is no connection to NATS.
        actions: says what the Rules' actions are; None while there is no connection to NATS.
    """

    def __init__(
        self,
        *,
        cache: RuleCache,
        queue: PriorityQueue[str],
        sweeper: Sweeper,
        statuses: Statuses,
        summaries: Summaries,
        expressions: ExpressionChecks,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__("rules", queue=queue)
        self._clock = clock
        self._cache = cache
        self._sweeper = sweeper
        self._statuses = statuses
        self._summaries = summaries
        self._expressions = expressions
        self.idle = IdleRules(cache=cache, rules=self)
        self.projector: Projector | None = None
        self.actions: ActionsProjector | None = None

    async def run(self) -> None:
        """Work until cancelled, after the first complete list.

        Before it, a Rule may be known but the Sensor that serves it not yet. The Rule would be bound to another Sensor while its
        old subject is not ours to change (``projection``), or be reported as of an unknown trigger type.
        """
        await self._sweeper.first_list.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(super().run(), name="rules")
            group.create_task(self.idle.run(), name="idle rules")

    async def reconcile(self, key: str, *, urgent: bool) -> float | None:
        """Decide about one Rule, project it, and bring its status up to date."""
        if (entry := self._cache.get(key)) is None:
            self._cache.stream.contested.discard(key)
            self._cache.stream.actions_contested.discard(key)
            return None
        desired = None
        if (rule := entry.rule) is not None:
            if await self._compiled_first(rule) and entry.rule is not rule:
                return None  # it changed meanwhile, and so waits again
            began = self._clock()
            decision = decide(rule, self._cache)
            entry.acceptance, desired = decision.acceptance, decision.desired
            if self._clock() - began > _LONG:
                await asyncio.sleep(0)
                if entry.rule is not rule:
                    return None
            self._expressions.see(entry, urgent=urgent)
        if self.actions is not None and (urgent or not self.idle.may_wait(entry)):
            # First: what is to be done for events is known before the sensor can report one.
            await self.actions.project(entry)
        elif self.actions is not None:
            self.idle.queue.enqueue(key, urgent=False)
        if self.projector is not None:
            await self.projector.project(entry, desired)
        # The Rule may have gone while the projector waited for a slot.
        if entry.rule is None:
            entry.changed_at = entry.published_at = None
            self._summaries.count(entry, None)
            self._cache.release(entry)
        elif urgent:
            self._statuses.update(entry, urgent=True)
        else:
            self._statuses.queue.enqueue(key, urgent=False)
        return None

    async def _compiled_first(self, rule: RuleRecord) -> bool:
        """Compile the schema that a Rule is checked by; returns whether that took long, and so others had their turn."""
        began = self._clock()
        prepare(rule, self._cache)
        if self._clock() - began <= _LONG:
            return False
        await asyncio.sleep(0)
        return True

    async def on_error(self, key: str, error: Exception) -> None:
        """One Rule that cannot be handled must not stop the others."""
        _not_reconciled(self.queue, key, error)


class IdleRules(Controller[str]):
    """Says of Rules without actions that there is nothing to do, where nobody waits for it and nothing else was said.

    After a start with an empty stream that is one message for each Rule. It comes after the messages for sensors. Until
    then the runner knows nothing about such a Rule, and gets its events again later.
    """

    def __init__(self, *, cache: RuleCache, rules: RuleController) -> None:
        super().__init__("idle rules", queue=PriorityQueue(yields_to=rules.queue, retry=_RETRY))
        self._cache = cache
        self._rules = rules

    @staticmethod
    def may_wait(entry: RuleEntry) -> bool:
        """Whether the runner would do nothing in any case, with what was said or without."""
        said = entry.actions
        return entry.rule is not None and not entry.rule.acts and (said is None or said.tombstone)

    async def reconcile(self, key: str, *, urgent: bool) -> float | None:
        """Say it. Without a connection there is nothing to say: with the next one, every Rule is reconciled."""
        entry, actions = self._cache.get(key), self._rules.actions
        if entry is not None and actions is not None:
            await actions.project(entry)
        return None

    async def on_error(self, key: str, error: Exception) -> None:
        """One Rule that cannot be handled must not stop the others."""
        _not_reconciled(self.queue, key, error)


def _not_reconciled(queue: PriorityQueue[str], key: str, error: Exception) -> None:
    if isinstance(error, ConnectionLostError):
        queue.done(key)  # the session ends, and with the next one every Rule is reconciled
        return
    metrics.ERRORS.inc()
    queue.failed(key, urgent=False)
    _log.error("rule_not_reconciled", rule_uid=key, exc_info=error)
