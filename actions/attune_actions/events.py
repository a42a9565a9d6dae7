"""Turns events into runs, and has them carried out."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec
import structlog

from attune_actions.book import RuleBook, UnknownRuleError
from attune_actions.carrying import BusyError, Carrier, Task
from attune_actions.metrics import Metrics
from attune_actions.settling import RetryPolicy, new_run
from attune_actions.spans import evaluating, processing
from attune_actions.work import Work
from attune_contract.actions import RunReason, run_id
from attune_contract.events import Event
from attune_contract.tracing import Trace
from attune_kit.actions.plan import Plan, Step
from attune_kit.cel.evaluator import Evaluator
from attune_kit.cel.library import EvaluationError
from attune_kit.tracing import OFF, Span, Tracer

_log = structlog.stdlib.get_logger(__name__)

#: Seconds for which an event waits for the operator's word about its Rule. Rules that the operator knows have one within
#: moments; a Rule that was deleted long ago has none.
_PATIENCE: Final = 900.0
#: Deliveries after which an evaluation that had no result at all counts as failed.
_EVALUATIONS: Final = 4
_NONE: Final = msgspec.Raw(b"")


class _Message(Event, frozen=True, kw_only=True, gc=False):
    """An event as it is in the stream: one that is too large for a message is there without its payload."""

    payload: msgspec.Raw = _NONE


_EVENTS: Final = msgspec.json.Decoder(_Message)


class NotNowError(Exception):
    """The event cannot be handled now: hand it back for so many seconds."""

    def __init__(self, why: str, *, seconds: float) -> None:
        super().__init__(why)
        self.seconds = seconds


class Ring(Protocol):
    """Makes certain that a Rule's turn comes (:meth:`attune_actions.in_order.InOrder.ring`)."""

    async def __call__(self, namespace: str, rule_uid: str, *, sequence: int | None, seq: int) -> None:
        """Raises NotNowError when it is not certain."""


class Events:
    """Handles events.

    Args:
        book: what Rules do.
        carrier: carries runs out.
        evaluator: evaluates expressions.
        metrics: what is counted.
        whole: gets an event with its payload, where the message had none.
        ring: says that an event of a Rule with ``order: Strict`` was handed out, whose runs begin when it is its turn.
        over: whether a run is known to have ended.
        now: the time.
        tracer: makes spans.
    """

    def __init__(
        self,
        *,
        book: RuleBook,
        carrier: Carrier,
        evaluator: Evaluator,
        metrics: Metrics,
        whole: Callable[[Event], Awaitable[bytes]],
        ring: Ring,
        over: Callable[[UUID], Awaitable[bool]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        tracer: Tracer = OFF,
    ) -> None:
        self._tracer = tracer
        self._book = book
        self._carrier = carrier
        self._evaluator = evaluator
        self._metrics = metrics
        self._whole = whole
        self._ring = ring
        self._over = over
        self._now = now

    async def handle(self, work: Work) -> None:
        """Handle a message of ``ATTUNE_EVENTS``, and end it."""
        try:
            outcome = await self.process(
                work.data, stored=work.stored_ns / 1e9, attempt=work.delivered, sequence=work.sequence
            )
        except NotNowError as error:
            self._metrics.events.labels("later").inc()
            await work.hand_back(error.seconds)
            return
        self._metrics.events.labels(outcome).inc()
        await work.ack()

    async def process(
        self,
        data: bytes,
        *,
        stored: float,
        attempt: int,
        sequence: int | None = None,
        known: Callable[[UUID], Awaitable[bool]] | None = None,
    ) -> str:
        """Have an event's runs carried out, or durably queued; returns a word for the metrics.

        Args:
            data: the event as JSON.
            stored: when it was stored in the stream: seconds since 1970.
            attempt: how often it was handed out.
            sequence: its place in the stream; None: it is no longer there.
            known: whether a run is known to be over, where that is to be asked.

        Raises:
            NotNowError: it must be handed out again.
        """
        try:
            event: Event = _EVENTS.decode(data)
        except msgspec.MsgspecError as error:
            _log.error("event_damaged", error=str(error), bytes=len(data))
            return "damaged"
        try:
            plan = await self._book.plan(event.rule_namespace, event.rule_uid)
        except UnknownRuleError as error:
            if time.time() - stored > _PATIENCE and self._book.problem is None:
                _log.warning("rule_never_heard_of", rule_uid=event.rule_uid, id=str(event.id))
                return "unknown"
            raise NotNowError(str(error), seconds=min(0.1 * 2 ** min(attempt, 8), 15.0)) from error
        if plan is None:
            return "nothing"
        if plan.rule.order == "Strict":
            await self._ring(event.rule_namespace, event.rule_uid, sequence=sequence, seq=event.seq)
            return "rung"
        await self._begin(plan, event, data, attempt, known)
        self._metrics.delay.observe(max(0.0, time.time() - stored))
        return "handled"

    async def begin(
        self,
        plan: Plan,
        data: bytes,
        *,
        attempt: int,
        stored: float | None,
        known: Callable[[UUID], Awaitable[bool]] | None,
        begin_by: float,
    ) -> list[UUID]:
        """Have the runs of an event begin whose turn it is. Returns the ids of all of them: each is over, or stands in the queue.

        A Rule that is switched off skips them: its events may be long ago.

        Args:
            plan: the Rule.
            data: the event as JSON.
            attempt: how often this was tried.
            stored: when the event was stored in the stream, in seconds since 1970; None when it is no longer there.
            known: whether a run is known to be over or in the queue, where that is to be asked.
            begin_by: no attempt begins after this time, in monotonic seconds.

        Raises:
            NotNowError: it must be tried again.
            TooLateError: it took too long: another replica may have begun them.
        """
        try:
            event: Event = _EVENTS.decode(data)
        except msgspec.MsgspecError as error:
            _log.error("event_damaged", error=str(error), bytes=len(data), rule_uid=plan.rule.uid)
            return []
        await self._begin(plan, event, data, attempt, known, enabled=plan.rule.enabled, begin_by=begin_by)
        if stored is not None:
            self._metrics.delay.observe(max(0.0, time.time() - stored))
        self._metrics.events.labels("handled").inc()
        return [run_id(event.rule_uid, event.id, str(each["name"])) for each in plan.rule.actions]

    async def _begin(
        self,
        plan: Plan,
        event: Event,
        data: bytes,
        attempt: int,
        known: Callable[[UUID], Awaitable[bool]] | None,
        *,
        enabled: bool = True,
        begin_by: float | None = None,
    ) -> None:
        if not event.payload:
            data = await self._whole(event)
            event = _EVENTS.decode(data)
        with processing(self._tracer, event) as span, structlog.contextvars.bound_contextvars(**_named(event, span)):
            if span.trace.traceparent and not event.traceparent:
                # The trace begins here, and what is tried later, out of the queue, belongs to it.
                event = msgspec.structs.replace(
                    event, traceparent=span.trace.traceparent, tracestate=span.trace.tracestate
                )
                data = msgspec.json.encode(event)
            await self._run_all(plan, event, data, attempt, known, enabled=enabled, begin_by=begin_by, trace=span.trace)

    async def catch_up(self, data: bytes) -> None:
        """Handle an event that is no longer in the stream. Returns when its runs are over, or durably queued."""
        began, attempt = time.time(), 0
        while True:  # no event is given up: what cannot be decided ends as it does for one out of the stream
            attempt += 1
            try:
                await self.process(data, stored=began, attempt=attempt, known=self._over)
            except NotNowError as error:
                await asyncio.sleep(error.seconds)
            else:
                return

    async def results(self, plan: Plan, event: Event, *, trace: Trace) -> list[Any]:
        """The results of the plan's expressions.

        Args:
            plan: the Rule.
            event: the event.
            trace: what the span belongs to.

        Raises:
            EvaluationError: there are none at all.
        """
        if plan.program is None:
            return []
        with evaluating(self._tracer, trace, when=plan.rule.when):
            return await self._evaluator.evaluate(plan.rule.uid, plan.program, plan.variables(event))

    async def _run_all(
        self,
        plan: Plan,
        event: Event,
        data: bytes,
        attempt: int,
        known: Callable[[UUID], Awaitable[bool]] | None,
        *,
        enabled: bool,
        begin_by: float | None,
        trace: Trace,
    ) -> None:
        if attempt > 1 and all(
            self._carrier.is_done(run_id(event.rule_uid, event.id, str(each["name"]))) for each in plan.rule.actions
        ):
            return
        try:
            results = await self.results(plan, event, trace=trace)
        except EvaluationError as error:
            if attempt < _EVALUATIONS:
                raise NotNowError(str(error), seconds=float(attempt)) from error
            results = [error] * len(plan.program.expressions if plan.program else ())
        now = self._now()
        begun: list[Task] = []
        for planned in plan.steps(results, event):
            step = planned if enabled else _switched_off(planned)
            run = new_run(event, step, rule_generation=plan.rule.generation, now=now)
            if known is not None and await known(run.id):
                continue
            if step.fate == "run":
                policy = RetryPolicy.of(step.action)
                begun.append(
                    Task(run=run, step=step, plan=plan, event=event, policy=policy, begin_by=begin_by, trace=trace)
                )
            elif not self._carrier.is_done(run.id):
                await self._carrier.end(run)
        # All of them go on to their end: what one raises does not stop another one's attempt.
        ends = await asyncio.gather(*(self._carrier.carry(task, data) for task in begun), return_exceptions=True)
        raised = [each for each in ends if each is not None]
        for each in raised:
            if not isinstance(each, BusyError):
                raise each
        if raised:
            raise NotNowError("a run of it is under way", seconds=2.0) from raised[0]


def _named(event: Event, span: Span) -> dict[str, str]:
    """What every line of the log has that is about an event."""
    trace_id = span.trace.trace_id
    return {"event_id": str(event.id), "trace_id": trace_id} if trace_id else {"event_id": str(event.id)}


def _switched_off(step: Step) -> Step:
    """The step of a Rule that is switched off."""
    if step.fate != "run":
        return step
    return msgspec.structs.replace(
        step, fate="skip", reason=RunReason.RULE_DISABLED, message="the Rule is switched off"
    )
