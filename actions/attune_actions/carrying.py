"""Carries runs out: attempt after attempt, each kept durably before what brought it is acknowledged.

A run that ends within a second costs one message: what became of it. One that takes longer, or has to wait, stands in the queue
(``ATTUNE_RUN_QUEUE``). While it is under way there, its entry says until when nobody else is to take it, and is renewed.
"""

import asyncio
import contextlib
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec
import structlog

from attune_actions.journal import Journal
from attune_actions.limits import RateLimits, Slots, Spacing
from attune_actions.metrics import Metrics
from attune_actions.settling import Outcome, RetryPolicy, changed, settled
from attune_contract.actions import ActionKind, Run, RunReason, RunState, queued_run_subject
from attune_contract.events import Event
from attune_contract.tracing import NO_TRACE, Trace
from attune_kit.actions.plan import Plan, Step

_log = structlog.stdlib.get_logger(__name__)

#: Seconds that a run may take before its event is acknowledged and the run stands in the queue.
_PROMPT: Final = 1.0
#: Seconds for which an entry in the queue keeps others from taking a run that is under way, and between renewals.
LEASE: Final = 15.0
_RENEWAL: Final = 5.0
#: Seconds between two returns of a rule's runs that found no free slot, and the bounds of such a wait.
_APART: Final = 0.001
_APART_STUCK: Final = 0.01
_FURTHEST_APART: Final = 0.05
_SOONEST: Final = 0.1
_LATEST: Final = 30.0
#: Runs that have ended and are remembered, so that an event that is handed out twice does nothing twice.
_REMEMBERED: Final = 20_000


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt is about.

    Attributes:
        run: as it was before the attempt.
        step: the action with its results filled in.
        plan: the Rule.
        event: the event.
        policy: of retries.
        look: the action was begun; look whether it is done.
        begin_by: no attempt begins after this time, in monotonic seconds; None: at any time. It keeps a replica that was frozen
            from beginning what another one has done meanwhile.
        trace: the trace that the target is told of.
    """

    run: Run
    step: Step
    plan: Plan
    event: Event
    policy: RetryPolicy
    look: bool = False
    begin_by: float | None = None
    trace: Trace = NO_TRACE


#: Makes one attempt, and ends when the action's timeout has passed. It may raise nothing but TimeoutError and what is a defect.
Attempt = Callable[[Task], Awaitable[Outcome]]


class Spans(Protocol):
    """Makes an attempt in a span of its own, of which the target is told."""

    async def __call__(self, task: Task, attempt: Attempt) -> Outcome:
        """What came of the attempt."""
        ...


def in_time(kind: Callable[[Task], Awaitable[Outcome]]) -> Attempt:
    """Attempts that end when the action's timeout has passed, of what does not look at it."""

    async def attempt(task: Task) -> Outcome:
        async with asyncio.timeout(task.policy.timeout):
            return await kind(task)

    return attempt


class BusyError(Exception):
    """The very same run is under way here already."""


class TooLateError(Exception):
    """What brought the run may have been given to another replica: leave it alone."""


class Carrier:
    """Carries runs out.

    Args:
        journal: where runs are kept.
        kinds: what makes attempts, by kind of action.
        slots: how many may be under way.
        metrics: what is counted.
        now: the time.
        monotonic: seconds, for limits.
        chance: random numbers in [0, 1), for jitter.
        spans: makes a span of each attempt; None: there are none.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        kinds: Mapping[ActionKind, Attempt],
        slots: Slots,
        metrics: Metrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        spans: "Spans | None" = None,
    ) -> None:
        self._spans = spans
        self._journal = journal
        self._kinds = kinds
        self._slots = slots
        self._metrics = metrics
        self._now = now
        self._monotonic = monotonic
        self._chance = chance
        self._rates = RateLimits()
        self._spacing = Spacing()
        self._under_way: set[UUID] = set()
        self._ended: OrderedDict[UUID, None] = OrderedDict()
        self._leased: set[asyncio.Task[None]] = set()
        #: Runs that are not over, of actions whose runs may not go on beside each other, with their subjects in the queue; and
        #: what goes on of them.
        self._active: dict[str, dict[UUID, str]] = {}
        self._first_attempts: dict[UUID, asyncio.Future[Run]] = {}
        self._replaced: set[UUID] = set()

    @property
    def under_way(self) -> int:
        """Runs whose attempt goes on now."""
        return len(self._under_way)

    def is_done(self, run_id: UUID) -> bool:
        """Whether this run ended here a short while ago."""
        return run_id in self._ended

    def wait_for_slot(self, rule_uid: str) -> float:
        """Seconds after which a run of a rule that has no free slot is to come back."""
        apart = _APART
        if self._slots.is_stuck(rule_uid):  # twice as often as slots become free, so that none stays free for long
            known = self._slots.seconds_apart(rule_uid)
            apart = _APART_STUCK if known is None else min(max(known / 2, _APART), _FURTHEST_APART)
        return self._spacing.delay(rule_uid, now=self._monotonic(), apart=apart, least=_SOONEST, most=_LATEST)

    async def end(self, run: Run) -> None:
        """Keep a run that is over."""
        await self._journal.report(run)
        self._replaced.discard(run.id)
        key = f"{run.rule_uid}/{run.action}"
        if key in self._active:
            self._active[key].pop(run.id, None)
            if not self._active[key]:
                del self._active[key]
        self._metrics.runs.labels(run.kind.value, run.state.value).inc()
        self._ended[run.id] = None
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)

    async def carry(self, task: Task, raw: bytes) -> None:
        """Carry out a run of an event. Returns when it is over and reported, or stands in the queue.

        Args:
            task: what is to be done.
            raw: the event as JSON, for the queue.

        Raises:
            BusyError: the run is under way here.
            TooLateError: it was not begun before ``task.begin_by``.
        """
        run = task.run
        if run.id in self._ended:
            return
        if run.id in self._under_way:
            raise BusyError(str(run.id))
        if await self._kept_by_others(task):
            return
        self._under_way.add(run.id)
        try:
            has_slot = await self._slots.acquire(run.rule_uid)
        except asyncio.CancelledError:
            self._under_way.discard(run.id)
            raise
        if not has_slot:
            self._under_way.discard(run.id)
            wait = timedelta(seconds=self.wait_for_slot(run.rule_uid))
            await self._journal.queue(changed(run, now=self._now(), next_attempt_at=self._now() + wait), raw)
            self._metrics.queued.inc()
            return
        work = asyncio.ensure_future(self._attempt(task))
        if task.step.action.get("concurrency", "Allow") != "Allow":
            self._first_attempts[run.id] = work
            work.add_done_callback(lambda _: self._first_attempts.pop(run.id, None))
        try:
            await asyncio.wait({work}, timeout=_PROMPT)
            if not work.done():
                sequence = await self._lease(run, raw)
                holding = asyncio.create_task(self._hold(task, work, raw, sequence), name=f"run {run.id}")
                self._leased.add(holding)
                holding.add_done_callback(self._leased.discard)
                return
            await self._settle(work.result(), raw)
        except asyncio.CancelledError:
            work.cancel()
            raise
        finally:
            if work.done():
                self._under_way.discard(run.id)

    async def resume(self, task: Task, raw: bytes) -> bool:
        """Carry out a run out of the queue; whoever holds its message goes on saying so. Returns whether it was begun: False
        when the rule has no free slot.

        Raises:
            BusyError: the run is under way here.
            TooLateError: it was not begun before ``task.begin_by``.
        """
        run = task.run
        if run.id in self._under_way:
            raise BusyError(str(run.id))
        if run.id in self._replaced:
            await self._end_replaced(run)
            return True
        self._under_way.add(run.id)
        try:
            if not await self._slots.acquire(run.rule_uid):
                return False
            await self._settle(await self._attempt(task), raw)
        finally:
            self._under_way.discard(run.id)
        return True

    async def _kept_by_others(self, task: Task) -> bool:
        """Whether other runs of the action keep this one from going on, as its ``concurrency`` says; those that this one replaces
        are ended. It knows the runs that came to this replica; Jobs are looked up in the cluster instead.
        """
        run = task.run
        concurrency = task.step.action.get("concurrency", "Allow")
        if concurrency == "Allow" or task.step.kind is ActionKind.JOB or task.plan.rule.order == "Strict":
            return False  # runs of a Rule in order are never beside each other
        if run.id in self._replaced:
            await self._end_replaced(run)
            return True
        key = f"{run.rule_uid}/{run.action}"
        await self._forget_ended(key)
        active = self._active.setdefault(key, {})
        others = active.keys() - {run.id}
        if others and concurrency == "Forbid":
            text = f"still under way: {', '.join(sorted(map(str, others)))[:200]}"
            reason = RunReason.CONCURRENCY_FORBIDDEN
            await self.end(changed(run, now=self._now(), state=RunState.SKIPPED, reason=reason, message=text))
            return True
        self._replaced |= others
        active[run.id] = queued_run_subject(run)
        for other in others:
            attempt = self._first_attempts.get(other)
            if attempt is not None:
                attempt.cancel()  # its message is handed out again, and ends it
        return False

    async def _forget_ended(self, key: str) -> None:
        """Forget runs of an action that came out of the queue to another replica, and ended there."""
        for run_id, subject in list(self._active.get(key, {}).items()):
            if run_id not in self._under_way and not await self._journal.is_queued(subject):
                self._active.get(key, {}).pop(run_id, None)
                self._replaced.discard(run_id)

    async def _end_replaced(self, run: Run) -> None:
        text = "a later run took its place"
        await self.end(
            changed(
                run,
                now=self._now(),
                state=RunState.SKIPPED,
                reason=RunReason.REPLACED,
                message=text,
                next_attempt_at=None,
            )
        )

    async def _lease(self, run: Run, raw: bytes) -> int:
        now = self._now()
        leased = changed(run, now=now, state=RunState.RUNNING, next_attempt_at=now + timedelta(seconds=LEASE))
        sequence = await self._journal.queue(leased, raw)
        await self._journal.report(leased)
        return sequence

    async def _hold(self, task: Task, work: "asyncio.Future[Run]", raw: bytes, sequence: int) -> None:
        """Keep the entry of a run that is under way, and settle the run at its end."""
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=_RENEWAL)
                if not work.done():
                    now = self._now()
                    lease = changed(
                        task.run, now=now, state=RunState.RUNNING, next_attempt_at=now + timedelta(seconds=LEASE)
                    )
                    sequence = await self._journal.queue(lease, raw)
            run = work.result()
            await self._settle(run, raw)
            if run.state.final:
                await self._journal.unqueue(sequence)
        except asyncio.CancelledError:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            # Nobody need wait for the end of the lease.
            await self._journal.queue(changed(task.run, now=self._now(), next_attempt_at=None), raw)
            raise
        finally:
            self._under_way.discard(task.run.id)

    async def _settle(self, run: Run, raw: bytes) -> None:
        """Keep what became of a run: durably in the queue first, if it goes on."""
        if run.state.final:
            await self.end(run)
            return
        await self._journal.queue(run, raw)
        await self._journal.report(run)

    async def _attempt(self, task: Task) -> Run:
        """Make an attempt; the slot is free again at its end."""
        run, policy = task.run, task.policy
        began, clock = self._now(), self._monotonic()
        try:
            if task.begin_by is not None and clock > task.begin_by:
                raise TooLateError(str(run.id))
            outcome = self._held_back(task) or await self._try(task)
        finally:
            self._slots.give_back(run.rule_uid, seconds=self._monotonic() - clock)
        seconds = self._monotonic() - clock
        if not outcome.refused:
            self._metrics.attempts.labels(run.kind.value, outcome.reason.value or "Succeeded").inc()
            self._metrics.seconds.labels(run.kind.value).observe(seconds)
        return settled(run, outcome, policy, began=began, seconds=seconds, now=self._now(), chance=self._chance())

    def _held_back(self, task: Task) -> Outcome | None:
        """An attempt that the action's rate limit does not allow now."""
        limit = task.step.action.get("rateLimit")
        if not limit or task.look:
            return None
        key = f"{task.run.rule_uid}/{task.run.action}"
        per_second = float(limit["perSecond"])
        now = self._monotonic()
        wait = self._rates.take(key, per_second=per_second, burst=int(limit.get("burst", 1)), now=now)
        if wait <= 0:
            return None
        wait = self._spacing.delay(key, now=now, apart=1 / per_second, least=wait, most=3600.0)
        text = f"the action's rate limit of {per_second:g} a second is reached"
        return Outcome(reason=RunReason.RATE_LIMITED, refused=True, not_before=wait, message=text)

    async def _try(self, task: Task) -> Outcome:
        kind = self._kinds.get(task.step.kind)
        if kind is None:
            return Outcome(
                reason=RunReason.INTERNAL,
                message=f"this runner cannot carry out actions of kind {task.step.kind.value}",
            )
        if self._spans is None:
            return await self._made(kind, task)
        return await self._spans(task, lambda traced: self._made(kind, traced))

    async def _made(self, kind: Attempt, task: Task) -> Outcome:
        try:
            return await kind(task)
        except TimeoutError:
            text = f"no answer within {task.policy.timeout:g} s"
            return Outcome(reason=RunReason.TIMED_OUT, again=True, message=text)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # Its text may hold anything, so neither the log nor the run has it.
            _log.error("attempt_failed", run=str(task.run.id), kind=task.step.kind.value, error=type(error).__name__)
            return Outcome(
                reason=RunReason.INTERNAL, again=True, message=f"the attempt failed with {type(error).__name__}"
            )

    async def stop(self, *, grace: float) -> None:
        """Let what is under way end; what has not ended after ``grace`` seconds is left to another replica at once."""
        if self._leased:
            await asyncio.wait(list(self._leased), timeout=grace)
        left = list(self._leased)
        for each in left:
            each.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def policy_of(step: Step) -> RetryPolicy:
    """The step's retry policy.

    Raises:
        ValueError: a duration in it cannot be read.
    """
    return RetryPolicy.of(step.action)


def expectation(action: Mapping[str, Any], name: str) -> str | None:
    """An expression of the action that is evaluated after an attempt."""
    text = action.get(name)
    return str(text) if text else None
