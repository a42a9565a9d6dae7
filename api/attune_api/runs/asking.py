"""Asking for runs: again, or for events of the past. The runner does them; here they are put on ``ATTUNE_RUN_QUEUE``.

First the queue has a run, then the table says that it waits: a run that the table says is waiting is never forgotten.
"""

import asyncio
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from sqlalchemy import Connection, select, tuple_

from attune_api.events.table import EVENTS, READ, as_stored
from attune_contract.actions import (
    ACTIONS_STREAM,
    ActionKind,
    QueuedRun,
    RuleActions,
    Run,
    RunReason,
    RunState,
    actions_subject,
    decode_actions,
    encode,
    queued_run_subject,
    run_id,
)
from attune_contract.events import Event
from attune_contract.messages import InvalidMessageError

#: Messages in flight.
_AT_ONCE: Final = 100
#: Seconds that JetStream has for one.
_ACK_TIMEOUT: Final = 5.0
#: Room for headers when a message is compared with the server's largest payload.
_HEADROOM: Final = 4096
#: What one may ask to do again.
AGAIN: Final = frozenset({RunState.FAILED, RunState.SKIPPED})


class NotQueuedError(Exception):
    """The queue did not take a run. The text says why, as a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A run that is asked for, with its event."""

    run: Run
    event: Event


def again(run: Run, *, by: str, now: datetime) -> Run:
    """A run as it waits to be done again.

    Args:
        run: as it ended.
        by: who asks.
        now: the time.
    """
    return msgspec.structs.replace(
        run,
        revision=run.revision + 1,
        state=RunState.WAITING,
        reason=RunReason.NONE,
        message=f"asked for by {by}",
        updated_at=now,
        next_attempt_at=now,
    )


def first(event: Event, action: Mapping[str, Any], *, rule: RuleActions, revision: int, by: str, now: datetime) -> Run:
    """The run of an action for a stored event, as it waits to be done.

    Args:
        event: the event.
        action: as in the rule.
        rule: the rule as it is now.
        revision: higher than any that is known of this run.
        by: who asks.
        now: the time.
    """
    return Run(
        id=run_id(rule.uid, event.id, action["name"]),
        revision=revision,
        event_id=event.id,
        event_seq=event.seq,
        rule_uid=rule.uid,
        rule_namespace=rule.namespace,
        rule_name=rule.name,
        rule_generation=rule.generation,
        action=action["name"],
        kind=next(kind for kind in ActionKind if action.get(kind.value) is not None),
        state=RunState.WAITING,
        message=f"asked for by {by}",
        created_at=now,
        updated_at=now,
        next_attempt_at=now,
    )


def events_of(connection: Connection, runs: Iterable[Run]) -> dict[tuple[str, uuid.UUID], Event]:
    """The events of runs, as far as they are still stored."""
    keys = [(run.event_id, run.rule_uid) for run in runs]
    found: dict[tuple[str, uuid.UUID], Event] = {}
    for start in range(0, len(keys), 200):
        wanted = keys[start : start + 200]
        statement = select(*as_stored(EVENTS.c)).where(
            tuple_(EVENTS.c.id, EVENTS.c.rule_uid).in_(wanted)
            if connection.dialect.name == "postgresql"
            else EVENTS.c.id.in_([event_id for event_id, _ in wanted])
        )
        for row in connection.execute(statement):
            event = READ[connection.dialect.name](row)
            found[event.rule_uid, event.id] = event
    return found


def fits(asked: Asked, *, largest: int) -> bool:
    """Whether the server takes the message of a run."""
    return len(_message(asked, by="")) + _HEADROOM <= largest


def _message(asked: Asked, *, by: str) -> bytes:
    event = msgspec.Raw(msgspec.json.encode(asked.event))
    return encode(QueuedRun(run=asked.run, event=event, by_hand=True, asked_by=by))


async def queue(jetstream: JetStreamContext, asked: Sequence[Asked], *, by: str) -> None:
    """Put runs on the queue; returns when JetStream has all of them. The same revision of a run stands there once.

    Raises:
        NotQueuedError: it took not all of them.
    """
    turn = asyncio.Semaphore(_AT_ONCE)

    async def put(one: Asked) -> None:
        headers = {"Nats-Msg-Id": f"{one.run.id}/{one.run.revision}/by-hand"}
        async with turn:
            await jetstream.publish(
                queued_run_subject(one.run), _message(one, by=by), headers=headers, timeout=_ACK_TIMEOUT
            )

    tasks = [asyncio.create_task(put(one), name="queue a run") for one in asked]
    try:
        await asyncio.gather(*tasks)
    except nats.js.errors.NoStreamResponseError:
        raise NotQueuedError("There is no queue of runs: no runner of actions has ever been here.") from None
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise NotQueuedError(f"NATS did not take the runs ({type(error).__name__}); ask again.") from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_actions(jetstream: JetStreamContext, *, namespace: str, uid: str) -> RuleActions | None:
    """A rule's actions as the operator published them last; None when there are none, or the rule is gone.

    Raises:
        nats.errors.Error, OSError, TimeoutError: NATS does not answer, or has no such stream.
    """
    try:
        message = await jetstream.get_last_msg(ACTIONS_STREAM, actions_subject(namespace, uid))
        actions = decode_actions(message.data or b"")
    except (nats.js.errors.NotFoundError, InvalidMessageError):
        return None
    return None if actions.deleted else actions
