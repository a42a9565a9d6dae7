"""Brings the Rules' statuses in Kubernetes to what they should say, and records Events about what people want to know."""

import asyncio
import contextlib
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
    next_time,
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
from attune_operator.rules.write_budget import WriteBudget
from attune_operator.runtime.cluster import RuleCluster
from attune_operator.runtime.conditions import Verdict
from attune_operator.runtime.controller import Controller
from attune_operator.runtime.events import ObjectEvent, ObjectReference
from attune_operator.runtime.queue import PriorityQueue

_log = structlog.stdlib.get_logger(__name__)

_WARNED_REASONS: Final = frozenset({ActiveReason.REJECTED, ActiveReason.FAILING})
_NOWHERE: Final = RuleContext()
_NO_STATUS: Final = StatusRecord()
#: Seconds in which Rules are offered together.
_TOGETHER: Final = 0.02


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
        self._times = _Times(
            cache=cache,
            writer=self._writer,
            budget=WriteBudget(rate=options.times_rate, sensor_rate=options.times_sensor_rate),
        )

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(super().run(), name="rule-conditions")
            group.create_task(self._writer.run(), name="rule-statuses")
            group.create_task(self._times.run(), name="rule-times")

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
        context = self._context(entry, acceptance.sensor)
        active = active_verdict(
            acceptance=acceptance,
            enabled=rule.enabled,
            generation=rule.generation,
            context=context,
            previous=entry.desired,
        )
        entry.desired_next_time = next_time(
            active, ack=context.ack, generation=rule.generation, previous=entry.desired_next_time
        )
        actions = actions_verdict(
            has_actions=rule.acts,
            in_order=rule.in_order,
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
        elif entry.desired_next_time != entry.next_time:
            self._times.offer(entry)
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
        desired, runs = entry.desired, entry.runs
        patch = status_patch(desired) if desired != entry.status else {}
        times = _times_patch(entry) if patch or entry.times_due else {}
        patch |= times
        if not patch:
            entry.times_due = False
            return None
        written = {"lastEventTime": entry.event_time, "nextTime": entry.next_time} | times

        def done() -> None:
            now = asyncio.get_running_loop().time()
            entry.wrote(desired, now=now)
            if times:
                entry.times_due = False
                entry.wrote_times(event_time=written["lastEventTime"], next_time=written["nextTime"], now=now)
            if "runs" in times:
                entry.runs_written = runs

        return StatusWrite(
            namespace=entry.rule.namespace,
            name=entry.rule.name,
            uid=uid,
            first=entry.status == _NO_STATUS and entry.event_time is None and entry.next_time is None,
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
        self._times.offer(entry)

    def see_next_time(self, entry: RuleEntry) -> bool:
        """A sensor says when a rule is due next, and nothing else that is new. Returns whether that is all to be done."""
        rule, acceptance, active = entry.rule, entry.acceptance, entry.desired.active
        if rule is None or acceptance is None or acceptance.sensor is None or active is None:
            return False
        if active.observed_generation != rule.generation:
            return False
        entry.desired_next_time = next_time(
            Verdict("True", active.reason, ""),
            ack=entry.latest_ack(acceptance.sensor),
            generation=rule.generation,
            previous=entry.desired_next_time,
        )
        self._times.offer(entry)
        return True

    def see_event(self, event: LastEvent) -> None:
        """An event of a Rule was stored."""
        entry = self._cache.rules.get(event.rule_uid)
        if entry is None or event.time <= (entry.desired_event_time or ""):
            return
        entry.desired_event_time = event.time
        if entry.acceptance is not None and entry.acceptance.sensor is not None:
            self._summaries.see_event(entry.acceptance.sensor, event.time)
        self._times.offer(entry)


class _Times:
    """Lets times and numbers be written, few at a time."""

    def __init__(self, *, cache: RuleCache, writer: StatusWriter, budget: WriteBudget) -> None:
        self._cache = cache
        self._writer = writer
        self._budget = budget
        self._offered = asyncio.Event()

    def offer(self, entry: RuleEntry) -> None:
        """A Rule's times or numbers are others than Kubernetes has."""
        self._budget.offer(entry.uid, sensor=entry.desired.sensor or "", shown=entry.event_time or "")
        self._offered.set()

    async def run(self) -> None:
        """Have one Rule after another written until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._offered.clear()
            uid = self._budget.take(now=loop.time(), wanted=self._is_wanted)
            if uid is not None:
                self._cache.rules[uid].times_due = True
                self._writer.submit(uid, urgent=False)
                continue
            wait = self._budget.wait(now=loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._offered.wait()
                    await asyncio.sleep(_TOGETHER)

    def _is_wanted(self, uid: str) -> bool:
        entry = self._cache.rules.get(uid)
        return entry is not None and entry.unwritten


def _times_patch(entry: RuleEntry) -> dict[str, Any]:
    """The times and numbers that Kubernetes does not have, as a merge patch."""
    patch: dict[str, Any] = {}
    if entry.desired_event_time not in (None, entry.event_time):
        patch["lastEventTime"] = entry.desired_event_time
    if entry.desired_next_time != entry.next_time:
        patch["nextTime"] = entry.desired_next_time
    if entry.runs is not None and entry.runs != entry.runs_written:
        patch |= runs_patch(entry.runs)
    return patch


def _obstacle(entry: RuleEntry) -> str:
    return f"NATS refuses its message: {entry.refusal}." if entry.refusal else ""
