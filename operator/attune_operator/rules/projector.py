"""Carries plans out: publishes what the rule stream lacks, and learns from every answer.

It lives as long as one connection. Of one rule, one plan is under way at a time; when it is done, the rule is looked at again
if anything happened meanwhile. Nothing is decided here: a write that lost is reloaded, and the next plan knows better.
"""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import nats.errors
import nats.js.errors
import structlog

from attune_contract import subjects
from attune_contract.messages import InvalidMessage, RuleEventType, RuleState, decode_rule, encode, rule_event_headers
from attune_kit.nats.connection import NatsConnection
from attune_operator.rules import rule_metrics as metrics
from attune_operator.rules.backoff import Backoff
from attune_operator.rules.projection import Desired, Write, plan
from attune_operator.rules.view import StreamEntry, StreamView, entry_of
from attune_operator.streams.publisher import (
    ConnectionLostError,
    Publisher,
    PublishError,
    StreamGoneError,
    WrongSequenceError,
)

log = structlog.stdlib.get_logger(__name__)

#: JetStream's "no message found"; a missing stream has another code.
_NO_MESSAGE: Final = 10037
#: Told of each message that the stream took: the rule's uid, the write, its state, its time, and its CloudEvents id.
Published = Callable[[str, Write, RuleState, datetime, uuid.UUID], None]


class Projector:
    """Writes to the rule stream over one connection.

    Args:
        connection: the connection.
        publisher: sends and matches answers; started.
        view: what the stream holds; kept current.
        tick: the inventory's count, for what is learnt here.
        look_again: told the uid of a rule that has to be planned anew.
        published: told of each message that the stream took.
        contested: told that something needs a complete list from Kubernetes before it can be touched.
        tombstone_ttl: seconds until a tombstone ends.
        clock: the present time.
    """

    def __init__(
        self,
        *,
        connection: NatsConnection,
        publisher: Publisher,
        view: StreamView,
        tick: Callable[[], int],
        look_again: Callable[[str], None],
        published: Published,
        contested: Callable[[], None],
        tombstone_ttl: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self.view = view
        self._tick = tick
        self._look_again = look_again
        self._published = published
        self._contested = contested
        self._tombstone_ttl = tombstone_ttl
        self._clock = clock
        self._busy: dict[str, int] = {}
        self._again: set[str] = set()
        self._gate = asyncio.Lock()
        self._reloads: asyncio.Queue[tuple[str, str]] = asyncio.Queue(maxsize=0)
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._backoffs: dict[str, Backoff] = {}
        self.failures: dict[str, str] = {}
        """Rules whose message the stream refuses, with what it says."""
        self.contested_rules: set[str] = set()

    @property
    def idle(self) -> bool:
        """Whether no rule's plan is under way."""
        return not self._busy

    def is_busy(self, uid: str) -> bool:
        """Whether the rule's plan is under way."""
        return uid in self._busy

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

    async def project(
        self,
        uid: str,
        *,
        desired: Desired | None,
        generation: int | None,
        listed: int,
        confirmed_gone: bool,
    ) -> None:
        """Bring the stream to what a rule should have there; the answers come later.

        Raises:
            ConnectionLostError: the connection is gone.
        """
        async with self._gate:
            if uid in self._busy:
                self._again.add(uid)
                return
            planned = plan(
                desired=desired,
                present=self.view.of(uid),
                listed=listed,
                generation=generation,
                confirmed_gone=confirmed_gone,
            )
            if planned.contested:
                self.contested_rules.add(uid)
                self._contested()
            else:
                self.contested_rules.discard(uid)
            metrics.CONTESTED.set(len(self.contested_rules))
            if not planned.writes:
                if uid in self.failures:
                    self._recovered(uid)
                return
            self._busy[uid] = len(planned.writes)
            for position, write in enumerate(planned.writes):
                try:
                    await self._send(uid, write)
                except ConnectionLostError:
                    self._finished(uid, count=len(planned.writes) - position)
                    raise

    async def _send(self, uid: str, write: Write) -> None:
        state = _readable(write.body)
        body = write.body
        if state is None:
            # Somebody else's message: buried with what its subject tells.
            log.warning("rule_message_unreadable", subject=write.subject)
            state = _unknown_state(uid)
            body = encode(state)
        time, event_id = self._clock(), uuid.uuid4()
        headers = rule_event_headers(write.event_type, state, time=time, event_id=event_id)
        if write.tombstone:
            headers["Nats-Rollup"] = "sub"
            headers["Nats-TTL"] = f"{max(1, round(self._tombstone_ttl))}s"

        def completion(outcome: int | PublishError) -> None:
            self._answered(uid, write, outcome)
            if isinstance(outcome, int):
                self._published(uid, write, state, time, event_id)

        await self._publisher.publish(
            subject=write.subject,
            body=body,
            headers=headers,
            expected_sequence=write.expected_sequence,
            completion=completion,
        )

    def _answered(self, uid: str, write: Write, outcome: int | PublishError) -> None:
        match outcome:
            case int():
                self.view.put(
                    uid,
                    StreamEntry(
                        subject=write.subject,
                        sequence=outcome,
                        generation=write.generation,
                        tombstone=write.tombstone,
                        body=b"" if write.tombstone else write.body,
                        seen=0,
                        buried_at=self._clock().timestamp() if write.tombstone else 0.0,
                    ),
                )
                metrics.PUBLISHED[write.event_type].inc()
                if uid in self.failures:
                    self._recovered(uid)
                self._finished(uid)
            case WrongSequenceError():
                metrics.CONFLICTS.inc()
                log.info("rule_message_conflict", subject=write.subject, expected=write.expected_sequence)
                self._reloads.put_nowait((uid, write.subject))  # at most one for each message in flight
            case StreamGoneError():
                self._lose(f"The stream {subjects.RULES_STREAM} is gone.")
                self._finished(uid)
            case ConnectionLostError():
                self._finished(uid)
            case _:
                self._refused(uid, str(outcome))
                self._finished(uid)

    def _refused(self, uid: str, why: str) -> None:
        metrics.PUBLISH_FAILURES.inc()
        if uid not in self.failures:
            log.warning("rule_message_refused", rule_uid=uid, error=why)
        self.failures[uid] = why
        delay = self._backoffs.setdefault(uid, Backoff()).next()
        asyncio.get_running_loop().call_later(delay, self._look_again, uid)

    def _recovered(self, uid: str) -> None:
        self.failures.pop(uid, None)
        self._backoffs.pop(uid, None)

    def _finished(self, uid: str, *, count: int = 1) -> None:
        remaining = self._busy.get(uid, 0) - count
        if remaining > 0:
            self._busy[uid] = remaining
            return
        self._busy.pop(uid, None)
        if uid in self._again:
            self._again.discard(uid)
            self._look_again(uid)

    def _lose(self, why: str) -> None:
        if not self._lost.done():
            self._lost.set_result(why)

    async def _reload_forever(self) -> None:
        while True:
            uid, subject = await self._reloads.get()
            try:
                await self.reload(uid, subject)
            finally:
                self._again.add(uid)
                self._finished(uid)

    async def reload(self, uid: str, subject: str) -> None:
        """Learn a subject's last message anew.

        Raises:
            nats.errors.Error: the server refused or did not answer.
        """
        try:
            # Not a direct get: any replica may answer that, also one that lags behind.
            message: Any = await self._connection.jetstream.get_last_msg(subjects.RULES_STREAM, subject)
        except nats.js.errors.APIError as error:
            if error.err_code != _NO_MESSAGE:
                raise
            self.view.forget(uid, subject)
            return
        headers = message.headers or {}
        self.view.put(
            uid,
            entry_of(
                subject=subject,
                sequence=message.seq,
                tombstone=headers.get("ce-type") == RuleEventType.DELETED,
                body=message.data or b"",
                seen=self._tick(),
                buried_at=self._clock().timestamp(),
            ),
        )

    async def replace_view(self, load: Callable[[], Any]) -> None:
        """Stop writing, wait for the answers, and take the view that ``load`` brings."""
        async with self._gate:
            await self._publisher.drained()
            self.view = await load()


def _readable(body: bytes) -> RuleState | None:
    try:
        return decode_rule(body)
    except InvalidMessage:
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
