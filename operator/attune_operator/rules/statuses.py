"""Brings the Rules' statuses in Kubernetes to what they should say, and tells of what people want to know at once."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from attune_contract.identity import SensorRef
from attune_contract.names import ActiveReason
from attune_operator.rules.conditions import (
    Acceptance,
    Circumstances,
    Verdict,
    accepted_verdict,
    active_verdict,
    next_status,
    same_but_times,
    status_patch,
)
from attune_operator.rules.inventory import Inventory, TrackedRule
from attune_operator.rules.last_events import LastEvent
from attune_operator.rules.options import RulesOptions
from attune_operator.rules.records import StatusRecord
from attune_operator.rules.session import Session
from attune_operator.rules.status_writer import DueQueue, StatusWrite, StatusWriter
from attune_operator.rules.summaries import Summaries
from attune_operator.rules.tally import Standing
from attune_operator.runtime.cluster import RuleCluster
from attune_operator.runtime.events import ObjectEvent, ObjectReference

_WARNED_REASONS: Final = frozenset({ActiveReason.REJECTED, ActiveReason.FAILING})


class Statuses:
    """The wanted statuses, and their writing. ``session`` is the live session, None while there is none."""

    def __init__(
        self,
        *,
        cluster: RuleCluster,
        inventory: Inventory,
        summaries: Summaries,
        options: RulesOptions,
        clock: Callable[[], datetime],
        calm: Callable[[], bool],
    ) -> None:
        self._cluster = cluster
        self._inventory = inventory
        self._summaries = summaries
        self._options = options
        self._clock = clock
        self._writer = StatusWriter(
            render=self._render,
            patch=cluster.patch_rule_status,
            rate=options.status_rate,
            concurrency=options.status_concurrency,
            calm=calm,
        )
        self._events = DueQueue()
        self._events_due: set[str] = set()
        self._event_seen = asyncio.Event()
        self.session: Session | None = None

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writer.run(), name="rule-statuses")
            group.create_task(self._release_events(), name="rule-event-times")

    def update(self, tracked: TrackedRule, acceptance: Acceptance, *, urgent: bool) -> None:
        """Work out what a Rule's status should say, and have it written if Kubernetes says something else."""
        rule = tracked.rule
        accepted = accepted_verdict(acceptance)
        active = active_verdict(
            acceptance=acceptance,
            enabled=rule.enabled,
            generation=rule.generation,
            circumstances=self._circumstances(rule.uid, acceptance.sensor),
            previous=tracked.wanted,
        )
        wanted = next_status(
            generation=rule.generation,
            acceptance=acceptance,
            accepted=accepted,
            active=active,
            previous=tracked.wanted,
            now=self._clock(),
        )
        if same_but_times(wanted, tracked.status):
            wanted = tracked.status
        before, tracked.wanted = tracked.wanted, wanted
        sensor = acceptance.sensor if acceptance.accepted else None
        self._summaries.count(rule.uid, Standing(sensor, active.reason))
        # What is on its way to Kubernetes may be outdated by now, also when what stands there still is what should.
        if wanted != tracked.status or self._writer.is_writing(rule.uid):
            self._writer.submit(rule.uid, urgent=urgent)
        if wanted is not before:
            self._tell(tracked, before, accepted=accepted, active=active, awaited=urgent)

    def gone(self, uid: str) -> None:
        """There is no such Rule any more."""
        self._summaries.count(uid, None)
        self._events.discard(uid)
        self._events_due.discard(uid)

    def _circumstances(self, uid: str, sensor: SensorRef | None) -> Circumstances:
        session = self.session
        if sensor is None:
            return Circumstances()
        runtime = self._summaries.runtime(sensor)
        record = self._inventory.sensors.get(sensor)
        paused = record is not None and record.paused
        if session is None:
            return Circumstances(paused=paused, runtime=runtime, words_known=False, obstacle=self._summaries.outage)
        word = session.acks.word(uid, sensor)
        in_grace = (
            session.acks_found_empty and asyncio.get_running_loop().time() - session.begun < self._options.acks_grace
        )
        failure = session.projector.failures.get(uid)
        return Circumstances(
            paused=paused,
            runtime=runtime,
            word=word,
            words_known=word is not None or not in_grace,
            obstacle=f"NATS refuses its message: {failure}." if failure else "",
        )

    def _tell(
        self, tracked: TrackedRule, before: StatusRecord, *, accepted: Verdict, active: Verdict, awaited: bool
    ) -> None:
        """Kubernetes Events for what somebody waits for, or has to do something about.

        That 10,000 rules became active because their sensor came back is not 10,000 pieces of news.
        """
        if accepted.status == "False":
            if before.accepted is None or before.accepted.reason != accepted.reason:
                self._record(tracked, accepted, kind="Warning", action="Accept")
        elif active.reason in _WARNED_REASONS:
            if before.active is None or before.active.reason != active.reason:
                self._record(tracked, active, kind="Warning", action="Activate")
        elif awaited and active.status == "True" and (before.active is None or before.active.status != "True"):
            self._record(tracked, active, kind="Normal", action="Activate")

    def _record(self, tracked: TrackedRule, verdict: Verdict, *, kind: Any, action: str) -> None:
        rule = tracked.rule
        self._cluster.record(
            ObjectEvent(
                regarding=ObjectReference(kind="Rule", namespace=rule.namespace, name=rule.name, uid=rule.uid),
                type=kind,
                reason=str(verdict.reason),
                message=verdict.message,
                action=action,
            )
        )

    # -- writing

    def _render(self, uid: str) -> StatusWrite | None:
        tracked = self._inventory.rules.get(uid)
        if tracked is None:
            return None
        wanted, event_time = tracked.wanted, tracked.wanted_event_time
        patch = status_patch(wanted) if wanted != tracked.status else {}
        with_event = event_time != tracked.event_time and event_time is not None and (patch or uid in self._events_due)
        if with_event:
            patch["lastEventTime"] = event_time
        self._events_due.discard(uid)
        if not patch:
            return None

        def done() -> None:
            now = asyncio.get_running_loop().time()
            tracked.wrote(wanted, event_time=event_time if with_event else None, now=now)

        return StatusWrite(namespace=tracked.rule.namespace, name=tracked.rule.name, patch=patch, done=done)

    # -- the latest events

    def see_event(self, event: LastEvent) -> None:
        """An event of a Rule was stored."""
        tracked = self._inventory.rules.get(event.rule_uid)
        if tracked is None or event.time <= (tracked.wanted_event_time or ""):
            return
        tracked.wanted_event_time = event.time
        if tracked.acceptance is not None and tracked.acceptance.sensor is not None:
            self._summaries.see_event(tracked.acceptance.sensor, event.time)
        due = tracked.event_written_at + self._options.last_event_period
        self._events.add(event.rule_uid, max(due, asyncio.get_running_loop().time()))
        self._event_seen.set()

    async def _release_events(self) -> None:
        """Let the times of latest events be written, few at a time."""
        loop = asyncio.get_running_loop()
        while True:
            due = self._events.next_due()
            if due is None or due > loop.time():
                self._event_seen.clear()
                try:
                    async with asyncio.timeout_at(due):
                        await self._event_seen.wait()
                except TimeoutError:
                    pass
                continue
            uid = self._events.pop(loop.time())
            if uid is not None:
                self._events_due.add(uid)
                self._writer.submit(uid, urgent=False)
            await asyncio.sleep(1.0 / self._options.last_event_rate)
