"""For tests of sensors: runs a sensor with rules that the test makes and an API that keeps the events, with no server.

    async with SensorHarness(sensor.handler, trigger_types=["acme.queue"]) as harness:
        rule = harness.apply("acme.queue", {"name": "jobs"})
        await harness.wait_for(rule, AckState.ACTIVE)
        event = await harness.next_event()

The handler, the supervision of rules and the delivery of events are the real ones; only NATS and the API are not there.
"""

import asyncio
import heapq
import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog

from attune_contract.events import EventReport
from attune_contract.identity import SensorRef
from attune_contract.messages import AckState, RuleState
from attune_kit.backoff import Backoff
from attune_kit.supervisor import end
from attune_sensor._api_client import Accepted, EventResult, Outcome, Unavailable
from attune_sensor._clock import Clock, SystemClock
from attune_sensor._context import SensorContext
from attune_sensor._emitter import Emitter
from attune_sensor._last_events import LastEvent, LastEvents
from attune_sensor._metrics import Metrics
from attune_sensor._outcomes import Outcomes
from attune_sensor._rule_supervisor import RuleSupervisor
from attune_sensor._rule_table import RuleTable
from attune_sensor._rules import Rule, RuleHandler
from attune_sensor._settings import SensorSettings
from attune_sensor._source_events import RuleMemory, SourceEvents
from attune_sensor._spool import Spool

__all__ = ["FakeApi", "FakeClock", "SensorHarness"]

_DECODER = msgspec.json.Decoder(EventReport)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPOOL_BYTES = 16 * 1024 * 1024
#: Turns of the event loop that a woken function has before the clock moves on.
_TURNS = 50


class FakeClock:
    """A clock that stands until the test moves it (:class:`attune_sensor._clock.Clock`).

    Give it to :class:`SensorHarness`, and ``Trigger.now`` and ``Trigger.sleep`` go by it; or pass it where a handler
    takes a function that returns microseconds since 1970.

    Args:
        time: where it begins, with a zone.

    Attributes:
        time: the time; set it to make the clock jump without waking sleepers.
    """

    def __init__(self, time: datetime) -> None:
        self.time = time
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._number = itertools.count()
        self._slept = asyncio.Event()

    def __call__(self) -> int:
        """The time in microseconds since 1970."""
        return (self.time - _EPOCH) // timedelta(microseconds=1)

    def now(self) -> datetime:
        """The time."""
        return self.time

    async def sleep(self, seconds: float) -> None:
        """Return when the test has moved the clock so far."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + timedelta(seconds=seconds), next(self._number), future))
        self._slept.set()
        await future

    async def wait_for_sleeper(self, *, within: float = 120.0) -> None:
        """Wait until a function sleeps by this clock.

        Raises:
            TimeoutError: none does.
        """
        async with asyncio.timeout(within):
            while not any(not future.done() for _, _, future in self._sleepers):
                self._slept.clear()
                await self._slept.wait()

    async def advance(self, by: timedelta) -> None:
        """Move the clock on. Each sleeper that is due is woken at its time, and runs until it sleeps again or waits."""
        target = self.time + by
        while self._sleepers and self._sleepers[0][0] <= target:
            at, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue  # it was cancelled
            self.time = max(self.time, at)
            future.set_result(None)
            await _let_others_run()
        self.time = target
        await _let_others_run()


async def _let_others_run() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class FakeApi:
    """Keeps each event once, by its id, in the order in which they came.

    Attributes:
        available: set it to False to have the API away.
        refuse: returns why an event is refused, or None.
        states: what sensors remember of rules, by the rule's uid.
    """

    def __init__(self) -> None:
        self.states: dict[str, RuleMemory] = {}
        self.events: list[EventReport] = []
        self.available = True
        self.refuse: Callable[[EventReport], str | None] = lambda _event: None
        self._ids: set[uuid.UUID] = set()
        self._arrived = asyncio.Condition()

    async def post(self, events: Sequence[bytes]) -> Outcome:
        """Take events, as the API does."""
        if not self.available:
            return Unavailable("connection", "the test says so")
        results = []
        for body in events:
            try:
                event = _DECODER.decode(body)
            except msgspec.ValidationError as error:
                results.append(EventResult("refused", None, str(error)))
                continue
            reason = self.refuse(event)
            if reason is not None:
                results.append(EventResult("refused", str(event.id), reason))
            elif event.id in self._ids:
                results.append(EventResult("duplicate", str(event.id)))
            else:
                self._ids.add(event.id)
                self.events.append(event)
                results.append(EventResult("stored", str(event.id)))
        async with self._arrived:
            self._arrived.notify_all()
        return Accepted(results)

    async def last_events(self, rule_uids: list[str]) -> list[LastEvent] | str:
        """The event of each rule that was stored last, as the API answers."""
        if not self.available:
            return "the test says so"
        wanted = set(rule_uids)
        last = {event.rule_uid: event for event in self.events if event.rule_uid in wanted}
        return [LastEvent(rule_uid=uid, id=event.id, occurred_at=event.occurred_at) for uid, event in last.items()]

    async def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes] | str:
        """Any other request. It keeps states of rules (:class:`attune_sensor.RuleStore`); make a class of it that has more."""
        if not self.available:
            return "the test says so"
        before, _, uid = path.rpartition("/")
        if before != "/api/v1/sensor/states":
            return 404, b""
        known = self.states.get(uid)
        match method:
            case "GET":
                return (404, b"") if known is None else (200, msgspec.json.encode(known))
            case "PUT":
                given = msgspec.json.decode(body or b"", type=RuleMemory)
                if known is not None and (given.generation, given.position) < (known.generation, known.position):
                    return 409, b""
                self.states[uid] = given
            case "DELETE":
                self.states.pop(uid, None)
        return 200, b"{}"

    async def wait_for(self, number: int, *, within: float) -> None:
        """Wait until there are so many events."""
        async with asyncio.timeout(within), self._arrived:
            await self._arrived.wait_for(lambda: len(self.events) >= number)


class _Acks:
    """Keeps the latest ack of each rule."""

    def __init__(self) -> None:
        self.latest: dict[str, tuple[int, AckState, str]] = {}
        self.next_at: dict[str, datetime | None] = {}
        self.changed = asyncio.Event()

    def publish(self, rule: Rule, state: AckState, message: str = "", next_at: datetime | None = None) -> None:
        self.latest[rule.uid] = (rule.generation, state, message)
        self.next_at[rule.uid] = next_at
        self.changed.set()

    def forget(self, uid: str) -> None:
        self.latest.pop(uid, None)
        self.changed.set()


class SensorHarness:
    """A sensor under test, as an async context manager.

    Args:
        handler: makes what runs the rules, :meth:`attune_sensor.Sensor.handler` for instance.
        trigger_types: what the sensor provides.
        config: the Sensor's free-form configuration.
        settings: fields of :class:`attune_sensor.SensorSettings` that matter to the sensor, such as ``ports``.
        api: where events arrive; give the one of an earlier harness to test a restart.
        clock: the time for ``Trigger.now`` and ``Trigger.sleep``; the machine's unless given.
        spool: a folder for events while the API is away; without one they wait in memory.

    Attributes:
        api: where events arrive.
        metrics: what the sensor counts.
    """

    def __init__(
        self,
        handler: Callable[[SensorContext], RuleHandler],
        *,
        trigger_types: Iterable[str],
        config: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        api: FakeApi | None = None,
        clock: Clock | None = None,
        spool: Path | None = None,
    ) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self.api = FakeApi() if api is None else api
        self._taken = len(self.api.events)
        self._table = RuleTable()
        self._acks = _Acks()
        metrics = self.metrics = Metrics()
        log = structlog.get_logger("attune_sensor")
        usual: dict[str, Any] = {
            "sensor": SensorRef("default", "under-test"),
            "trigger_types": tuple(trigger_types),
            "api_url": "http://api.invalid",
            "token_file": Path("token"),
            "nats_url": "nats://nats.invalid",
            "rules_subject": "",
            "acks_subject": "",
            "instance": "test",
            "nats_inbox_prefix": "",
        }
        given = SensorSettings(**{**usual, **(settings or {})})
        outcomes = Outcomes(clock=time.monotonic)
        self._emitter = Emitter(
            outcomes=outcomes,
            api=self.api,
            spool=None if spool is None else Spool(directory=spool, max_bytes=_SPOOL_BYTES),
            metrics=metrics,
            log=log,
            retry=Backoff(initial=0.01, maximum=0.05),
        )
        context = SensorContext(
            settings=given,
            config=config or {},
            log=log,
            metrics=metrics,
            emitter=self._emitter,
            last_events=LastEvents(api=self.api, log=log, retry=Backoff(initial=0.01, maximum=0.05)),
            source_events=SourceEvents(self.api),
            clock=self._clock,
            outcomes=outcomes,
        )
        self._supervisor = RuleSupervisor(
            outcomes=outcomes,
            handler=handler(context),
            acks=self._acks,
            trigger_types=given.trigger_types,
            metrics=metrics,
            log=log,
            retry=Backoff(initial=0.01, maximum=0.05),
        )
        context.attach(self._supervisor)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._emitter.run()), asyncio.create_task(self._supervisor.run())]
        return self

    async def __aexit__(self, *_error: object) -> None:
        delivery, supervision = self._tasks
        await end(supervision)
        await self._supervisor.close()
        await self._emitter.close(run=delivery, grace_seconds=1 if self.api.available else 0)

    def apply(
        self,
        trigger_type: str,
        parameters: dict[str, Any],
        *,
        name: str = "rule",
        namespace: str = "default",
        enabled: bool = True,
        created_at: datetime | None = None,
        since: datetime | None = None,
    ) -> Rule:
        """Make a rule, or change the one of this name, as ``kubectl apply`` would; returns it.

        Args:
            trigger_type: the canonical trigger type.
            parameters: the trigger's parameters.
            name: which rule.
            namespace: the rule's namespace.
            enabled: whether it is to fire.
            created_at: when it was created; now, or as before, unless given.
            since: since when it has been as it is; now unless given.
        """
        uid = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
        known = self._table.get(uid)
        now = self._clock.now()
        state = RuleState(
            uid=uid,
            namespace=namespace,
            name=name,
            generation=1 if known is None else known.generation + 1,
            enabled=enabled,
            trigger_type=trigger_type,
            parameters=parameters,
            created_at=created_at or (known.created_at if known is not None else now),
        )
        rule = Rule(state=state, since_us=((since or now) - _EPOCH) // timedelta(microseconds=1))
        change = self._table.put(rule)
        if change is not None:
            self._supervisor.apply([change])
        return rule

    def delete(self, rule: Rule) -> None:
        """Delete a rule."""
        change = self._table.remove(rule.uid, None)
        if change is not None:
            self._supervisor.apply([change])

    @property
    def undelivered(self) -> int:
        """Events that the sensor reported and the API has not stored yet."""
        return self._emitter.waiting

    def message(self, rule: Rule) -> str:
        """The message of the rule's latest ack, in any state; empty when there is none."""
        ack = self._acks.latest.get(rule.uid)
        return "" if ack is None else ack[2]

    def next_at(self, rule: Rule) -> datetime | None:
        """When the rule's next occurrence is due, as its latest ack says; None if it does not."""
        return self._acks.next_at.get(rule.uid)

    async def wait_for(self, rule: Rule, state: AckState, *, within: float = 120.0) -> str:
        """Wait until the rule as it is now is acked with this state; returns the message.

        Raises:
            TimeoutError: it did not.
        """
        async with asyncio.timeout(within):
            while True:
                ack = self._acks.latest.get(rule.uid)
                if ack is not None and ack[:2] == (rule.generation, state):
                    return ack[2]
                self._acks.changed.clear()
                await self._acks.changed.wait()

    async def next_event(self, *, within: float = 120.0) -> EventReport:
        """The next event that the API stored.

        Raises:
            TimeoutError: none came.
        """
        await self.api.wait_for(self._taken + 1, within=within)
        self._taken += 1
        return self.api.events[self._taken - 1]
