"""Reads the rule stream: a snapshot, then what follows, again and again (design, "The rule stream", "Reader").

Each reading has a push consumer of its own, under a fresh name, that the server drops when its subscription is gone. nats-py's
ordered consumer is not used: across a stream that was deleted and made again it resumes at the old sequence and loses messages.

It needs few rights: creating a consumer whose filter stands in the request's subject, answering flow
control, and an inbox.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import nats.errors

from attune_contract import subjects
from attune_contract.messages import InvalidMessage, decode_rule, is_tombstone
from attune_sensor.backoff import Backoff
from attune_sensor.connection import NatsConnection
from attune_sensor.metrics import Metrics
from attune_sensor.outage import Outage
from attune_sensor.rule_table import RuleChange, RuleTable
from attune_sensor.rules import Rule

_RETRY: Final = Backoff(initial=0.1, maximum=2.0)
_REQUEST_TIMEOUT: Final = 5.0
#: Failed requests on a connection that looks alive, after which a new one is made.
_DISTRUST_AFTER: Final = 3
#: Without progress for so long (seconds), a snapshot is begun anew.
_SNAPSHOT_STALL: Final = 30.0

_CREATED = msgspec.json.Decoder(dict[str, Any])


class StreamUnavailable(Exception):  # noqa: N818 - a state, not a fault of the program
    """The stream is not there yet, or JetStream cannot serve it now."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What JetStream says about a message, in its reply subject (ADR-15)."""

    consumer_sequence: int
    pending: int
    stored_us: int  #: when the message was stored: microseconds, Unix time

    @classmethod
    def parse(cls, reply: str) -> "Delivery":
        """Read ``$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>``.

        Raises:
            ValueError: it is something else.
        """
        tokens = reply.split(".")
        # With a domain there are two more tokens in front, and a random one may follow.
        first = 2 if len(tokens) == 9 else 4
        if len(tokens) < 9 or tokens[:2] != ["$JS", "ACK"]:
            raise ValueError(f"{reply!r} is not a JetStream delivery")
        return cls(int(tokens[first + 4]), int(tokens[first + 6]), int(tokens[first + 5]) // 1000)


class RuleReader:
    """Keeps a :class:`RuleTable` equal to the stream.

    Args:
        connection: the connection to NATS.
        filter_subject: which rules to read (``ATTUNE_RULES_SUBJECT``).
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
        connection: NatsConnection,
        filter_subject: str,
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
        self._connection = connection
        self._filter = filter_subject
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
        self._session: _Session | None = None
        connection.on_connected(self._reconnected)

    async def run(self) -> None:
        """Read until cancelled."""
        attempt = failures = 0
        while True:
            client = await self._connection.wait_connected()
            session = _Session(reader=self, client=client)
            self._session = session
            reason = "failed"
            try:
                await session.open()
                failures = 0
                reason = await self._follow(session)
            except StreamUnavailable as error:
                failures = 0
                self._outage.failed("stream", str(error), subject=self._filter)
            except (nats.errors.Error, OSError, ValueError, msgspec.MsgspecError) as error:
                failures += 1
                self._outage.failed(type(error).__name__, str(error) or type(error).__name__, subject=self._filter)
            finally:
                self._session = None
                await session.close()
            if failures >= _DISTRUST_AFTER:
                failures = 0
                await self._connection.reconnect()
            if session.complete:
                attempt = 0
                self._metrics.resyncs.labels(reason).inc()
                self._log.log(20 if reason == "period" else 30, "rules_resync", reason=reason)
                if reason in ("period", "reconnect"):
                    continue
            attempt += 1
            await asyncio.sleep(_RETRY.delay(attempt=attempt, chance=self._chance()))

    async def _follow(self, session: "_Session") -> str:
        """Wait until the session must end; returns why."""
        period = self._resync_seconds * (0.9 + 0.2 * self._chance())
        began = time.monotonic()
        silence = 2.5 * self._heartbeat_seconds
        while True:
            now = time.monotonic()
            # The heartbeats tell that the consumer lives, only messages tell that a snapshot makes progress.
            due = min(session.last_sign + silence, began + period)
            if session.complete and self._table.missing:
                due = min(due, began + self._absence_seconds)
            if not session.complete:
                due = min(due, session.last_message + _SNAPSHOT_STALL)
            if now >= due:
                if now >= session.last_sign + silence:
                    return "heartbeats missed"
                return "period" if session.complete else "snapshot stalled"
            try:
                async with asyncio.timeout(due - now):
                    return await session.ended()
            except TimeoutError:
                continue

    def _reconnected(self) -> None:
        if self._session is not None:
            self._session.end("reconnect")

    # What sessions report.

    def _swap(self, rules: dict[str, Rule], *, buried: dict[str, int | None], unreadable: set[str]) -> None:
        changes = self._table.replace(
            rules, now=time.monotonic(), patience=self._absence_seconds, buried=buried, unreadable=unreadable
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


class _Session:
    """One consumer: its snapshot, then what follows."""

    def __init__(self, *, reader: RuleReader, client: Any) -> None:
        self._reader = reader
        self._client = client
        self._subscription: Any = None
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._received = 0  # the consumer's sequence of the last message
        self._rules: dict[str, Rule] = {}
        self._buried: dict[str, int | None] = {}  # the generation that the tombstone carries
        self._unreadable: set[str] = set()
        self.complete = False
        self.last_sign = self.last_message = time.monotonic()

    async def open(self) -> None:
        """Subscribe and have the consumer made.

        Raises:
            StreamUnavailable: there is no stream, or no JetStream, now.
            nats.errors.Error: the connection was lost, or the request was not answered or not allowed.
        """
        inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(inbox, cb=self._on_message)
        name = f"rules-{inbox.rpartition('.')[2]}"
        filter_subject = self._reader._filter
        config = {
            "name": name,
            "deliver_subject": inbox,
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subject": filter_subject,
            "flow_control": True,
            "idle_heartbeat": int(self._reader._heartbeat_seconds * 1e9),
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
        }
        stream = subjects.RULES_STREAM
        body = msgspec.json.encode({"stream_name": stream, "config": config, "action": "create"})
        try:
            reply = await self._client.request(
                f"$JS.API.CONSUMER.CREATE.{stream}.{name}.{filter_subject}", body, timeout=_REQUEST_TIMEOUT
            )
        except nats.errors.NoRespondersError as error:
            raise StreamUnavailable("JetStream does not answer; is it enabled, and are its servers up?") from error
        except nats.errors.TimeoutError as error:
            raise nats.errors.Error(
                f"NATS did not answer the request for a consumer of {stream} within {_REQUEST_TIMEOUT:g} s; it may be "
                "overloaded, or the credentials do not allow this filter"
            ) from error
        answer = _CREATED.decode(reply.data)
        if "error" in answer:
            description = answer["error"].get("description", "unknown error")
            raise StreamUnavailable(f"{stream}: {description}; the operator makes the stream when it starts")
        if answer.get("num_pending", 0) == 0:
            self._completed()

    async def close(self) -> None:
        """Stop receiving. The server drops the consumer by itself; deleting it is not among a sensor's rights."""
        self.end("closed")
        if self._subscription is None or self._client.is_closed:
            return
        # When the connection is gone, so is the subscription.
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._subscription.unsubscribe()

    def end(self, reason: str) -> None:
        """Have the session ended; what arrives afterwards is ignored."""
        if not self._end.done():
            self._end.set_result(reason)

    async def ended(self) -> str:
        """Wait for the end; returns the reason."""
        return await asyncio.shield(self._end)

    def _completed(self) -> None:
        if not self.complete:
            self.complete = True
            rules, self._rules = self._rules, {}
            self._reader._swap(rules, buried=self._buried, unreadable=self._unreadable)

    async def _on_message(self, message: Any) -> None:
        if self._end.done():
            return
        self.last_sign = time.monotonic()
        headers = message.headers
        if headers is not None and "Status" in headers:
            await self._on_status(message, headers)
            return
        self.last_message = self.last_sign
        try:
            delivery = Delivery.parse(message.reply)
        except ValueError as error:
            self._reader._malformed(message.subject, str(error))
            return
        if delivery.consumer_sequence != self._received + 1:
            self.end("gap")
            return
        self._received += 1
        self._take(message, delivery)
        if delivery.pending == 0:
            self._completed()

    async def _on_status(self, message: Any, headers: dict[str, str]) -> None:
        """Heartbeats and flow control (NATS ADR-9)."""
        if headers["Status"] != "100":
            # The consumer was deleted, or the server that led it is going away.
            self.end(headers.get("Description") or f"status {headers['Status']}")
            return
        if message.reply:
            # Flow control. Messages are taken in order, so that all before this one have been taken.
            await self._client.publish(message.reply)
            return
        stalled = headers.get("Nats-Consumer-Stalled")
        if stalled:
            await self._client.publish(stalled)
            return
        last = headers.get("Nats-Last-Consumer", "")
        if last.isdigit() and int(last) != self._received:
            self.end("gap")
        else:
            # The consumer is idle, so the snapshot is over, even if its last message was deleted meanwhile.
            self._completed()

    def _take(self, message: Any, delivery: Delivery) -> None:
        uid = message.subject.rpartition(".")[2]
        headers = message.headers
        gone = is_tombstone(headers) or (headers is not None and "Nats-Marker-Reason" in headers)
        state = None
        try:
            state = decode_rule(message.data)
            if state.uid != uid:
                raise InvalidMessage(f"the body is about rule {state.uid!r}, the subject about {uid!r}")
        except InvalidMessage as error:
            if not gone:
                self._unreadable.add(uid)
                self._reader._malformed(message.subject, str(error))
                return
            state = None  # a tombstone is understood without its body
        if self.complete:
            table = self._reader._table
            if gone:
                self._reader._live(table.bury(uid, state))
            elif state is not None:
                self._reader._live(table.put(Rule(state=state, since_us=delivery.stored_us)))
            return
        self._unreadable.discard(uid)
        if gone:
            self._rules.pop(uid, None)
            self._buried[uid] = None if state is None else state.generation
        elif state is not None:
            self._rules[uid] = Rule(state=state, since_us=delivery.stored_us)
            self._buried.pop(uid, None)
