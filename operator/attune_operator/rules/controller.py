"""The Rule side as a whole: what was seen goes in, and the rule stream and the Rules' statuses follow.

One loop looks at one Rule at a time and brings everything about it to what it should be; what it does depends on how things
are and never on what just happened. Whatever happens, therefore, only marks Rules to be looked at (again): a watch event, a
list, an ack, an answer of NATS, a new connection.
"""

import asyncio
import random
import uuid as uuids
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from attune_contract.identity import SensorRef
from attune_contract.messages import RuleEventType, RuleState
from attune_contract.subjects import split_binding
from attune_kit.nats.connection import NatsEndpoint, NatsUnavailableError
from attune_operator.rules import rule_metrics as metrics
from attune_operator.rules.acks import AckEntry, stale_acks
from attune_operator.rules.backoff import Backoff
from attune_operator.rules.decisions import decide
from attune_operator.rules.dirty import DirtySet
from attune_operator.rules.history import HistoryEntry, HistoryLog
from attune_operator.rules.inventory import Inventory, TrackedRule
from attune_operator.rules.options import RulesOptions
from attune_operator.rules.projection import Write
from attune_operator.rules.records import (
    InvalidObjectError,
    is_deleting,
    object_uid,
    parse_namespace,
    parse_rule,
    parse_sensor,
)
from attune_operator.rules.session import Session, SessionCallbacks, SessionRunner
from attune_operator.rules.statuses import Statuses
from attune_operator.rules.summaries import Summaries
from attune_operator.rules.sweeper import Sweeper
from attune_operator.rules.view import StreamView
from attune_operator.runtime.client import Body, WatchEventType
from attune_operator.runtime.cluster import RuleCluster
from attune_operator.runtime.views import RuleSummary, SensorRuntime, SummaryListener
from attune_operator.streams.publisher import ConnectionLostError

log = structlog.stdlib.get_logger(__name__)

#: Rules that are looked at before the loop lets others run.
_BATCH: Final = 32


def _utc_now() -> datetime:
    return datetime.now(UTC)


class RulesController:
    """Keeps the rule stream and the Rules' statuses what Kubernetes and the sensors say.

    Args:
        cluster: lists, status writes and Events.
        nats_url: the servers, comma-separated.
        nats_creds_file: our NATS user; None: the server takes anybody. Read again for each connection.
        nats_ca_file: certificates (PEM) that the server's is checked against; None: the system's.
        on_summary_changed: told the Sensors whose :meth:`summary` may be another one now.
        options: times and rates.
        clock: the present time.
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
        self._options = options or RulesOptions()
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._inventory = Inventory(believe_own_write=self._options.believe_own_write)
        self._dirty = DirtySet()
        self._retries: dict[str, Backoff] = {}
        self._changed_at: dict[str, float] = {}
        self._awaited_since: dict[str, float] = {}
        self._told_later: OrderedDict[str, None] = OrderedDict()
        self._history = HistoryLog()
        self._session: Session | None = None
        self._summaries = Summaries(
            inventory=self._inventory,
            listener=on_summary_changed,
            interval=self._options.summary_interval,
            settled=lambda: self._inventory.complete and not self._dirty and not self._told_later,
        )
        self._statuses = Statuses(
            cluster=cluster,
            inventory=self._inventory,
            summaries=self._summaries,
            options=self._options,
            clock=clock,
            calm=lambda: not self._dirty,
        )
        self._sweeper = Sweeper(
            cluster=cluster, inventory=self._inventory, options=self._options, swept=self._swept, rng=self._rng
        )
        self._runner = SessionRunner(
            endpoint=NatsEndpoint(url=nats_url, creds_file=nats_creds_file, ca_file=nats_ca_file),
            options=self._options,
            callbacks=SessionCallbacks(
                look_again=lambda uid: self._dirty.add(uid, urgent=uid in self._changed_at),
                published=self._published,
                contested=self._sweeper.request,
                view_replaced=self._view_replaced,
                acked=self._acked,
                health=self._summaries.hear,
                last_event=self._statuses.see_event,
                tick=lambda: self._inventory.tick,
                known=lambda uid: uid in self._inventory.rules or not self._inventory.complete,
                known_rules=lambda: len(self._inventory.rules),
                calm=lambda: not self._dirty,
            ),
            history=self._history,
            clock=clock,
            rng=self._rng,
        )

    # -- what others tell

    def observe_rule(self, kind: WatchEventType, body: Body) -> None:
        """A Rule was seen, changed or deleted."""
        now = asyncio.get_running_loop().time()
        if kind == "DELETED" or is_deleting(body):
            # A Rule that only waits for its finalizers is over: it must not fire any more.
            affected = self._inventory.drop_rule(object_uid(body))
        else:
            try:
                affected = self._inventory.see_rule(parse_rule(body), now=now)
            except InvalidObjectError as error:
                log.warning("rule_unreadable", error=str(error))
                return
        # What a listing brings (no kind) nobody waits for.
        self._dirty.update(affected, urgent=kind is not None)
        if kind is not None:
            self._changed_at.update(dict.fromkeys(affected, now))

    def observe_sensor(self, kind: WatchEventType, body: Body) -> None:
        """A Sensor was seen, changed or deleted."""
        try:
            record = parse_sensor(body)
        except InvalidObjectError as error:
            log.warning("sensor_unreadable", error=str(error))
            return
        if kind == "DELETED" or is_deleting(body):
            affected = self._inventory.drop_sensor(record.ref, record.uid)
            if record.ref not in self._inventory.sensors:
                self._summaries.forget(record.ref)
        else:
            affected = self._inventory.see_sensor(record)
        self._summaries.changed({record.ref})
        self._dirty.update(affected)

    def observe_namespace(self, kind: WatchEventType, body: Body) -> None:
        """A namespace was seen, changed or deleted."""
        try:
            name, labels = parse_namespace(body)
        except InvalidObjectError as error:
            log.warning("namespace_unreadable", error=str(error))
            return
        gone = kind == "DELETED"
        self._dirty.update(
            self._inventory.drop_namespace(name) if gone else self._inventory.see_namespace(name, labels)
        )

    def observe_runtime(self, ref: SensorRef, runtime: SensorRuntime) -> None:
        """A Sensor's pods became ready or stopped being so."""
        if self._summaries.see_runtime(ref, runtime):
            self._dirty.update(self._summaries.bound(ref))

    def summary(self, ref: SensorRef) -> RuleSummary:
        """What is known about a Sensor's Rules now."""
        return self._summaries.summary(ref)

    @property
    def live_messages(self) -> int:
        """How many rules the rule stream holds now, as far as is known; 0 without a connection."""
        return self._session.projector.view.live if self._session is not None else 0

    # -- the work

    async def run(self) -> None:
        """Work until cancelled. Anything else that ends it is a defect, and ends the process."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reconcile_forever(), name="rules-reconcile")
            group.create_task(self._sweeper.run(), name="rules-sweep")
            group.create_task(self._sessions(), name="rules-sessions")
            group.create_task(self._statuses.run(), name="rules-statuses")
            group.create_task(self._summaries.run(), name="rules-summaries")

    async def _sessions(self) -> None:
        backoff = Backoff(first=0.25, limit=self._options.backoff_limit, rng=self._rng)
        said = ""
        while True:
            try:
                async with self._runner.open() as (session, group):
                    log.info("rule_stream_ready", messages=session.projector.view.live, acks=len(session.acks))
                    said = ""
                    backoff.reset()
                    self._attach(session)
                    if session.acks_found_empty:
                        group.create_task(self._end_of_grace(), name="acks-grace")
                    await asyncio.Event().wait()  # whatever fails ends it
            except NatsUnavailableError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("rule_stream_unavailable", reason=said)
                self._summaries.disconnected(said)
            finally:
                self._session = self._statuses.session = None
                metrics.CONNECTED.set(0)
            self._dirty.update(self._inventory.rules)
            await asyncio.sleep(backoff.next())

    def _attach(self, session: Session) -> None:
        self._session = self._statuses.session = session
        metrics.SESSIONS.inc()
        metrics.CONNECTED.set(1)
        self._summaries.connected(session.projector)
        self._view_replaced(session.projector.view)

    def _view_replaced(self, view: StreamView) -> None:
        self._dirty.update(self._inventory.rules)
        self._dirty.update(view.uids())
        self._sweeper.request()

    async def _end_of_grace(self) -> None:
        await asyncio.sleep(self._options.acks_grace)
        self._dirty.update(self._inventory.rules)

    async def _reconcile_forever(self) -> None:
        # Before it, a Rule may be known and the Sensor that serves it not yet: it would be moved to another one, while its old
        # place is not ours to bury (``projection``), or be called unknown in its status.
        await self._sweeper.first_list.wait()
        done = 0
        while True:
            if not self._dirty and self._told_later:
                self._tell_statuses()
                await asyncio.sleep(0)
                continue
            await self._dirty.wait()
            taken = self._dirty.pop()
            if taken is not None:
                await self._try(*taken)
            done += 1
            if done % _BATCH == 0:
                await asyncio.sleep(0)

    async def _try(self, uid: str, urgent: bool) -> None:
        try:
            await self._reconcile(uid, urgent=urgent)
            self._retries.pop(uid, None)
        except ConnectionLostError:
            pass  # the session ends, and with the next one everything is looked at
        except Exception:
            self._failed(uid)

    def _failed(self, uid: str) -> None:
        """One Rule that cannot be handled must not stop the others."""
        metrics.ERRORS.inc()
        log.exception("rule_not_reconciled", rule_uid=uid)
        delay = self._retries.setdefault(uid, Backoff(first=1, limit=300, rng=self._rng)).next()
        asyncio.get_running_loop().call_later(delay, self._dirty.add, uid)

    async def _reconcile(self, uid: str, *, urgent: bool) -> None:
        inventory, session = self._inventory, self._session
        tracked = inventory.rules.get(uid)
        decision = None
        if tracked is not None:
            decision = decide(tracked.rule, inventory)
            tracked.acceptance = decision.acceptance
        if session is not None:
            await session.projector.project(
                uid,
                desired=decision.desired if decision is not None else None,
                generation=tracked.rule.generation if tracked is not None else None,
                listed=inventory.listed,
                confirmed_gone=tracked is None and inventory.was_deleted(uid),
            )
            if not session.projector.is_busy(uid):
                self._changed_at.pop(uid, None)  # nothing had to be published
        # The Rule may have gone while the projector waited for a slot.
        tracked = inventory.rules.get(uid)
        if tracked is not None and urgent:
            self._tell_status(uid, urgent=True)
        elif tracked is not None:
            self._told_later[uid] = None  # first the sensors, then the readers of statuses
        else:
            self._changed_at.pop(uid, None)
            self._awaited_since.pop(uid, None)
            self._statuses.gone(uid)

    def _tell_statuses(self) -> None:
        for _ in range(min(_BATCH, len(self._told_later))):
            uid, _ = self._told_later.popitem(last=False)
            try:
                self._tell_status(uid, urgent=False)
            except Exception:
                self._failed(uid)

    def _tell_status(self, uid: str, *, urgent: bool) -> None:
        tracked = self._inventory.rules.get(uid)
        if tracked is not None and tracked.acceptance is not None:
            self._statuses.update(tracked, tracked.acceptance, urgent=urgent)

    # -- what happens

    def _published(self, uid: str, write: Write, state: RuleState, time: datetime, event_id: uuids.UUID) -> None:
        now = asyncio.get_running_loop().time()
        changed_at = self._changed_at.pop(uid, None)
        if changed_at is not None:
            metrics.PUBLISH_SECONDS.observe(now - changed_at)
            if not write.tombstone:
                self._awaited_since[uid] = now
        if self._session is not None and uid in self._session.history_known:
            self._session.history_known.discard(uid)
            if write.event_type is RuleEventType.CREATED:
                return  # restored on a new stream, which is nothing that happened to the Rule
        tracked = self._inventory.rules.get(uid)
        self._history.add(
            HistoryEntry(
                event_type=write.event_type,
                state=state,
                body=write.body,
                time=time,
                event_id=event_id,
                sensor=split_binding(write.subject)[0],
                changed_by=tracked.rule.changed_by if tracked is not None else "",
                changed_at=tracked.rule.changed_at if tracked is not None else "",
                reason=_end_reason(tracked) if write.tombstone else "",
            )
        )

    def _acked(self, uid: str, entry: AckEntry) -> None:
        # Somebody waits for the first word on a change; that all sensors repeat theirs after a restart is bulk.
        since = self._awaited_since.pop(uid, None)
        if since is not None:
            metrics.ACK_SECONDS.observe(asyncio.get_running_loop().time() - since)
        self._dirty.add(uid, urgent=since is not None)

    def _swept(self, affected: set[str]) -> None:
        self._dirty.update(affected)
        session = self._session
        if session is None:
            return
        self._dirty.update(session.projector.contested_rules)
        self._dirty.update(uid for uid in session.projector.view.uids() if uid not in self._inventory.rules)
        session.purge_acks(stale_acks(session.acks, inventory=self._inventory))
        session.purge_health(self._summaries.departed())


def _end_reason(tracked: TrackedRule | None) -> str:
    if tracked is None or tracked.acceptance is None:
        return "Deleted"
    if tracked.acceptance.accepted:
        return f"MovedTo {tracked.acceptance.sensor}"
    return str(tracked.acceptance.reason)
