"""The lifecycle of each Rule, for people: what happened, when, and who caused it (stream ``ATTUNE_RULE_HISTORY``).

Each entry is a lifecycle event as the rule stream took it, with three CloudEvents extension attributes: ``sensor`` (the
binding), ``changedby`` and ``changedat`` (the field manager that last changed the spec, and when, as far as Kubernetes
says), and ``reason`` for an end. The stream keeps the last entries of each rule.
"""

import asyncio
import functools
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
import structlog

from attune_contract import subjects
from attune_contract.messages import (
    HISTORY_CHANGED_AT,
    HISTORY_CHANGED_BY,
    HISTORY_REASON,
    HISTORY_SENSOR,
    InvalidMessageError,
    RuleEventType,
    RuleState,
    decode_rule,
    rule_event_headers,
)
from attune_kit.nats.connection import NatsConnection
from attune_kit.nats.last_per_subject import StreamMessage, read_snapshot
from attune_operator.rules import metrics
from attune_operator.rules.conditions import Acceptance
from attune_operator.rules.entry import RuleEntry
from attune_operator.rules.projection import Write
from attune_operator.runtime.queue import PriorityQueue
from attune_operator.streams.publisher import ConnectionLostError, Publisher, PublishError

_log = structlog.stdlib.get_logger(__name__)

#: Entries that wait while NATS is away; the oldest go first when there are more.
_MAX_WAITING: Final = 20_000
_PAUSE: Final = 0.05


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One lifecycle event. ``sensor`` is the binding's two tokens, as in the rule's subject; empty where unknown."""

    event_type: RuleEventType
    state: RuleState
    body: bytes
    time: datetime
    event_id: uuid.UUID
    sensor: str = ""
    changed_by: str = ""
    changed_at: str = ""
    reason: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The entry's headers."""
        extensions = {
            HISTORY_SENSOR: self.sensor,
            HISTORY_CHANGED_BY: self.changed_by,
            HISTORY_CHANGED_AT: self.changed_at,
            HISTORY_REASON: self.reason,
        }
        return {
            **rule_event_headers(self.event_type, self.state, time=self.time, event_id=self.event_id),
            **{name: value for name, value in extensions.items() if value},
        }


class HistoryLog:
    """Entries that wait to be written. It outlives connections."""

    def __init__(self) -> None:
        self._waiting: deque[HistoryEntry] = deque()
        self._sent: dict[uuid.UUID, HistoryEntry] = {}
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    def add(self, entry: HistoryEntry) -> None:
        """Write the entry when there is a connection."""
        if len(self._waiting) >= _MAX_WAITING:
            self._waiting.popleft()
            metrics.HISTORY_DROPPED.inc()
        self._waiting.append(entry)
        self._filled.set()

    def record(self, entry: RuleEntry, write: Write, *, state: RuleState, time: datetime, event_id: uuid.UUID) -> None:
        """The rule stream took a message of this Rule."""
        self.add(
            HistoryEntry(
                event_type=write.event_type,
                state=state,
                body=write.body,
                time=time,
                event_id=event_id,
                sensor=subjects.split_binding(write.subject)[0],
                changed_by=entry.rule.changed_by if entry.rule is not None else "",
                changed_at=entry.rule.changed_at if entry.rule is not None else "",
                reason=_end_reason(entry.acceptance) if write.tombstone else "",
            )
        )

    async def drain(self, publisher: Publisher, *, rules: PriorityQueue[str]) -> None:
        """Write entries for as long as the connection lives.

        While Rules wait in the queue they go first, as long as there is room for entries to wait.

        Raises:
            ConnectionLostError: it ended. What was not answered is written over the next one.
        """
        self._waiting.extendleft(reversed(self._sent.values()))
        self._sent.clear()
        while True:
            if not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            if rules and len(self) < _MAX_WAITING / 2:
                await asyncio.sleep(_PAUSE)
                continue
            entry = self._waiting.popleft()
            self._sent[entry.event_id] = entry
            await publisher.publish(
                subject=subjects.history_subject(entry.state.namespace, entry.state.name, entry.state.uid),
                body=entry.body,
                # The server drops a repetition by its id (JetStream, message deduplication).
                headers={**entry.headers, "Nats-Msg-Id": str(entry.event_id)},
                expected_sequence=None,
                completion=functools.partial(self._answered, entry.event_id),
            )

    def _answered(self, event_id: uuid.UUID, outcome: int | PublishError) -> None:
        if isinstance(outcome, ConnectionLostError):
            return  # it stays among those that were sent
        self._sent.pop(event_id, None)
        if isinstance(outcome, PublishError):
            metrics.HISTORY_DROPPED.inc()
            _log.warning("rule_history_not_written", error=str(outcome))


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvent:
    """An entry as it was read back."""

    sequence: int
    event_type: str
    time: str
    sensor: str
    changed_by: str
    changed_at: str
    reason: str
    state: RuleState


async def read_history(connection: NatsConnection, *, rule_uid: str, timeout: float = 10.0) -> list[PastEvent]:  # noqa: ASYNC109
    """The lifecycle events of a rule that are still kept, oldest first.

    Raises:
        ReaderLostError: they did not come whole, or not within ``timeout`` seconds.
        nats.errors.Error: the server refused or did not answer.
    """
    found: list[PastEvent] = []

    def keep(message: StreamMessage) -> None:
        headers = message.headers or {}
        try:
            state = decode_rule(message.data)
        except InvalidMessageError:
            return
        found.append(
            PastEvent(
                sequence=message.sequence,
                event_type=headers.get("ce-type", ""),
                time=headers.get("ce-time", ""),
                sensor=headers.get(HISTORY_SENSOR, ""),
                changed_by=headers.get(HISTORY_CHANGED_BY, ""),
                changed_at=headers.get(HISTORY_CHANGED_AT, ""),
                reason=headers.get(HISTORY_REASON, ""),
                state=state,
            )
        )

    await read_snapshot(
        connection=connection,
        stream=subjects.HISTORY_STREAM,
        subject=subjects.history_filter(rule_uid=rule_uid),
        on_message=keep,
        timeout=timeout,
        start_sequence=1,
    )
    return found


def _end_reason(acceptance: Acceptance | None) -> str:
    """Why a Rule left a subject: it was deleted, moved to another Sensor, or is not accepted any more."""
    if acceptance is None:
        return "Deleted"
    return f"MovedTo {acceptance.sensor}" if acceptance.accepted else str(acceptance.reason)
