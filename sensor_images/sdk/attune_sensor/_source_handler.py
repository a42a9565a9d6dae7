"""Serves rules that read sources: those with the same subscription share one reader."""

import asyncio
import contextlib
from collections.abc import Hashable
from typing import Final

from prometheus_client import Counter

from attune_kit.backoff import Backoff
from attune_sensor._context import SensorContext
from attune_sensor._rules import Rule
from attune_sensor._source_consumer import SourceConsumer
from attune_sensor._source_window import Budget
from attune_sensor._sources import ForgettingSourceKind, RemarkingSourceKind, SourceKind

_RETRY: Final = Backoff(initial=0.5, maximum=30.0)
#: Seconds that a rule waits for its source, before it is Failing because the source did not answer yet.
_OPENS: Final = 20.0
#: So many losses in a row do not mean that nothing gets through.
_LOSSES: Final = 1000


class SourceHandler:
    """A :class:`attune_sensor.RuleHandler` for a :class:`attune_sensor.SourceKind`.

    A message is acknowledged when the API has stored its events, one for each rule. What is read again, because a process
    was killed in between, has the same ids and is stored once. While the API is
    away, no more is read than may be under way. While a source
    cannot be read, its rules are ``Failing`` with the reason, and it is opened again with backoff.

    Args:
        context: how events are reported.
        kind: the kind of source.
        retry: how long to wait before a source is opened again.
    """

    def __init__(self, context: SensorContext, kind: SourceKind, *, retry: Backoff = _RETRY) -> None:
        self._context = context
        self._kind = kind
        self._retry = retry
        self._budget = Budget()
        self._consumers: dict[Hashable, SourceConsumer] = {}
        self._reading: dict[str, Hashable] = {}  # of each rule, its subscription
        self._messages = Counter(
            "attune_source_messages",
            "Messages by what became of them: acknowledged, reported_again (after the spool), by_reference (too large)",
            ["result"],
            registry=context.metrics.registry,
        )
        for result in ("acknowledged", "reported_again", "by_reference"):
            self._messages.labels(result)
        context.add_health_check("source", self._fault)
        context.add_live_check("sources", self._died)
        if isinstance(kind, RemarkingSourceKind):
            kind.remark = self.remark

    async def start(self, rule: Rule) -> None:
        """Read the rule's source. When this returns it is open, or the rule is reported as failing.

        Raises:
            InvalidRuleError: its parameters cannot be used.
        """
        subscription = self._kind.subscription(rule)
        # Nothing is awaited before the rule stands in its consumer: see SensorContext.rules_started.
        before = self._reading.get(rule.uid)
        self._reading[rule.uid] = subscription
        consumer = self._consumers.get(subscription)
        if consumer is None:
            consumer = self._consumers[subscription] = SourceConsumer(
                self._kind,
                subscription,
                context=self._context,
                messages=self._messages,
                budget=self._budget,
                retry=self._retry,
            )
            consumer.start()
        consumer.rules[rule.uid] = rule
        if before is not None and before != subscription:
            await self._leave(rule.uid, before)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OPENS):
                await consumer.settled.wait()
        if not consumer.settled.is_set():
            self._context.failing(rule, f"{self._kind.describe(subscription)}: it has not answered yet")
        elif consumer.failure is not None:
            self._context.failing(rule, consumer.failure)

    async def update(self, old: Rule, new: Rule) -> None:
        """Read what the rule asks for now; with the same subscription, nothing is interrupted.

        Raises:
            InvalidRuleError: the new parameters cannot be used.
        """
        await self.start(new)

    async def stop(self, rule: Rule) -> None:
        """Stop reading for the rule. What it did not read stays where it is."""
        subscription = self._reading.pop(rule.uid, None)
        if subscription is not None:
            await self._leave(rule.uid, subscription)
        if isinstance(self._kind, ForgettingSourceKind):
            self._kind.forget(rule)

    async def close(self) -> None:
        """Stop reading. Messages that are on their way get a moment to be stored and acknowledged."""
        consumers = list(self._consumers.values())
        self._consumers.clear()
        await asyncio.gather(*(consumer.stop() for consumer in consumers))

    def remark(self, subscription: Hashable, why: str, *, what: str = "gaps") -> None:
        """Say in the conditions of the rules that read this that some of it was lost; they stay ``Active``.

        Args:
            subscription: what they read.
            why: what was lost and why, for the rules' authors; no secrets.
            what: such losses, in the plural.
        """
        consumer = self._consumers.get(subscription)
        for rule in () if consumer is None else tuple(consumer.rules.values()):
            self._context.refused(rule, why, what=what, tolerated=_LOSSES)

    async def _leave(self, uid: str, subscription: Hashable) -> None:
        consumer = self._consumers.get(subscription)
        if consumer is None:
            return
        if len(consumer.rules) > 1:
            consumer.rules.pop(uid, None)
            return
        # The last rule: what is on its way still becomes its events.
        del self._consumers[subscription]
        await consumer.stop()
        consumer.rules.pop(uid, None)

    def _fault(self) -> str | None:
        faults = (consumer.fault for consumer in self._consumers.values())
        return next((fault for fault in faults if fault is not None), None)

    def _died(self) -> str | None:
        found = (consumer.died() for consumer in self._consumers.values())
        return next((text for text in found if text is not None), None)
