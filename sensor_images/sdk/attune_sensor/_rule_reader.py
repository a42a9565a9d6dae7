"""Keeps the sensor's rules equal to the rule stream (docs/sensor-protocol.md, "Reading the rules").

A reading takes a snapshot, then follows the stream. Any doubt leads to a new reading: a reconnect, a missed heartbeat,
a gap, and every few minutes without a reason.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import nats.errors

from attune_contract import subjects
from attune_contract.messages import InvalidMessageError, decode_rule, is_tombstone
from attune_kit.backoff import Backoff, spread
from attune_kit.nats.connector import NatsConnector
from attune_kit.nats.last_per_subject import (
    LastPerSubjectReader,
    ReaderLostError,
    StreamMessage,
)
from attune_kit.nats.pull_consumer import StreamUnavailableError
from attune_kit.outage import Outage
from attune_sensor._metrics import Metrics
from attune_sensor._rule_table import RuleChange, RuleTable
from attune_sensor._rules import Rule

_RETRY: Final = Backoff(initial=0.1, maximum=2.0)
#: Failed requests on a connection that looks alive, after which a new one is opened.
_DISTRUST_AFTER: Final = 3


class RuleReader:
    """Keeps a :class:`RuleTable` equal to the stream.

    Args:
        connector: the connection to NATS.
        filter_subject: which rules to read (``ATTUNE_RULES_SUBJECT``).
        api_prefix: prefix of the JetStream API that reaches the stream (``ATTUNE_NATS_API_PREFIX``).
        consumer_names: names that its consumers may have (``ATTUNE_RULES_CONSUMERS``); empty for any.
        table: the state to keep.
        on_changes: called with what changed; must not block.
        on_snapshot: called each time the state was read completely, after ``on_changes``.
        metrics: where resyncs are counted.
        log: a structlog logger.
        resync_seconds: how often everything is read again, before jitter.
        heartbeat_seconds: how often an idle consumer must show that it lives.
        absence_seconds: for how long a rule must be absent, without a tombstone, to count as deleted.
        chance: random numbers in [0, 1), for jitter.
    """

    def __init__(
        self,
        *,
        connector: NatsConnector,
        filter_subject: str,
        api_prefix: str = subjects.PLAIN_API,
        consumer_names: tuple[str, ...] = (),
        table: RuleTable,
        on_changes: Callable[[list[RuleChange]], None],
        on_snapshot: Callable[[], None],
        metrics: Metrics,
        log: Any,
        resync_seconds: float = 300.0,
        heartbeat_seconds: float = 2.0,
        absence_seconds: float = 15.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._connector = connector
        self._filter = filter_subject
        self._api = api_prefix
        self._consumer_names = consumer_names
        self._table = table
        self._on_changes = on_changes
        self._on_snapshot = on_snapshot
        self._metrics = metrics
        self._log = log
        self._resync_seconds = resync_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._absence_seconds = absence_seconds
        self._chance = chance
        self._outage = Outage(log=log, name="rule_stream")

    async def run(self) -> None:
        """Read until cancelled."""
        retries = _RETRY.start(chance=self._chance)
        failures = 0
        while True:
            connection = await self._connector.wait_connected()
            reading = _Reading(self)
            reader = LastPerSubjectReader(
                connection=connection,
                stream=subjects.RULES_STREAM,
                subject=self._filter,
                on_message=reading.take,
                on_caught_up=reading.complete,
                heartbeat=self._heartbeat_seconds,
                api=self._api,
                consumer_names=self._free_first(),
            )
            reason = "failed"
            try:
                await reader.start()
                failures = 0
                await self._until_due(reader)
                reason = "period"
            except ReaderLostError as error:
                reason = error.reason
            except StreamUnavailableError as error:
                failures = 0
                text = f"{error}; the operator creates the stream when it starts"
                self._outage.failed("stream", text, subject=self._filter)
            except (nats.errors.Error, OSError, ValueError, msgspec.MsgspecError) as error:
                failures += 1
                self._outage.failed(type(error).__name__, str(error) or type(error).__name__, subject=self._filter)
            finally:
                await reader.stop()
            if failures >= _DISTRUST_AFTER:
                failures = 0
                self._connector.reconnect("it does not answer requests")
            if reader.caught_up:
                retries.reset()
                self._metrics.resyncs.labels(reason).inc()
                self._log.log(20 if reason == "period" else 30, "rules_resync", reason=reason)
                if reason in ("period", "reconnect"):
                    continue
            await asyncio.sleep(retries.next_delay())

    def _free_first(self) -> tuple[str, ...]:
        """The names in random order: replicas that start together rarely ask for the same one."""
        names = list(self._consumer_names)
        return tuple(names.pop(int(self._chance() * len(names))) for _ in self._consumer_names)

    async def _until_due(self, reader: LastPerSubjectReader) -> None:
        """Return when it is time to read everything again.

        Raises:
            ReaderLostError: there is another reason to do so.
        """
        due = time.monotonic() + spread(self._resync_seconds, chance=self._chance())
        absent = time.monotonic() + self._absence_seconds
        await reader.wait_caught_up()
        while (left := (min(due, absent) if self._table.missing else due) - time.monotonic()) > 0:
            await reader.wait(left)

    # What a reading reports.

    def _swap(self, rules: dict[str, Rule], *, tombstones: dict[str, int | None], unreadable: set[str]) -> None:
        changes = self._table.replace(
            rules, now=time.monotonic(), patience=self._absence_seconds, tombstones=tombstones, unreadable=unreadable
        )
        self._outage.recovered()
        self._metrics.snapshot_taken.set_to_current_time()
        missing = self._table.missing
        self._log.info("rules_snapshot_taken", rules=len(self._table), changed=len(changes), kept_though_absent=missing)
        if changes:
            self._on_changes(changes)
        self._on_snapshot()

    def _live(self, change: RuleChange | None) -> None:
        if change is not None:
            self._on_changes([change])

    def _malformed(self, subject: str, error: str) -> None:
        self._metrics.malformed_rules.inc()
        self._log.warning("rule_message_malformed", subject=subject, error=error)


class _Reading:
    """One snapshot, then what follows it."""

    def __init__(self, reader: RuleReader) -> None:
        self._reader = reader
        self._complete = False
        self._rules: dict[str, Rule] = {}
        self._tombstones: dict[str, int | None] = {}  # the generation that the tombstone carries
        self._unreadable: set[str] = set()

    def complete(self) -> None:
        """The snapshot is over."""
        self._complete = True
        rules, self._rules = self._rules, {}
        self._reader._swap(rules, tombstones=self._tombstones, unreadable=self._unreadable)

    def take(self, message: StreamMessage) -> None:
        """A message of the stream, in its order."""
        uid = message.subject.rpartition(".")[2]
        headers = message.headers
        gone = is_tombstone(headers) or (headers is not None and "Nats-Marker-Reason" in headers)
        state = None
        try:
            state = decode_rule(message.data)
            if state.uid != uid:
                raise InvalidMessageError(f"the body is about rule {state.uid!r}, the subject about {uid!r}")
        except InvalidMessageError as error:
            if not gone:
                self._unreadable.add(uid)
                self._reader._malformed(message.subject, str(error))
                return
            state = None  # a tombstone is understood without its body
        if self._complete:
            table = self._reader._table
            if gone:
                self._reader._live(table.remove(uid, state))
            elif state is not None:
                self._reader._live(table.put(Rule(state=state, since_us=message.stored_ns // 1000)))
            return
        self._unreadable.discard(uid)
        if gone:
            self._rules.pop(uid, None)
            self._tombstones[uid] = None if state is None else state.generation
        elif state is not None:
            self._rules[uid] = Rule(state=state, since_us=message.stored_ns // 1000)
            self._tombstones.pop(uid, None)
