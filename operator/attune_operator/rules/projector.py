"""Carries plans out: publishes what the rule stream lacks, and learns from every answer.

A projector lives as long as one connection. It carries out one plan per rule at a time; if anything happens in between,
the rule is reconciled again afterwards. Nothing is decided here: after a write that lost, the subject's message is read
again, and the next plan takes it into account.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Final

import nats.js.errors
import structlog

from attune_contract import subjects
from attune_contract.messages import (
    InvalidMessageError,
    RuleEventType,
    RuleState,
    decode_rule,
    encode,
    rule_event_headers,
)
from attune_kit.backoff import Backoff
from attune_operator.rules import metrics
from attune_operator.rules.cache import RuleCache
from attune_operator.rules.entry import RuleEntry, StreamEntry
from attune_operator.rules.history import HistoryLog
from attune_operator.rules.projection import Desired, Write, plan
from attune_operator.rules.stream_view import StreamView, entry_of
from attune_operator.rules.sweeper import Sweeper
from attune_operator.runtime.queue import PriorityQueue
from attune_operator.streams.publisher import (
    ConnectionLostError,
    Publisher,
    PublishError,
    StreamGoneError,
    WrongSequenceError,
)

_log = structlog.stdlib.get_logger(__name__)

#: JetStream's "no message found"; a missing stream has another code.
_NO_MESSAGE: Final = 10037
#: Seconds until a message that NATS refused is sent again: the first wait, and the longest.
_RETRY: Final = Backoff(initial=0.5, maximum=30.0)


class Projector:
    """Writes to the rule stream over one connection.

    Args:
        connection: the connection.
        publisher: sends messages and matches the answers; started.
        cache: what is known of each Rule and of the stream; kept current.
        queue: takes the Rules that must be reconciled again.
        sweeper: is asked for a complete list where something on the stream is contested.
        history: records each message that the stream took.
        tombstone_ttl: seconds until a tombstone ends.
        clock: returns the present time.
    """

    def __init__(
        self,
        *,
        jetstream: Any,
        publisher: Publisher,
        cache: RuleCache,
        queue: PriorityQueue[str],
        sweeper: Sweeper,
        history: HistoryLog,
        tombstone_ttl: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._jetstream = jetstream
        self._publisher = publisher
        self._cache = cache
        self._queue = queue
        self._sweeper = sweeper
        self._history = history
        self._tombstone_ttl = tombstone_ttl
        self._clock = clock
        self._view = StreamView(cache)
        self._gate = asyncio.Lock()
        self._reloads: asyncio.Queue[tuple[RuleEntry, str]] = asyncio.Queue(maxsize=0)
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Reload what others wrote, until the stream is lost.

        Raises:
            ConnectionLostError: the stream or the connection is gone.
        """
        reloading = asyncio.create_task(self._reload_forever(), name="rule-stream-reload")
        try:
            ends: list[asyncio.Future[Any]] = [reloading, self._lost]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._lost.done():
                raise ConnectionLostError(self._lost.result())
            await reloading
        finally:
            reloading.cancel()

    async def project(self, entry: RuleEntry, desired: Desired | None) -> None:
        """Bring the stream to what a rule should have there; the answers come later.

        Raises:
            ConnectionLostError: the connection is gone.
        """
        async with self._gate:
            if entry.in_flight:
                entry.replan = True
                return
            planned = plan(
                desired=desired,
                present=entry.stream,
                listed=self._cache.listed,
                generation=entry.generation,
                confirmed_gone=entry.rule is None and self._cache.was_deleted(entry.uid),
            )
            contested = self._cache.stream.contested
            if planned.contested:
                contested.add(entry.uid)
                self._sweeper.request()
            else:
                contested.discard(entry.uid)
            metrics.CONTESTED.set(len(contested))
            if not planned.writes:
                entry.changed_at = None  # nothing has to be published
                self._accepted(entry)
                return
            entry.in_flight = len(planned.writes)
            self._cache.stream.in_flight.add(entry.uid)
            for position, write in enumerate(planned.writes):
                try:
                    known = desired.state if desired is not None and write.body is desired.body else None
                    await self._send(entry, write, known)
                except ConnectionLostError:
                    self._finished(entry, count=len(planned.writes) - position)
                    raise

    async def _send(self, entry: RuleEntry, write: Write, state: RuleState | None) -> None:
        """Send one message. ``state`` is its body decoded; None: not decoded yet."""
        state = state or _readable(write.body)
        body = write.body
        if state is None:
            # Somebody else's message: its tombstone has what the subject says.
            _log.warning("rule_message_unreadable", subject=write.subject)
            state = _unknown_state(entry.uid)
            body = encode(state)
        time, event_id = self._clock(), uuid.uuid4()
        headers = rule_event_headers(write.event_type, state, time=time, event_id=event_id)
        if write.tombstone:
            headers["Nats-Rollup"] = "sub"
            headers["Nats-TTL"] = f"{max(1, round(self._tombstone_ttl))}s"

        def completion(outcome: int | PublishError) -> None:
            if isinstance(outcome, int):
                self._stored(entry, write, outcome, state=state, time=time, event_id=event_id)
            else:
                self._not_stored(entry, write, outcome)

        await self._publisher.publish(
            subject=write.subject,
            body=body,
            headers=headers,
            expected_sequence=write.expected_sequence,
            completion=completion,
        )

    def _stored(
        self, entry: RuleEntry, write: Write, sequence: int, *, state: RuleState, time: datetime, event_id: uuid.UUID
    ) -> None:
        """The stream took the message."""
        self._cache.stream.stored += 1
        self._view.put(
            entry.uid,
            StreamEntry(
                subject=write.subject,
                sequence=sequence,
                generation=write.generation,
                tombstone=write.tombstone,
                body=b"" if write.tombstone else write.body,
                seen=0,
                tombstone_at=self._clock().timestamp() if write.tombstone else 0.0,
            ),
        )
        metrics.PUBLISHED[write.event_type].inc()
        self._accepted(entry)
        self._finished(entry)
        if entry.changed_at is not None:
            now = asyncio.get_running_loop().time()
            metrics.PUBLISH_SECONDS.observe(now - entry.changed_at)
            if not write.tombstone:
                entry.published_at = now
            entry.changed_at = None
        restored = entry.uid in self._cache.stream.with_history and write.event_type is RuleEventType.CREATED
        self._cache.stream.with_history.discard(entry.uid)
        if not restored:
            self._history.record(entry, write, state=state, time=time, event_id=event_id)

    def _not_stored(self, entry: RuleEntry, write: Write, error: PublishError) -> None:
        match error:
            case WrongSequenceError():
                metrics.CONFLICTS.inc()
                _log.info("rule_message_conflict", subject=write.subject, expected=write.expected_sequence)
                self._reloads.put_nowait((entry, write.subject))  # at most one for each message in flight
                return  # the plan ends when that was read
            case StreamGoneError():
                self._lose(f"The stream {subjects.RULES_STREAM} is gone.")
            case ConnectionLostError():
                pass
            case _:
                self._refused(entry, str(error))
        self._finished(entry)

    def _refused(self, entry: RuleEntry, why: str) -> None:
        metrics.PUBLISH_FAILURES.inc()
        if not entry.refusal:
            _log.warning("rule_message_refused", rule_uid=entry.uid, error=why)
        entry.refusal = why
        self._cache.stream.refused.add(entry.uid)
        entry.refusals += 1
        self._queue.enqueue(entry.uid, urgent=False, after=_RETRY.delay(attempt=entry.refusals))

    def _accepted(self, entry: RuleEntry) -> None:
        if entry.refusal:
            entry.refusal, entry.refusals = "", 0
            self._cache.stream.refused.discard(entry.uid)

    def _finished(self, entry: RuleEntry, *, count: int = 1) -> None:
        entry.in_flight -= count
        if entry.in_flight > 0:
            return
        entry.in_flight = 0
        self._cache.stream.in_flight.discard(entry.uid)
        if entry.replan:
            entry.replan = False
            self._queue.enqueue(entry.uid, urgent=entry.changed_at is not None)
        self._cache.release(entry)

    def _lose(self, why: str) -> None:
        if not self._lost.done():
            self._lost.set_result(why)

    async def _reload_forever(self) -> None:
        while True:
            entry, subject = await self._reloads.get()
            try:
                await self.reload(entry.uid, subject)
            finally:
                entry.replan = True
                self._finished(entry)

    async def reload(self, uid: str, subject: str) -> None:
        """Read a subject's last message again.

        Raises:
            nats.errors.Error: the server refused or did not answer.
        """
        try:
            # Not a direct get: any replica may answer that, also one that lags behind.
            message: Any = await self._jetstream.get_last_msg(subjects.RULES_STREAM, subject)
        except nats.js.errors.APIError as error:
            if error.err_code != _NO_MESSAGE:
                raise
            self._view.forget(uid, subject)
            return
        headers = message.headers or {}
        self._view.put(
            uid,
            entry_of(
                subject=subject,
                sequence=message.seq,
                tombstone=headers.get("ce-type") == RuleEventType.DELETED,
                body=message.data or b"",
                seen=self._cache.tick,
                tombstone_at=self._clock().timestamp(),
            ),
        )

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Nothing is written inside the block, and every message has been answered."""
        async with self._gate:
            await self._publisher.drained()
            yield


def _readable(body: bytes) -> RuleState | None:
    try:
        return decode_rule(body)
    except InvalidMessageError:
        return None


def _unknown_state(uid: str) -> RuleState:
    return RuleState(
        uid=uid,
        namespace="",
        name="",
        generation=0,
        enabled=False,
        trigger_type="",
        parameters={},
        created_at=datetime.fromtimestamp(0, UTC),
    )
