"""Takes runs that wait out of the queue, each at its time."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec
import structlog

from attune_actions.book import RuleBook, UnknownRuleError
from attune_actions.carrying import BusyError, Carrier, Task, TooLateError
from attune_actions.events import Events
from attune_actions.in_order import InOrder
from attune_actions.settling import RetryPolicy, changed
from attune_actions.spans import trace_of
from attune_actions.turns import is_turn
from attune_actions.work import Work
from attune_contract.actions import QueuedRun, Run, RunReason, RunState, decode_queued_run
from attune_contract.events import Event
from attune_contract.messages import InvalidMessageError
from attune_kit.cel.library import EvaluationError

_log = structlog.stdlib.get_logger(__name__)

_EVENTS: Final = msgspec.json.Decoder(Event)
#: A run that is due within so many seconds need not wait.
_DUE: Final = 0.005
#: Seconds after which a run whose Rule cannot be asked for is looked at again.
_UNKNOWN: Final = 5.0


class Waiting:
    """Handles what stands in ``ATTUNE_RUN_QUEUE``.

    Args:
        book: what Rules do.
        carrier: carries runs out.
        events: evaluates.
        in_order: handles turns of Rules with ``order: Strict``.
        now: the time.
    """

    def __init__(
        self,
        *,
        book: RuleBook,
        carrier: Carrier,
        events: Events,
        in_order: InOrder,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._book = book
        self._carrier = carrier
        self._events = events
        self._in_order = in_order
        self._now = now

    async def handle(self, work: Work) -> None:
        """Handle one message, and end it."""
        if is_turn(work.subject):
            await self._in_order.handle(work)
            return
        try:
            queued = decode_queued_run(work.data)
            event = _EVENTS.decode(queued.event)
        except (InvalidMessageError, msgspec.MsgspecError) as error:
            _log.error("queued_run_damaged", error=str(error), sequence=work.sequence)
            await work.ack()
            return
        run = queued.run
        if run.next_attempt_at is not None:
            early = (run.next_attempt_at - self._now()).total_seconds()
            if early > _DUE:
                await work.hand_back(early)
                return
        try:
            later = await self._begin(queued, event, begin_by=work.begin_by)
        except TooLateError:
            return
        if later is None:
            await work.ack()
        else:
            await work.hand_back(later)

    async def _begin(self, queued: QueuedRun, event: Event, *, begin_by: float) -> float | None:
        """Have a run carried out; returns None when it is over or stands in the queue anew, or the seconds after which to come
        back.
        """
        run = queued.run
        try:
            plan = await self._book.plan(run.rule_namespace, run.rule_uid)
        except UnknownRuleError:
            return _UNKNOWN
        if plan is None or not any(each.get("name") == run.action for each in plan.rule.actions):
            text = "the Rule is gone, or has no such action any more"
            await self._over(run, RunState.SKIPPED, RunReason.RULE_GONE, text)
            return None
        if not plan.rule.enabled and not queued.by_hand:
            await self._over(run, RunState.SKIPPED, RunReason.RULE_DISABLED, "the Rule is switched off")
            return None
        try:
            steps = plan.steps(await self._events.results(plan, event, trace=trace_of(event)), event)
        except EvaluationError:
            return _UNKNOWN
        step = next(each for each in steps if each.name == run.action)
        if step.fate != "run":
            state = RunState.SKIPPED if step.fate == "skip" else RunState.FAILED
            await self._over(run, state, step.reason, step.message)
            return None
        if queued.by_hand:
            run = msgspec.structs.replace(
                run, attempts_made=0, attempts=(), created_at=self._now(), result=None, state=RunState.PENDING
            )
        look = run.state is RunState.RUNNING and run.result is not None
        policy = RetryPolicy.of(step.action)
        in_order = plan.rule.order == "Strict" and not queued.by_hand
        task = Task(
            run=run,
            step=step,
            plan=plan,
            event=event,
            policy=policy,
            look=look,
            begin_by=begin_by if in_order else None,
            trace=trace_of(event),
        )
        try:
            begun = await self._carrier.resume(task, bytes(queued.event))
        except BusyError:
            return 2.0
        return None if begun else self._carrier.wait_for_slot(run.rule_uid)

    async def _over(self, run: Run, state: RunState, reason: RunReason, message: str) -> None:
        await self._carrier.end(
            changed(run, now=self._now(), state=state, reason=reason, message=message, next_attempt_at=None)
        )
