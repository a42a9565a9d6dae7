"""Carries out Rules with ``order: Strict``: one event after the other, however many replicas there are.

The events of such a Rule are not carried out when they are handed out: they only ring. Whoever is handed the Rule's turn
(:mod:`attune_actions.turns`) out of the queue looks which event is next, has its runs begin, and moves the turn on when all of
them are over. A turn waits in the queue, not in a program's memory, so it is as durable as a run.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

import nats.errors
import structlog

from attune_actions.api import ApiError
from attune_actions.book import UnknownRuleError
from attune_actions.carrying import TooLateError
from attune_actions.events import NotNowError
from attune_actions.journal import StoreError
from attune_actions.turns import Next, Turn, begun, decode_turn, idle, passed, pause, rung, turn_subject
from attune_contract.messages import InvalidMessageError
from attune_kit.actions.plan import Plan

_log = structlog.stdlib.get_logger(__name__)

#: Seconds after which to come back when something cannot be asked.
_LATER: Final = 1.0
#: Seconds after which a turn whose Rule is not known is looked at again.
_UNKNOWN: Final = 5.0
#: What says that NATS or the API cannot be asked now.
_UNAVAILABLE: Final = (StoreError, ApiError, nats.errors.Error, OSError, TimeoutError)


class Work(Protocol):
    """A message in hand (:class:`attune_actions.work.Work`)."""

    subject: str
    data: bytes
    sequence: int
    delivered: int

    @property
    def begin_by(self) -> float:
        """Until when it is certain that it was not given to another replica, in monotonic seconds."""

    async def ack(self) -> None:
        """It is done."""

    async def hand_back(self, delay: float = 0.0) -> None:
        """Have it handed out again after so many seconds."""


class Store(Protocol):
    """Where turns and events are (:class:`attune_actions.turn_store.TurnStore`)."""

    async def read(self, subject: str) -> tuple[Turn | None, int]:
        """A turn, and its message's sequence."""

    async def replace(self, turn: Turn, *, sequence: int) -> bool:
        """Put a turn in the place of the last one, if that has this sequence."""

    async def stands(self, namespace: str, rule_uid: str, run: UUID) -> bool:
        """Whether a run stands in the queue."""

    async def first_turn(self, namespace: str, rule_uid: str, *, seq: int) -> Turn:
        """The turn of a Rule that has none."""

    async def next(self, turn: Turn) -> Next | None:
        """The event behind a turn."""

    async def end(self) -> tuple[int, int] | None:
        """The last place of the stream of events."""


class Book(Protocol):
    """What Rules do (:class:`attune_actions.book.RuleBook`)."""

    async def plan(self, namespace: str, uid: str) -> Plan | None:
        """What a Rule does."""


#: Whether a run is known to be over, or stands in the queue.
Known = Callable[[UUID], Awaitable[bool]]


class Beginner(Protocol):
    """Has the runs of an event begin (:meth:`attune_actions.events.Events.begin`)."""

    async def __call__(
        self, plan: Plan, data: bytes, *, attempt: int, stored: float | None, known: Known | None, begin_by: float
    ) -> list[UUID]:
        """The ids of all runs of the event. Each is over, or stands in the queue."""


class InOrder:
    """Handles turns.

    Args:
        store: where turns and events are.
        book: what Rules do.
        begin: has an event's runs begin.
        is_done: whether a run ended in this replica.
        over: whether the API knows that a run is over; raises ApiError.
        now: the time.
    """

    def __init__(
        self,
        *,
        store: Store,
        book: Book,
        begin: Beginner,
        is_done: Callable[[UUID], bool],
        over: Known,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._book = book
        self._begin = begin
        self._is_done = is_done
        self._over = over
        self._now = now

    async def ring(self, namespace: str, rule_uid: str, *, sequence: int | None, seq: int) -> None:
        """An event of a Rule was handed out. Returns when its turn is certain to come.

        Args:
            namespace: the Rule's.
            rule_uid: the Rule's.
            sequence: the event's place in the stream; None: it is no longer there.
            seq: the event's.

        Raises:
            NotNowError: that is not certain.
        """
        subject = turn_subject(namespace, rule_uid)
        try:
            while True:
                turn, last = await self._store.read(subject)
                first = turn or await self._store.first_turn(namespace, rule_uid, seq=seq)
                changed = rung(turn, first=first, sequence=sequence)
                if changed is None or await self._store.replace(changed, sequence=last):
                    return
        except (InvalidMessageError, *_UNAVAILABLE) as error:
            raise NotNowError(str(error) or type(error).__name__, seconds=_LATER) from error

    async def handle(self, work: Work) -> None:
        """Handle a turn out of the queue, and end it."""
        try:
            turn = decode_turn(work.data)
        except InvalidMessageError as error:
            _log.error("turn_damaged", error=str(error), sequence=work.sequence)
            await work.ack()  # the next event begins a new one
            return
        early = (turn.idle_until - self._now()).total_seconds() if turn.idle_until is not None else 0.0
        if early > 0:
            await work.hand_back(early)
            return
        try:
            await self._handle(work, turn)
        except NotNowError as error:
            await work.hand_back(error.seconds)
        except TooLateError:
            _log.warning("turn_was_held_too_long", rule_uid=turn.uid, then="another replica has it, or will")
        except UnknownRuleError:
            await work.hand_back(_UNKNOWN)
        except _UNAVAILABLE as error:
            _log.debug("turn_waits", rule_uid=turn.uid, why=str(error) or type(error).__name__)
            await work.hand_back(_LATER)

    async def _handle(self, work: Work, turn: Turn) -> None:
        plan = await self._book.plan(turn.namespace, turn.uid)
        _, last = await self._store.read(work.subject)
        if last != work.sequence:
            return  # it was given to another replica, which has moved it on
        for run in turn.runs:
            if await self._store.stands(turn.namespace, turn.uid, run):
                await work.hand_back(pause(work.delivered))
                return
        if turn.runs:
            changed: Turn | None = passed(turn)
        elif plan is None:  # deleted, or it has no actions any more
            changed = None if turn.forgotten else idle(turn, now=self._now())
        else:
            changed = await self._look(work, turn, plan)
        # A replica that has read an older state cannot put it in the place of a newer one; and what has rung meanwhile wins.
        if changed is not None:
            await self._store.replace(changed, sequence=work.sequence)
        await work.ack()

    async def _look(self, work: Work, turn: Turn, plan: Plan) -> Turn | None:
        """The turn after a look at which event is next; None when it is not needed any more."""
        # Before the look: what is stored later rings later.
        end = await self._store.end() if turn.idle_until is not None else None
        event = await self._store.next(turn)
        if event is not None:
            return await self._carry(work, turn, plan, event)
        if plan.rule.order != "Strict" and turn.forgotten:
            return None  # the events of its time are over; the others are carried out as they come
        return idle(turn, now=self._now(), seen=end)

    async def _carry(self, work: Work, turn: Turn, plan: Plan, event: Next) -> Turn:
        async def known(run: UUID) -> bool:
            if self._is_done(run) or await self._store.stands(turn.namespace, turn.uid, run):
                return True
            try:
                return await self._over(run)
            except ApiError:
                return False  # then it is done once more, as after every kill

        certain = (
            work.delivered == 1
            and event.stored is not None
            and event.sequence > turn.doubtful
            and event.seq > turn.seq
            and plan.rule.order == "Strict"
        )
        runs = await self._begin(
            plan,
            event.data,
            attempt=work.delivered,
            stored=event.stored,
            known=None if certain else known,
            begin_by=work.begin_by,
        )
        return begun(turn, event, left=[run for run in runs if not self._is_done(run)])
