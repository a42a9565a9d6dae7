"""Keeps the stream of actions what the Rules say, over one connection (docs/actions.md).

It decides nothing: :mod:`~attune_operator.rules.actions` does. One message of a Rule is on its way at a time. Whatever goes wrong
is mended by reading again: a subject after a write that lost, the stream when its numbers are not ours, and everything with
the next connection.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any, Final

import nats.js.errors
import structlog

from attune_contract.actions import ACTIONS_STREAM, ALL_ACTIONS
from attune_kit.backoff import Backoff
from attune_kit.nats.connection import NatsConnection
from attune_kit.nats.last_per_subject import ReaderLostError, StreamMessage, read_snapshot
from attune_operator.rules import metrics
from attune_operator.rules.actions import Said, digest, entry_of, plan_actions
from attune_operator.rules.cache import RuleCache
from attune_operator.rules.entry import RuleEntry, StreamEntry
from attune_operator.rules.options import RulesOptions
from attune_operator.rules.stream_numbers import StreamNumbers
from attune_operator.rules.sweeper import Sweeper
from attune_operator.runtime.queue import PriorityQueue
from attune_operator.streams.definitions import StreamIdentity, identity
from attune_operator.streams.publisher import (
    ConnectionLostError,
    Publisher,
    PublishError,
    StreamGoneError,
    WrongSequenceError,
)

_log = structlog.stdlib.get_logger(__name__)

#: JetStream's "no message found".
_NO_MESSAGE: Final = 10037
#: Seconds until a message that NATS refused is sent again: the first wait, and the longest.
_RETRY: Final = Backoff(initial=0.5, maximum=30.0)
_SUBJECT_TOKENS: Final = 4


class ActionsProjector:
    """Writes to the stream of actions over one connection.

    Args:
        connection: the connection.
        publisher: sends messages and matches the answers; started.
        cache: what is known of each Rule; what is on the stream is kept in its entries.
        queue: takes the Rules that must be reconciled again.
        sweeper: is asked for a complete list where something on the stream is contested.
        options: times.
        rng: for jitter.
    """

    def __init__(
        self,
        *,
        connection: NatsConnection,
        publisher: Publisher,
        cache: RuleCache,
        queue: PriorityQueue[str],
        sweeper: Sweeper,
        options: RulesOptions,
        rng: random.Random,
    ) -> None:
        self._connection = connection
        self._publisher = publisher
        self._cache = cache
        self._queue = queue
        self._sweeper = sweeper
        self._options = options
        self._rng = rng
        self._numbers = StreamNumbers()
        self._sent = 0
        self._in_flight = 0
        self._writing = asyncio.Event()
        self._writing.set()
        self._reloads: asyncio.Queue[tuple[RuleEntry, str]] = asyncio.Queue(maxsize=0)
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def load(self) -> None:
        """Read the last message of each subject.

        Raises:
            ReaderLostError: it did not come whole.
            nats.errors.Error: the server refused or did not answer.
        """
        for entry in list(self._cache.entries()):
            self._put(entry, None)
        before = identity(await self._connection.jetstream.stream_info(ACTIONS_STREAM))
        await read_snapshot(
            connection=self._connection,
            stream=ACTIONS_STREAM,
            subject=ALL_ACTIONS,
            on_message=self._receive,
            timeout=self._options.snapshot_timeout,
        )
        self._numbers.read(before)

    def _receive(self, message: StreamMessage) -> None:
        tokens = message.subject.split(".")
        if len(tokens) == _SUBJECT_TOKENS:  # else it is nobody's subject; nobody reads it
            said = entry_of(
                subject=message.subject, sequence=message.sequence, body=message.data, seen=self._cache.tick
            )
            self._put(self._cache.entry(tokens[3]), said)

    async def run(self, stream: StreamIdentity, *, on_changed: Callable[[], None]) -> None:
        """Read again what others wrote, until the stream is lost.

        Args:
            stream: the incarnation that was read.
            on_changed: called when the whole stream was read again.

        Raises:
            ConnectionLostError: the stream or the connection is gone.
            ReaderLostError: the stream was deleted and created again.
            nats.errors.Error: the server refused or did not answer.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reload_forever(), name="actions-reload")
            group.create_task(self._watch(stream, on_changed), name="actions-watch")
            raise ConnectionLostError(await asyncio.shield(self._lost))

    async def project(self, entry: RuleEntry) -> None:
        """Bring the stream to what a Rule should have there; the answer comes later.

        Raises:
            ConnectionLostError: the connection is gone.
        """
        await self._writing.wait()
        if entry.actions_in_flight:
            entry.actions_replan = True
            return
        plan = plan_actions(
            rule=entry.rule,
            uid=entry.uid,
            present=entry.actions,
            listed=self._cache.listed,
            confirmed_gone=self._cache.was_deleted(entry.uid),
        )
        contested = self._cache.stream.actions_contested
        contested.discard(entry.uid)
        if plan.contested:
            contested.add(entry.uid)
            self._sweeper.request()  # with the list it is ours to change, and is looked at again
        elif plan.message is not None:
            await self._send(entry, plan.message)
        elif entry.rule is None and entry.actions is not None and self._cache.complete:
            self._put(entry, None)  # the tombstone of a Rule that does not come back

    async def _send(self, entry: RuleEntry, said: Said) -> None:
        headers: dict[str, str] = {}
        if said.tombstone:
            headers = {"Nats-Rollup": "sub", "Nats-TTL": f"{max(1, round(self._options.tombstone_ttl))}s"}
        entry.actions_in_flight = True
        self._in_flight += 1
        self._sent += 1

        def completion(outcome: int | PublishError) -> None:
            if isinstance(outcome, int):
                self._stored(entry, said, outcome)
            else:
                self._not_stored(entry, said, outcome)

        try:
            await self._publisher.publish(
                subject=said.subject,
                body=said.body,
                headers=headers,
                expected_sequence=said.expected_sequence,
                completion=completion,
            )
        except ConnectionLostError:
            self._finished(entry)
            raise

    def _stored(self, entry: RuleEntry, said: Said, sequence: int) -> None:
        self._numbers.stored += 1
        self._put(
            entry,
            StreamEntry(
                subject=said.subject,
                sequence=sequence,
                generation=said.generation,
                tombstone=said.tombstone,
                body=b"" if said.tombstone else digest(said.body),
                seen=0,
            ),
        )
        entry.actions_refusals = 0
        metrics.ACTIONS_PUBLISHED.inc()
        if said.tombstone and entry.rule is None:
            self._put(entry, None)
        self._finished(entry)

    def _not_stored(self, entry: RuleEntry, said: Said, error: PublishError) -> None:
        match error:
            case WrongSequenceError():
                self._reloads.put_nowait((entry, said.subject))  # at most one for each message in flight
                return  # it is finished when that was read
            case StreamGoneError():
                if not self._lost.done():
                    self._lost.set_result(f"The stream {ACTIONS_STREAM} is gone.")
            case ConnectionLostError():
                pass
            case _:
                entry.actions_refusals += 1
                if entry.actions_refusals == 1:
                    _log.warning("actions_message_refused", rule_uid=entry.uid, error=str(error))
                self._queue.enqueue(entry.uid, after=_RETRY.delay(attempt=entry.actions_refusals))
        self._finished(entry)

    def _finished(self, entry: RuleEntry) -> None:
        self._in_flight -= 1
        entry.actions_in_flight = False
        if entry.actions_replan:
            entry.actions_replan = False
            self._queue.enqueue(entry.uid)
        self._cache.release(entry)

    async def _reload_forever(self) -> None:
        while True:
            entry, subject = await self._reloads.get()
            try:
                await self._reload(entry, subject)
            finally:
                entry.actions_replan = True
                self._finished(entry)

    async def _reload(self, entry: RuleEntry, subject: str) -> None:
        try:
            message: Any = await self._connection.jetstream.get_last_msg(ACTIONS_STREAM, subject)
        except nats.js.errors.APIError as error:
            if error.err_code != _NO_MESSAGE:
                raise
            self._put(entry, None)
            return
        said = entry_of(subject=subject, sequence=message.seq, body=message.data or b"", seen=self._cache.tick)
        self._put(entry, said)

    async def _watch(self, stream: StreamIdentity, on_changed: Callable[[], None]) -> None:
        """Compare the stream with what is known by its numbers, again and again."""
        while True:
            await asyncio.sleep(self._options.check_interval * self._rng.uniform(0.8, 1.2))
            # Answers to our own writes may overtake the one to this question.
            sent, known = self._sent, self._numbers.known()
            at_rest = not self._in_flight
            now = identity(await self._connection.jetstream.stream_info(ACTIONS_STREAM))
            if now.created != stream.created or not known.precedes(now):
                raise ReaderLostError(f"the stream {ACTIONS_STREAM} was deleted and created again", reason="recreated")
            if not at_rest or self._sent != sent:
                continue  # the numbers were moving; next time
            if not known.matches(now):
                _log.warning("actions_stream_changed_by_others", sequence=now.last_sequence, messages=now.messages)
                async with self._paused():
                    await self.load()
                on_changed()

    @contextlib.asynccontextmanager
    async def _paused(self) -> Any:
        """Nothing is written inside the block, and every message has been answered."""
        self._writing.clear()
        try:
            await self._publisher.drained()
            yield
        finally:
            self._writing.set()

    def _put(self, entry: RuleEntry, said: StreamEntry | None) -> None:
        """Remember the last message on a Rule's subject, unless a later one is known."""
        known = entry.actions
        if said is not None:
            self._numbers.see(said.sequence)
            if known is not None and known.sequence > said.sequence:
                return
        self._numbers.live += (said is not None and not said.tombstone) - (known is not None and not known.tombstone)
        entry.actions = said
        self._cache.release(entry)
