"""The Rule side as a whole: what was seen goes in, and the rule stream and the Rules' statuses follow.

The way of a change: an observer here, or ``SessionRunner._receive_ack``, stores it in the cache and enqueues the Rule;
``RuleController.reconcile`` takes the Rule from the queue; ``Projector.project`` writes the rule stream and
``Statuses.update`` the conditions.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from attune_contract.identity import SensorRef
from attune_kit.backoff import Backoff
from attune_kit.nats.connection import NatsEndpoint, NatsUnavailableError
from attune_operator.rules import metrics
from attune_operator.rules.cache import RuleCache
from attune_operator.rules.controller import RuleController, rule_queue
from attune_operator.rules.expressions import ExpressionChecks
from attune_operator.rules.history import HistoryLog
from attune_operator.rules.options import RulesOptions
from attune_operator.rules.records import (
    InvalidObjectError,
    RunCounts,
    is_deleting,
    object_uid,
    parse_namespace,
    parse_rule,
    parse_sensor,
)
from attune_operator.rules.session import Session, SessionRunner
from attune_operator.rules.statuses import Statuses
from attune_operator.rules.summaries import Summaries
from attune_operator.rules.sweeper import Sweeper
from attune_operator.runtime.client import Body, WatchEventType
from attune_operator.runtime.cluster import RuleCluster
from attune_operator.runtime.queue import PriorityQueue
from attune_operator.runtime.views import RuleSummary, SensorRuntime, SummaryListener

_log = structlog.stdlib.get_logger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class RuleSide:
    """Keeps the rule stream and the Rules' statuses what Kubernetes and the sensors say.

    The observers are cheap and never block.

    Args:
        cluster: lists, status writes and Events.
        nats_url: the servers, comma-separated.
        nats_creds_file: our NATS user, read for each connection; None: the server accepts everybody.
        nats_ca_file: certificates (PEM) that the server's is checked against; None: the system's.
        on_summary_changed: called with the Sensors whose :meth:`summary` may have changed.
        options: times and rates.
        clock: returns the present time.
        rng: for jitter.
    """

    def __init__(
        self,
        *,
        cluster: RuleCluster,
        nats_url: str,
        nats_creds_file: Path | None = None,
        nats_ca_file: Path | None = None,
        on_summary_changed: SummaryListener = lambda ref: None,
        options: RulesOptions | None = None,
        clock: Callable[[], datetime] = _utc_now,
        rng: random.Random | None = None,
    ) -> None:
        options = options or RulesOptions()
        rng = rng or random.Random()  # noqa: S311 - jitter
        self._options = options
        self._rng = rng
        self._cache = cache = RuleCache(
            believe_own_write=options.believe_own_write,
            trusted=options.trusted_namespaces,
            sensor_namespaces=options.sensor_namespaces,
            quotas=options.quotas,
        )
        self._queue = queue = rule_queue()
        conditions: PriorityQueue[str] = PriorityQueue(yields_to=queue)
        self._summaries = summaries = Summaries(
            cache=cache, queues=(queue, conditions), listener=on_summary_changed, interval=options.summary_interval
        )
        self._statuses = statuses = Statuses(
            cluster=cluster,
            cache=cache,
            queue=conditions,
            rules=queue,
            summaries=summaries,
            options=options,
            clock=clock,
        )
        self._sweeper = sweeper = Sweeper(cluster=cluster, cache=cache, queue=queue, options=options, rng=rng)
        self._expressions = expressions = ExpressionChecks(cache=cache, on_checked=conditions.enqueue)
        self._controller = RuleController(
            cache=cache,
            queue=queue,
            sweeper=sweeper,
            statuses=statuses,
            summaries=summaries,
            expressions=expressions,
        )
        self._history = HistoryLog()
        self._runner = SessionRunner(
            endpoint=NatsEndpoint(url=nats_url, creds_file=nats_creds_file, ca_file=nats_ca_file),
            options=options,
            cache=cache,
            queue=queue,
            sweeper=sweeper,
            statuses=statuses,
            summaries=summaries,
            history=self._history,
            clock=clock,
            rng=rng,
        )

    # -- what is seen

    def observe_rule(self, kind: WatchEventType, body: Body) -> None:
        """A Rule was seen, changed or deleted."""
        now = asyncio.get_running_loop().time()
        if kind == "DELETED" or is_deleting(body):
            # A Rule that only waits for its finalizers is over: it must not fire any more.
            affected = self._cache.delete_rule(object_uid(body))
        else:
            try:
                affected = self._cache.put_rule(parse_rule(body), now=now)
            except InvalidObjectError as error:
                _log.warning("rule_unreadable", error=str(error))
                return
        awaited = kind is not None  # a list shows nothing that somebody waits for
        for uid in affected:
            if awaited:
                self._cache.entry(uid).changed_at = now
            self._queue.enqueue(uid, urgent=awaited)

    def observe_sensor(self, kind: WatchEventType, body: Body) -> None:
        """A Sensor was seen, changed or deleted."""
        try:
            record = parse_sensor(body)
        except InvalidObjectError as error:
            _log.warning("sensor_unreadable", error=str(error))
            return
        if kind == "DELETED" or is_deleting(body):
            affected = self._cache.delete_sensor(record.ref, record.uid)
            if record.ref not in self._cache.sensors:
                self._summaries.forget(record.ref)
        else:
            affected = self._cache.put_sensor(record)
        self._summaries.changed({record.ref})
        self._queue.enqueue_all(affected)

    def observe_namespace(self, kind: WatchEventType, body: Body) -> None:
        """A namespace was seen, changed or deleted."""
        try:
            record = parse_namespace(body)
        except InvalidObjectError as error:
            _log.warning("namespace_unreadable", error=str(error))
            return
        if kind == "DELETED":
            self._queue.enqueue_all(self._cache.delete_namespace(record.name, record.uid))
        else:
            self._queue.enqueue_all(self._cache.put_namespace(record))

    def request_list(self) -> None:
        """Something may have happened unseen: list everything soon."""
        self._sweeper.request()

    def forget_namespace(self, namespace: str) -> None:
        """Another installation looks after the namespace now: take its Rules off the stream, and list its Sensors no more."""
        self._queue.enqueue_all(self._cache.forget_rules(namespace))
        self._sweeper.request()

    def observe_runs(self, uid: str, counts: RunCounts) -> None:
        """A Rule's runs have changed."""
        self._statuses.see_runs(uid, counts)

    def observe_runtime(self, ref: SensorRef, runtime: SensorRuntime) -> None:
        """A Sensor's pods became ready or stopped being so."""
        if self._summaries.see_runtime(ref, runtime):
            self._queue.enqueue_all(self._summaries.bound(ref))

    # -- what is known

    def summary(self, ref: SensorRef) -> RuleSummary:
        """What is known about a Sensor's Rules now."""
        return self._summaries.summary(ref)

    @property
    def connected(self) -> bool:
        """Whether the rule stream is read and written now."""
        return self._cache.stream.connected

    @property
    def live_messages(self) -> int:
        """How many rules the rule stream holds now, as far as is known; 0 without a connection."""
        return self._cache.stream.live if self.connected else 0

    @property
    def contested(self) -> set[str]:
        """The names of the Rules whose place on the stream is contested (their uids, where no Rule is known)."""
        rules = ((uid, self._cache.rules.get(uid)) for uid in self._cache.stream.contested)
        return {uid if entry is None or entry.rule is None else entry.rule.name for uid, entry in rules}

    # -- work

    async def run(self) -> None:
        """Work until cancelled. Anything else that ends it is a defect, and ends the process."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._controller.run(), name="rules-reconcile")
            group.create_task(self._sweeper.run(), name="rules-sweep")
            group.create_task(self._expressions.run(), name="rules-expressions")
            group.create_task(self._sessions(), name="rules-sessions")
            group.create_task(self._statuses.run(), name="rules-statuses")
            group.create_task(self._summaries.run(), name="rules-summaries")

    async def _sessions(self) -> None:
        retries = Backoff(initial=0.25, maximum=self._options.backoff_limit).start(chance=self._rng.random)
        while True:
            try:
                async with self._runner.open() as session:
                    _log.info("rule_stream_ready", messages=self._cache.stream.live)
                    retries.reset()
                    self._connected(session)
                    await asyncio.Event().wait()  # until something fails
            except NatsUnavailableError as error:
                if str(error) != self._cache.stream.outage:
                    _log.warning("rule_stream_unavailable", reason=str(error))
                self._cache.stream.outage = str(error)
            finally:
                self._controller.projector = self._controller.actions = None
                self._cache.stream.connected = False
                metrics.CONNECTED.set(0)
            self._summaries.disconnected()
            self._queue.enqueue_all(self._cache.rules)
            await asyncio.sleep(retries.next_delay())

    def _connected(self, session: Session) -> None:
        self._controller.projector, self._controller.actions = session
        self._cache.stream.connected, self._cache.stream.outage = True, ""
        metrics.SESSIONS.inc()
        metrics.CONNECTED.set(1)
        self._summaries.connected()
        self._runner.compare_all()
