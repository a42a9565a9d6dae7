"""Whose turn it is among the events of a Rule with ``order: Strict``. Pure: what becomes of a turn, and never when or where.

Each such Rule has one turn: a message of ``ATTUNE_RUN_QUEUE`` that says up to which event all runs are over, and what the event
behind it waits for. It is only ever replaced by whoever has read its last state (:mod:`attune_actions.turn_store`), so two
replicas that both believe that they hold it cannot both move it on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from attune_contract.messages import decoded

#: The last token of a turn's subject; those of runs are ids.
_LAST_TOKEN: Final = "turn"  # noqa: S105 - a part of a subject, not a secret
#: Seconds after which somebody looks whether an idle Rule has missed an event. Events ring, so there should be none.
_IDLE: Final = 30.0
#: Seconds between two looks at runs that are waited for: the first one, and the longest.
_SOONEST: Final = 0.02
_LATEST: Final = 0.5


class Turn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a Rule's events are.

    A turn is *idle* while it has a ``idle_until``: nobody knows of a further event. A ring makes it busy.

    Attributes:
        namespace, uid: the Rule.
        sequence, seq: up to here all runs of the Rule's events are over: a place in ``ATTUNE_EVENTS``, and an event's ``seq``.
        doubtful: up to this place of the stream, events may have had runs before the Rule had turns.
        next_sequence, next_seq: the event behind, while its ``runs`` are not over.
        runs: runs of that event that stand in the queue, or stood there.
        idle_until: when to look again whether there is an event.
        looks: how often it was looked in vain since the last event.
    """

    namespace: str
    uid: str
    sequence: int
    seq: int
    doubtful: int = 0
    next_sequence: int = 0
    next_seq: int = 0
    runs: tuple[UUID, ...] = ()
    idle_until: datetime | None = None
    looks: int = 0

    @property
    def forgotten(self) -> bool:
        """Whether it is no longer needed if the Rule is not Strict any more: nothing has rung for a while."""
        return self.looks >= 2 and not self.runs

    @property
    def subject(self) -> str:
        """Where it is kept."""
        return turn_subject(self.namespace, self.uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """The event whose turn it is.

    Attributes:
        sequence: its place in the stream; that of the turn when it is no longer there.
        seq: the event's.
        data: the event as JSON.
        stored: when it was stored in the stream, seconds since 1970; None when it is no longer there.
    """

    sequence: int
    seq: int
    data: bytes
    stored: float | None = None


def turn_subject(namespace: str, rule_uid: str) -> str:
    """Where a Rule's turn is kept."""
    return f"attune.runqueue.{namespace}.{rule_uid}.{_LAST_TOKEN}"


def is_turn(subject: str) -> bool:
    """Whether a message of the queue is a turn; the others are runs."""
    return subject.rpartition(".")[2] == _LAST_TOKEN


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_TURNS: Final = msgspec.json.Decoder(Turn)


def encode_turn(turn: Turn) -> bytes:
    """The turn's JSON."""
    return _ENCODER.encode(turn)


def decode_turn(body: bytes) -> Turn:
    """Read a turn.

    Raises:
        InvalidMessageError: the body is not JSON of the right shape.
    """
    return decoded(_TURNS, body, "a turn")


def rung(turn: Turn | None, *, first: Turn, sequence: int | None) -> Turn | None:
    """The turn after an event was handed out, or None where it stays as it is.

    Args:
        turn: as it is; None: the Rule has none.
        first: what it begins with.
        sequence: the event's place in the stream; None: it is no longer there.
    """
    if turn is None:
        return first
    if turn.idle_until is None or (sequence is not None and sequence <= turn.sequence):
        return None  # who holds a busy turn looks again before it is idle
    return msgspec.structs.replace(turn, idle_until=None, looks=0)


def begun(turn: Turn, event: Next, *, left: Sequence[UUID]) -> Turn:
    """The turn after the runs of an event have begun.

    Args:
        turn: as it was.
        event: the event.
        left: those of its runs that are not known to be over.
    """
    waiting = msgspec.structs.replace(
        turn, next_sequence=event.sequence, next_seq=event.seq, runs=tuple(left), idle_until=None, looks=0
    )
    return waiting if left else passed(waiting)


def passed(turn: Turn) -> Turn:
    """The turn after all runs that it waited for are over: it is the next event's."""
    return msgspec.structs.replace(
        turn,
        sequence=max(turn.sequence, turn.next_sequence),
        seq=max(turn.seq, turn.next_seq),
        next_sequence=0,
        next_seq=0,
        runs=(),
        idle_until=None,
        looks=0,
    )


def idle(turn: Turn, *, now: datetime, seen: tuple[int, int] | None = None) -> Turn:
    """The turn after a look that found no event.

    A busy turn is looked at once more at once: an event may have rung while it was busy, after the look.

    Args:
        turn: as it was.
        now: the time.
        seen: up to here the stream was seen to have no event of the Rule: a sequence, and the ``seq`` of the event there.
    """
    sequence, seq = seen or (0, 0)
    return msgspec.structs.replace(
        turn,
        sequence=max(turn.sequence, sequence),
        seq=max(turn.seq, seq),
        idle_until=now if turn.idle_until is None else now + timedelta(seconds=_IDLE),
        looks=turn.looks + 1,
    )


def pause(delivered: int) -> float:
    """Seconds after which to look again at runs that are waited for.

    Args:
        delivered: how often it was looked at.
    """
    return min(_LATEST, _SOONEST * 2.0 ** min(delivered, 10))
