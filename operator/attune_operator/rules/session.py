"""One connection to NATS, and all that is true only while it lives: the streams, the view, the acks, the projector.

Whatever fails here ends the session, and the next one begins from snapshots. That is the only way to recover, and it is the
way that every start takes.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import nats.errors
import structlog

from attune_contract import subjects
from attune_contract.messages import InvalidMessage, SensorHealth, is_tombstone
from attune_kit.nats.connection import NatsConnection, NatsEndpoint, NatsUnavailableError, describe, open_connection
from attune_kit.nats.last_per_subject import LastPerSubjectReader, ReaderLostError, StreamMessage, read_snapshot
from attune_operator.rules import rule_metrics as metrics
from attune_operator.rules.acks import AckBook, AckEntry, parse_ack
from attune_operator.rules.health import parse_health
from attune_operator.rules.history import HistoryLog
from attune_operator.rules.last_events import LastEvent, LastEventReader
from attune_operator.rules.options import RulesOptions
from attune_operator.rules.projector import Projector, Published
from attune_operator.rules.view import StreamView, entry_of
from attune_operator.streams.definitions import (
    StreamIdentity,
    StreamUnusableError,
    acks_stream,
    ensure_stream,
    history_stream,
    identity,
    rules_stream,
)
from attune_operator.streams.publisher import Publisher, PublishError

log = structlog.stdlib.get_logger(__name__)

#: Where the server tells of streams that were deleted, made or changed (JetStream advisories).
_STREAM_ADVISORIES: Final = "$JS.EVENT.ADVISORY.STREAM.*.*"
_INVALID_ACKS_LOGGED_EVERY: Final = 30.0
_MAX_PURGES: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCallbacks:
    """What a session tells the controller. None of them blocks."""

    look_again: Callable[[str], None]
    published: Published
    contested: Callable[[], None]
    view_replaced: Callable[[StreamView], None]
    acked: Callable[[str, AckEntry], None]
    health: Callable[[str, SensorHealth], None]
    last_event: Callable[[LastEvent], None]
    tick: Callable[[], int]
    known: Callable[[str], bool]
    known_rules: Callable[[], int]
    calm: Callable[[], bool]


@dataclass(slots=True)
class Session:
    """A live session. ``acks_found_empty``: the ack stream had no word on any rule when it was read."""

    connection: NatsConnection
    publisher: Publisher
    projector: Projector
    acks: AckBook
    acks_found_empty: bool
    history_known: set[str]
    """Rules whose history is kept already although the rule stream is new: their state is restored, not created."""
    begun: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    _purges: asyncio.Queue[tuple[str, str]] = field(default_factory=lambda: asyncio.Queue(maxsize=_MAX_PURGES))

    def purge_health(self, departed: list[tuple[str, str]]) -> None:
        """Have words of pods that are gone (binding, instance) taken off the stream, as :meth:`purge_acks`."""
        self.purge_acks(
            [(subjects.health_subject("", instance).removeprefix("."), binding) for binding, instance in departed]
        )

    def purge_acks(self, stale: list[tuple[str, str]]) -> None:
        """Have acks taken off the stream. Those that find no place in the queue are found again by the next sweep."""
        with contextlib.suppress(asyncio.QueueFull):
            for each in stale:
                self._purges.put_nowait(each)

    async def purge_forever(self) -> None:
        """Take acks off the stream, one at a time.

        Raises:
            nats.errors.Error: the server refused or did not answer.
        """
        while True:
            uid, binding = await self._purges.get()
            await self.connection.jetstream.purge_stream(
                subjects.ACKS_STREAM, subject=f"{subjects.ALL_ACKS.removesuffix('>')}{binding}.{uid}"
            )
            self.acks.forget(uid, binding)


class SessionRunner:
    """Runs sessions, one at a time."""

    def __init__(
        self,
        *,
        endpoint: NatsEndpoint,
        options: RulesOptions,
        callbacks: SessionCallbacks,
        history: HistoryLog,
        clock: Callable[[], datetime],
        rng: random.Random,
    ) -> None:
        self._endpoint = endpoint
        self._options = options
        self._callbacks = callbacks
        self._history = history
        self._clock = clock
        self._rng = rng
        self._invalid_logged = -1e9

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[Session, asyncio.TaskGroup]]:
        """A session that is ready to write; leaving the block ends it.

        Raises:
            NatsUnavailableError: it could not begin, or it ended. The text says why.
        """
        try:
            async with open_connection(self._endpoint) as connection, asyncio.TaskGroup() as group:
                group.create_task(_ended(connection), name="nats-connection")
                yield await self._begin(connection, group), group
        except ExceptionGroup as failures:
            causes = _leaves(failures)
            for cause in causes:
                if not isinstance(cause, _EXPECTED):
                    # Ours or nats-py's; a new session may be spared it, and the rest of the operator is in any case.
                    log.error("rule_stream_session_failed", exc_info=cause)
            raise NatsUnavailableError(_sentence(causes[0])) from failures
        except _EXPECTED as error:
            raise NatsUnavailableError(_sentence(error)) from error

    async def _begin(self, connection: NatsConnection, group: asyncio.TaskGroup) -> Session:
        options, jetstream = self._options, connection.jetstream
        rules = await ensure_stream(jetstream, rules_stream(replicas=options.stream_replicas))
        await ensure_stream(jetstream, acks_stream(replicas=options.stream_replicas))
        await ensure_stream(
            jetstream,
            history_stream(
                replicas=options.stream_replicas, per_rule=options.history_per_rule, max_age=options.history_max_age
            ),
        )
        publisher = Publisher(connection=connection, max_in_flight=options.max_in_flight)
        await publisher.start()
        group.create_task(publisher.run(), name="rule-stream-publisher")

        book = AckBook()
        reader = await self._read_acks(connection, book)
        group.create_task(reader.run(), name="ack-reader")
        view = await self._load_view(connection)
        async with asyncio.timeout(options.snapshot_timeout):
            await reader.wait_caught_up()

        projector = Projector(
            connection=connection,
            publisher=publisher,
            view=view,
            tick=self._callbacks.tick,
            look_again=self._callbacks.look_again,
            published=self._callbacks.published,
            contested=self._callbacks.contested,
            tombstone_ttl=options.tombstone_ttl,
            clock=self._clock,
        )
        group.create_task(projector.run(), name="projector")
        group.create_task(self._watch(connection, projector, publisher, rules), name="rule-stream-watch")
        group.create_task(self._history.drain(publisher, calm=self._callbacks.calm), name="rule-history")
        group.create_task(self._poll_events(connection), name="last-events")
        known = set[str]() if rules.messages else await _rules_with_history(jetstream)
        session = Session(
            connection=connection,
            publisher=publisher,
            projector=projector,
            acks=book,
            acks_found_empty=len(book) == 0,
            history_known=known,
        )
        group.create_task(session.purge_forever(), name="ack-purge")
        return session

    # -- acks

    async def _read_acks(self, connection: NatsConnection, book: AckBook) -> LastPerSubjectReader:
        def receive(message: StreamMessage) -> None:
            try:
                if (health := parse_health(subject=message.subject, body=message.data)) is not None:
                    self._callbacks.health(*health)
                    return
                uid, entry = parse_ack(
                    subject=message.subject,
                    sequence=message.sequence,
                    body=message.data,
                    seen=self._callbacks.tick(),
                )
            except InvalidMessage as error:
                self._ignored_ack(message.subject, error)
                return
            metrics.ACKS.labels(entry.state).inc()
            if book.put(uid, entry, known_rules=self._callbacks.known_rules()) and reader.caught_up:
                self._callbacks.acked(uid, entry)

        reader = LastPerSubjectReader(
            connection=connection,
            stream=subjects.ACKS_STREAM,
            subject=subjects.ALL_ACKS,
            on_message=receive,
            heartbeat=self._options.heartbeat,
        )
        await reader.start()
        return reader

    def _ignored_ack(self, subject: str, error: InvalidMessage) -> None:
        metrics.ACKS.labels("invalid").inc()
        now = asyncio.get_running_loop().time()
        if now - self._invalid_logged > _INVALID_ACKS_LOGGED_EVERY:
            self._invalid_logged = now
            log.warning("ack_ignored", subject=subject, error=str(error))

    # -- the rule stream

    async def _load_view(self, connection: NatsConnection) -> StreamView:
        view = StreamView()
        buried_at = self._clock().timestamp()

        def receive(message: StreamMessage) -> None:
            try:
                _, uid = subjects.split_binding(message.subject)
            except ValueError:
                return  # not a rule's place; no sensor reads it
            view.put(
                uid,
                entry_of(
                    subject=message.subject,
                    sequence=message.sequence,
                    tombstone=is_tombstone(message.headers),
                    body=message.data,
                    seen=self._callbacks.tick(),
                    buried_at=buried_at,
                ),
            )

        before = identity(await connection.jetstream.stream_info(subjects.RULES_STREAM))
        await read_snapshot(
            connection=connection,
            stream=subjects.RULES_STREAM,
            subject=subjects.ALL_RULES,
            on_message=receive,
            timeout=self._options.snapshot_timeout,
        )
        view.last_sequence = max(view.last_sequence, before.last_sequence)
        return view

    async def _watch(
        self, connection: NatsConnection, projector: Projector, publisher: Publisher, rules: StreamIdentity
    ) -> None:
        """Compare the stream with the view by its numbers, periodically and when the server tells of a change."""
        told = asyncio.Event()

        async def advisory(_: Any) -> None:
            told.set()

        await connection.client.subscribe(_STREAM_ADVISORIES, cb=advisory)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.check_interval * self._rng.uniform(0.8, 1.2)):
                    await told.wait()
            told.clear()
            # Answers to our own writes may overtake the one to this question.
            sent, view, sequence, live = (
                publisher.sent,
                projector.view,
                projector.view.last_sequence,
                projector.view.live,
            )
            at_rest = projector.idle and not publisher.in_flight
            now = identity(await connection.jetstream.stream_info(subjects.RULES_STREAM))
            if now.created != rules.created or now.last_sequence < sequence:
                raise ReaderLostError(f"the stream {subjects.RULES_STREAM} was created again", reason="recreated")
            projector.view.forget_tombstones(
                buried_before=self._clock().timestamp() - self._options.tombstone_ttl - 60, known=self._callbacks.known
            )
            if not at_rest or publisher.sent != sent or projector.view is not view:
                continue  # the numbers were moving; next time
            if now.last_sequence > sequence or now.messages < live:
                log.warning("rule_stream_changed_by_others", sequence=now.last_sequence, messages=now.messages)
                await projector.replace_view(lambda: self._load_view(connection))
                self._callbacks.view_replaced(projector.view)

    async def _poll_events(self, connection: NatsConnection) -> None:
        reader = LastEventReader(connection=connection, on_event=self._callbacks.last_event)
        while True:
            try:
                await reader.poll()
            except (ReaderLostError, nats.errors.Error, TimeoutError) as error:
                # A column in a table is no reason to give the rule stream up.
                log.warning("last_events_not_read", error=_sentence(error))
            await asyncio.sleep(self._options.last_event_interval * self._rng.uniform(0.8, 1.2))


_EXPECTED: Final = (
    NatsUnavailableError,
    StreamUnusableError,
    ReaderLostError,
    PublishError,
    nats.errors.Error,
    OSError,
    TimeoutError,
)


async def _ended(connection: NatsConnection) -> None:
    await connection.wait_closed()
    raise NatsUnavailableError(connection.reason)


async def _rules_with_history(jetstream: Any) -> set[str]:
    info = await jetstream.stream_info(subjects.HISTORY_STREAM, subjects_filter=subjects.ALL_HISTORY)
    return {subject.rpartition(".")[2] for subject in info.state.subjects or ()}


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, ExceptionGroup) else [error])
    return found


def _sentence(error: Exception) -> str:
    if isinstance(error, NatsUnavailableError | StreamUnusableError):
        return str(error)
    if isinstance(error, ReaderLostError | PublishError):
        text = str(error)
        return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
    return describe(error)
