"""One connection to NATS, and all that is valid only while it lives: the streams, the acks, the projector.

Whatever fails here ends the session, and the next one begins from snapshots. That is the only way to recover, and the way
that every start takes.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, Final, NamedTuple

import nats.errors
import structlog

from attune_contract import subjects
from attune_contract.messages import InvalidMessageError, is_tombstone
from attune_kit.nats.connection import NatsConnection, NatsEndpoint, NatsUnavailableError, describe, open_connection
from attune_kit.nats.last_per_subject import LastPerSubjectReader, ReaderLostError, StreamMessage, read_snapshot
from attune_operator.rules import metrics
from attune_operator.rules.acks import UnwantedAcks, parse_ack, stale_acks
from attune_operator.rules.actions_projector import ActionsProjector
from attune_operator.rules.cache import RuleCache
from attune_operator.rules.health import parse_health
from attune_operator.rules.history import HistoryLog
from attune_operator.rules.last_events import LastEventReader, pause_after
from attune_operator.rules.options import RulesOptions
from attune_operator.rules.projector import Projector
from attune_operator.rules.statuses import Statuses
from attune_operator.rules.stream_view import StreamView, entry_of
from attune_operator.rules.summaries import Summaries
from attune_operator.rules.sweeper import Sweeper
from attune_operator.runtime.queue import PriorityQueue
from attune_operator.streams.definitions import (
    StreamIdentity,
    StreamUnusableError,
    acks_stream,
    actions_stream,
    delete_if_present,
    ensure_stream,
    history_stream,
    identity,
    rules_stream,
)
from attune_operator.streams.publisher import Publisher, PublishError

_log = structlog.stdlib.get_logger(__name__)

_INVALID_ACKS_LOGGED_EVERY: Final = 30.0
#: Acks and health reports that are purged after one list; the rest is found again by the next.
_MAX_PURGES: Final = 1000


class Session(NamedTuple):
    """What writes over one connection."""

    projector: Projector
    actions: ActionsProjector


class SessionRunner:
    """Runs sessions, one at a time.

    Args:
        endpoint: where NATS is.
        options: times and rates.
        cache: what is known of each Rule and of the stream.
        queue: takes the Rules that must be reconciled.
        sweeper: lists everything from Kubernetes.
        statuses: gets the times of the latest events.
        summaries: gets the health reports.
        history: is written over the session.
        clock: returns the present time.
        rng: for jitter.
    """

    def __init__(
        self,
        *,
        endpoint: NatsEndpoint,
        options: RulesOptions,
        cache: RuleCache,
        queue: PriorityQueue[str],
        sweeper: Sweeper,
        statuses: Statuses,
        summaries: Summaries,
        history: HistoryLog,
        clock: Callable[[], datetime],
        rng: random.Random,
    ) -> None:
        self._endpoint = endpoint
        self._options = options
        self._cache = cache
        self._queue = queue
        self._sweeper = sweeper
        self._statuses = statuses
        self._summaries = summaries
        self._history = history
        self._view = StreamView(cache)
        self._clock = clock
        self._rng = rng
        self._invalid_logged = -1e9
        self._unwanted = UnwantedAcks()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Session]:
        """A session that is ready to write; leaving the block ends it.

        Raises:
            NatsUnavailableError: it could not begin, or it ended. The text says why.
        """
        try:
            async with open_connection(self._endpoint) as connection, asyncio.TaskGroup() as group:
                group.create_task(_ended(connection), name="nats-connection")
                yield await self._begin(connection, group)
        except ExceptionGroup as failures:
            causes = _leaves(failures)
            for cause in causes:
                if not isinstance(cause, _EXPECTED):
                    # A defect, ours or nats-py's. A new session may be spared it, and the rest of the operator goes on.
                    _log.error("rule_stream_session_failed", exc_info=cause)
            raise NatsUnavailableError(_sentence(causes[0])) from failures
        except _EXPECTED as error:
            raise NatsUnavailableError(_sentence(error)) from error

    async def _begin(self, connection: NatsConnection, group: asyncio.TaskGroup) -> Session:
        options, jetstream = self._options, connection.jetstream
        rule_stream = connection.jetstream_at(options.rules_api)
        if options.rules_api != subjects.PLAIN_API:
            await delete_if_present(jetstream, subjects.RULES_STREAM)  # of a version that kept it in this account
        rules = await ensure_stream(rule_stream, rules_stream(replicas=options.stream_replicas))
        await ensure_stream(jetstream, acks_stream(replicas=options.stream_replicas))
        said = await ensure_stream(jetstream, actions_stream(replicas=options.stream_replicas))
        await ensure_stream(
            jetstream,
            history_stream(
                replicas=options.stream_replicas, per_rule=options.history_per_rule, max_age=options.history_max_age
            ),
        )
        publisher = Publisher(connection=connection, max_in_flight=options.max_in_flight)
        await publisher.start()
        group.create_task(publisher.run(), name="rule-stream-publisher")

        self._cache.begin_session()
        acks = await self._read_acks(connection)
        group.create_task(acks.run(), name="ack-reader")
        await self._load_view(connection)
        async with asyncio.timeout(options.snapshot_timeout):
            await acks.wait_caught_up()
        actions = ActionsProjector(
            connection=connection,
            publisher=publisher,
            cache=self._cache,
            queue=self._queue,
            sweeper=self._sweeper,
            options=options,
            rng=self._rng,
        )
        await actions.load()
        group.create_task(actions.run(said, on_changed=self.compare_all), name="actions-projector")
        if not rules.messages:
            self._cache.stream.with_history = await _rules_with_history(jetstream)

        projector = Projector(
            jetstream=rule_stream,
            publisher=publisher,
            cache=self._cache,
            queue=self._queue,
            sweeper=self._sweeper,
            history=self._history,
            tombstone_ttl=options.tombstone_ttl,
            clock=self._clock,
        )
        group.create_task(projector.run(), name="projector")
        group.create_task(self._watch(connection, projector, publisher, rules), name="rule-stream-watch")
        group.create_task(self._history.drain(publisher, rules=self._queue), name="rule-history")
        group.create_task(self._poll_events(connection), name="last-events")
        group.create_task(self._purge_forever(connection), name="ack-purge")
        if not any(entry.acks for entry in self._cache.entries()):
            self._cache.stream.acks_known_at = asyncio.get_running_loop().time() + options.acks_grace
            group.create_task(self._end_of_grace(), name="acks-grace")
        return Session(projector, actions)

    # -- acks

    async def _read_acks(self, connection: NatsConnection) -> LastPerSubjectReader:
        def receive(message: StreamMessage) -> None:
            self._receive_ack(message, live=reader.caught_up)

        reader = LastPerSubjectReader(
            connection=connection,
            stream=subjects.ACKS_STREAM,
            subject=subjects.ALL_ACKS,
            on_message=receive,
            heartbeat=self._options.heartbeat,
        )
        await reader.start()
        return reader

    def _receive_ack(self, message: StreamMessage, *, live: bool) -> None:
        """Remember an ack, and have its Rule reconciled: ``RuleController.reconcile`` brings it into the status.

        In the snapshot (not ``live``) nothing is enqueued: when it is complete, every Rule is.
        """
        try:
            if (health := parse_health(subject=message.subject, body=message.data)) is not None:
                self._summaries.put_health(*health)
                return
            uid, ack = parse_ack(
                subject=message.subject, sequence=message.sequence, body=message.data, seen=self._cache.tick
            )
        except InvalidMessageError as error:
            self._log_invalid_ack(message.subject, error)
            self._unwanted.add(message.subject)
            return
        metrics.ACKS.labels(ack.state).inc()
        known = self._cache.get(uid)
        only_next_time = known is not None and known.differs_in_next_time(ack)
        if not self._cache.put_ack(uid, ack):
            if self._cache.get(uid) is None:
                self._unwanted.add(message.subject)  # of one unknown Rule too many
            return
        if not live:
            return
        # Somebody waits for the first ack of a change. That all sensors repeat theirs after a restart is bulk.
        entry = self._cache.entry(uid)
        if only_next_time and self._statuses.see_next_time(entry):
            return
        awaited = entry.published_at is not None
        if entry.published_at is not None:
            metrics.ACK_SECONDS.observe(asyncio.get_running_loop().time() - entry.published_at)
            entry.published_at = None
        self._queue.enqueue(uid, urgent=awaited)

    def _log_invalid_ack(self, subject: str, error: InvalidMessageError) -> None:
        metrics.ACKS.labels("invalid").inc()
        now = asyncio.get_running_loop().time()
        if now - self._invalid_logged > _INVALID_ACKS_LOGGED_EVERY:
            self._invalid_logged = now
            _log.warning("ack_ignored", subject=subject, error=str(error))

    async def _end_of_grace(self) -> None:
        """From now on a missing ack means that the sensor does not run the rule."""
        await asyncio.sleep(self._options.acks_grace)
        self._queue.enqueue_all(self._cache.rules)

    async def _purge_forever(self, connection: NatsConnection) -> None:
        """After each complete list, purge acks and health reports that will not be needed, one at a time.

        Raises:
            nats.errors.Error: the server refused or did not answer.
        """
        while True:
            await self._sweeper.swept.wait()
            self._sweeper.swept.clear()
            for subject in self._unwanted.take():
                _log.warning("acks_purged", subject=subject)
                await connection.jetstream.purge_stream(subjects.ACKS_STREAM, subject=subject)
            reports = [
                (f"{binding}{subjects.health_subject('', instance)}", None)
                for binding, instance in self._summaries.departed()
            ]
            acks = [(f"{binding}.{uid}", (uid, binding)) for uid, binding in stale_acks(self._cache)]
            for subject, ack in (reports + acks)[:_MAX_PURGES]:
                await connection.jetstream.purge_stream(
                    subjects.ACKS_STREAM, subject=f"{subjects.ALL_ACKS.removesuffix('>')}{subject}"
                )
                if ack is not None and (entry := self._cache.get(ack[0])) is not None:
                    entry.forget_ack(ack[1])
                    self._cache.release(entry)

    # -- the rule stream

    async def _load_view(self, connection: NatsConnection) -> None:
        """Read the last message of each subject of the rule stream."""
        tombstone_at = self._clock().timestamp()

        def receive(message: StreamMessage) -> None:
            try:
                _, uid = subjects.split_binding(message.subject)
            except ValueError:
                return  # not a rule's subject; no sensor reads it
            self._view.put(
                uid,
                entry_of(
                    subject=message.subject,
                    sequence=message.sequence,
                    tombstone=is_tombstone(message.headers),
                    body=message.data,
                    seen=self._cache.tick,
                    tombstone_at=tombstone_at,
                ),
            )

        self._view.clear()
        api = self._options.rules_api
        before = identity(await connection.jetstream_at(api).stream_info(subjects.RULES_STREAM))
        await read_snapshot(
            connection=connection,
            stream=subjects.RULES_STREAM,
            subject=subjects.ALL_RULES,
            on_message=receive,
            timeout=self._options.snapshot_timeout,
            api=api,
        )
        self._cache.stream.read(before)

    async def _watch(
        self, connection: NatsConnection, projector: Projector, publisher: Publisher, rules: StreamIdentity
    ) -> None:
        """Compare the stream with the view by its numbers, periodically and when the server announces a change."""
        announced = asyncio.Event()

        async def advisory(_: Any) -> None:
            announced.set()

        await connection.client.subscribe(subjects.stream_advisories(self._options.rules_api), cb=advisory)
        jetstream = connection.jetstream_at(self._options.rules_api)
        stream = self._cache.stream
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.check_interval * self._rng.uniform(0.8, 1.2)):
                    await announced.wait()
            announced.clear()
            # Answers to our own writes may overtake the one to this question.
            sent, known = publisher.sent, stream.known()
            at_rest = not stream.in_flight and not publisher.in_flight
            now = identity(await jetstream.stream_info(subjects.RULES_STREAM))
            if now.created != rules.created or not known.precedes(now):
                raise ReaderLostError(
                    f"the stream {subjects.RULES_STREAM} was deleted and created again", reason="recreated"
                )
            self._view.forget_tombstones(set_before=self._clock().timestamp() - self._options.tombstone_ttl - 60)
            if not at_rest or publisher.sent != sent:
                continue  # the numbers were moving; next time
            if not known.matches(now):
                _log.warning("rule_stream_changed_by_others", sequence=now.last_sequence, messages=now.messages)
                async with projector.paused():
                    await self._load_view(connection)
                self.compare_all()

    def compare_all(self) -> None:
        """The rule stream was read: compare all of it with all Rules, and with a new list of them."""
        self._queue.enqueue_all(
            [entry.uid for entry in self._cache.entries() if entry.rule is not None or entry.stream or entry.actions]
        )
        self._sweeper.request()

    async def _poll_events(self, connection: NatsConnection) -> None:
        reader = LastEventReader(connection=connection, on_event=self._statuses.see_event)
        while True:
            read = 0
            try:
                read = await reader.poll()
            except (ReaderLostError, nats.errors.Error, TimeoutError) as error:
                # A column in a table is no reason to give the rule stream up.
                _log.warning("last_events_not_read", error=_sentence(error))
            pause = pause_after(read, shortest=self._options.last_event_interval)
            await asyncio.sleep(pause * self._rng.uniform(0.9, 1.1))


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
