"""Brings the Rules' statuses in Kubernetes to what they should say, and records Events about what people want to know."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import structlog

from attune_contract.identity import SensorRef
from attune_contract.names import ActiveReason
from attune_operator.rules import metrics
from attune_operator.rules.cache import RuleCache
from attune_operator.rules.conditions import (
    RuleContext,
    accepted_verdict,
    actions_verdict,
    active_verdict,
    next_status,
    runs_patch,
    same_but_times,
    status_patch,
)
from attune_operator.rules.entry import RuleEntry, rule_count
from attune_operator.rules.last_events import LastEvent
from attune_operator.rules.options import RulesOptions
from attune_operator.rules.records import RuleRecord, RunCounts, StatusRecord
from attune_operator.rules.status_writer import StatusWrite, StatusWriter
from attune_operator.rules.summaries import Summaries
from attune_operator.runtime.cluster import RuleCluster
from attune_operator.runtime.conditions import Verdict
from attune_operator.runtime.controller import Controller
from attune_operator.runtime.events import ObjectEvent, ObjectReference
from attune_operator.runtime.queue import PriorityQueue

_log = structlog.stdlib.get_logger(__name__)

_WARNED_REASONS: Final = frozenset({ActiveReason.REJECTED, ActiveReason.FAILING})
_NOWHERE: Final = RuleContext()
_NO_STATUS: Final = StatusRecord()


class Statuses(Controller[str]):
    """Works out statuses and has them written.

    :meth:`update` does so at once. The queue is for the bulk, and waits while Rules wait to be projected: first the
    sensors, then the readers of statuses.
    """

    def __init__(
        self,
        *,
        cluster: RuleCluster,
        cache: RuleCache,
        queue: PriorityQueue[str],
        rules: PriorityQueue[str],
        summaries: Summaries,
        options: RulesOptions,
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__("rule conditions", queue=queue)
        self._cluster = cluster
        self._cache = cache
        self._summaries = summaries
        self._clock = clock
        self._writer = StatusWriter(
            render=self._render,
            write=self._write,
            rate=options.status_rate,
            concurrency=options.status_concurrency,
            yields_to=rules,
        )
        self._event_times = _EventTimes(cache=cache, writer=self._writer, rate=options.last_event_rate)
        self._event_period = options.last_event_period

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(super().run(), name="rule-conditions")
            group.create_task(self._writer.run(), name="rule-statuses")
            group.create_task(self._event_times.run(), name="rule-event-times")

    async def reconcile(self, key: str, *, urgent: bool) -> float | None:
        """Work out one Rule's status."""
        if (entry := self._cache.rules.get(key)) is not None:
            self.update(entry, urgent=urgent)
        return None

    async def on_error(self, key: str, error: Exception) -> None:
        """One Rule that cannot be handled must not stop the others."""
        metrics.ERRORS.inc()
        self.queue.failed(key, urgent=False)
        _log.error("rule_status_not_worked_out", rule_uid=key, exc_info=error)

    def update(self, entry: RuleEntry, *, urgent: bool) -> None:
        """Work out what a Rule's status should say, and have it written if Kubernetes says something else.

        Args:
            entry: the Rule. Without effect before it was decided whether the Rule is accepted.
            urgent: whether a person waits for it.
        """
        rule, acceptance = entry.rule, entry.acceptance
        if rule is None or acceptance is None:
            return
        accepted = accepted_verdict(acceptance)
        active = active_verdict(
            acceptance=acceptance,
            enabled=rule.enabled,
            generation=rule.generation,
            context=self._context(entry, acceptance.sensor),
            previous=entry.desired,
        )
        actions = actions_verdict(
            has_actions=rule.acts,
            problem=entry.actions_problem if entry.actions_checked == rule.actions else None,
            runs=entry.runs,
            generation=rule.generation,
            previous=entry.desired,
        )
        desired = next_status(
            actions=actions,
            generation=rule.generation,
            acceptance=acceptance,
            accepted=accepted,
            active=active,
            previous=entry.desired,
            now=self._clock(),
        )
        if same_but_times(desired, entry.status):
            desired = entry.status
        before, entry.desired = entry.desired, desired
        sensor = acceptance.sensor if acceptance.accepted else None
        self._summaries.count(entry, rule_count(sensor, active.reason))
        # What is on its way to Kubernetes may be outdated by now, even if what stands there is right.
        if desired != entry.status or self._writer.is_writing(entry.uid):
            self._writer.submit(entry.uid, urgent=urgent)
        if desired is not before:
            self._announce(rule, before, accepted=accepted, active=active, awaited=urgent)

    def _context(self, entry: RuleEntry, sensor: SensorRef | None) -> RuleContext:
        if sensor is None:
            return _NOWHERE
        stream = self._cache.stream
        record = self._cache.sensors.get(sensor)
        ack = entry.latest_ack(sensor) if stream.connected else None
        return RuleContext(
            paused=record is not None and record.paused,
            runtime=self._summaries.runtime(sensor),
            ack=ack,
            acks_known=stream.connected
            and (ack is not None or asyncio.get_running_loop().time() >= stream.acks_known_at),
            obstacle=_obstacle(entry) if stream.connected else stream.outage,
        )

    def _announce(
        self, rule: RuleRecord, before: StatusRecord, *, accepted: Verdict, active: Verdict, awaited: bool
    ) -> None:
        """Record Kubernetes Events for what somebody waits for, or has to act on.

        That 10,000 rules became active because their sensor came back is not worth 10,000 Events.
        """
        if accepted.status == "False":
            if before.accepted is None or before.accepted.reason != accepted.reason:
                self._record(rule, accepted, kind="Warning", action="Accept")
        elif active.reason in _WARNED_REASONS:
            if before.active is None or before.active.reason != active.reason:
                self._record(rule, active, kind="Warning", action="Activate")
        elif awaited and active.status == "True" and (before.active is None or before.active.status != "True"):
            self._record(rule, active, kind="Normal", action="Activate")

    def _record(self, rule: RuleRecord, verdict: Verdict, *, kind: Any, action: str) -> None:
        self._cluster.record(
            ObjectEvent(
                regarding=ObjectReference(kind="Rule", namespace=rule.namespace, name=rule.name, uid=rule.uid),
                type=kind,
                reason=str(verdict.reason),
                message=verdict.message,
                action=action,
            )
        )

    def _render(self, uid: str) -> StatusWrite | None:
        entry = self._cache.rules.get(uid)
        if entry is None or entry.rule is None:
            return None
        desired, event_time = entry.desired, entry.desired_event_time
        patch = status_patch(desired) if desired != entry.status else {}
        with_event = event_time != entry.event_time and event_time is not None and (patch or entry.event_due)
        if with_event:
            patch["lastEventTime"] = event_time
        runs = entry.runs if entry.runs is not None and entry.runs != entry.runs_written else None
        if runs is not None and (patch or entry.event_due):
            patch |= runs_patch(runs)
        else:
            runs = None
        entry.event_due = False
        if not patch:
            return None

        def done() -> None:
            now = asyncio.get_running_loop().time()
            entry.wrote(desired, event_time=event_time if with_event else None, now=now)
            if runs is not None:
                entry.runs_written, entry.runs_written_at = runs, now

        return StatusWrite(
            namespace=entry.rule.namespace,
            name=entry.rule.name,
            uid=uid,
            first=entry.status == _NO_STATUS and entry.event_time is None,
            patch=patch,
            done=done,
        )

    async def _write(self, write: StatusWrite) -> None:
        # By uid: a Rule of the same name may have taken the place of this one, and nothing of this is true of it.
        await self._cluster.patch_rule_status(
            write.namespace, write.name, write.patch, uid=write.uid, first=write.first
        )

    def see_runs(self, uid: str, counts: RunCounts) -> None:
        """A Rule's runs have changed. The condition is looked at soon; the numbers are written at a bounded rate."""
        entry = self._cache.rules.get(uid)
        if entry is None or entry.runs == counts:
            return
        entry.runs = counts
        self.queue.enqueue(uid, urgent=False)
        due = entry.runs_written_at + self._event_period - asyncio.get_running_loop().time()
        self._event_times.queue.enqueue(uid, after=max(0.0, due))

    def see_event(self, event: LastEvent) -> None:
        """An event of a Rule was stored."""
        entry = self._cache.rules.get(event.rule_uid)
        if entry is None or event.time <= (entry.desired_event_time or ""):
            return
        entry.desired_event_time = event.time
        if entry.acceptance is not None and entry.acceptance.sensor is not None:
            self._summaries.see_event(entry.acceptance.sensor, event.time)
        due = entry.event_written_at + self._event_period - asyncio.get_running_loop().time()
        self._event_times.queue.enqueue(entry.uid, after=max(0.0, due))


class _EventTimes(Controller[str]):
    """Lets the times of the latest events be written, few at a time."""

    def __init__(self, *, cache: RuleCache, writer: StatusWriter, rate: float) -> None:
        super().__init__("rule event times", queue=PriorityQueue())
        self._cache = cache
        self._writer = writer
        self._interval = 1.0 / rate

    async def reconcile(self, key: str, *, urgent: bool) -> float | None:
        """Have one Rule's ``lastEventTime`` written."""
        if (entry := self._cache.rules.get(key)) is not None:
            entry.event_due = True
            self._writer.submit(key, urgent=False)
        await asyncio.sleep(self._interval)
        return None

    async def on_error(self, key: str, error: Exception) -> None:
        """It is only a column of a table; the next event brings it again."""
        _log.error("rule_event_time_not_written", rule_uid=key, exc_info=error)
        self.queue.done(key)


def _obstacle(entry: RuleEntry) -> str:
    return f"NATS refuses its message: {entry.refusal}." if entry.refusal else ""
