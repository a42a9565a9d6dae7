"""How long events are kept: by age, and by number for each rule and namespace. They go in small chunks, so that no one waits.

Never deleted are what the outbox has not passed on yet, and the newest event of each rule: a sensor that was down goes on
from there (see :mod:`attune_api.events.last.sql`), and would report again what it had reported before.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import Connection

from attune_api.events.blocks import forget_below
from attune_api.events.derived.sql import forget_states
from attune_api.events.retention.sql import (
    CHUNK,
    crowded,
    crowded_namespaces,
    delete_of_namespace,
    delete_of_rule,
    delete_older,
    oldest_seq,
    passed_on,
)
from attune_api.metrics import Metrics
from attune_api.storage.database import Database
from attune_api.storage.leases import Held, Leases
from attune_api.storage.sweeping import Chunk, drop_old, sweep_for_ever, thin_out
from attune_contract.quotas import Quotas

log = structlog.get_logger(__name__)

_NO_QUOTAS: Final = Quotas()
#: How long what a sensor remembers of a rule is kept after it was written last. It is written each day while the rule is served.
_STATES: Final = timedelta(days=30)
#: Name of the lease of the replica that deletes.
_LEASE: Final = "retention"


class Retention:
    """Deletes what need not be kept. :meth:`run` does it until cancelled.

    Args:
        database: where events are.
        leases: of the database.
        metrics: what is counted.
        max_age: for how long events are kept after they were stored; None for ever.
        most_per_rule: how many of each rule are kept; None for all.
        quotas: how many of each namespace are kept.
        outbox: the name under which the outbox keeps its position; None where events are not passed on.
        interval: seconds between sweeps.
        now: the time.
    """

    def __init__(
        self,
        *,
        database: Database,
        leases: Leases,
        metrics: Metrics,
        max_age: timedelta | None,
        most_per_rule: int | None,
        outbox: str | None,
        interval: float,
        quotas: Quotas = _NO_QUOTAS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._leases = leases
        self._metrics = metrics
        self._max_age = max_age
        self._most_per_rule = most_per_rule
        self._quotas = quotas
        self._outbox = outbox
        self._interval = interval
        self._now = now

    async def run(self) -> None:
        """Sweep again and again until cancelled; wait out whatever the database does. On PostgreSQL one replica does it."""
        await sweep_for_ever(
            self._leases, lease=_LEASE, interval=self._interval, sweep=self.sweep, waits="retention_waits"
        )

    async def sweep(self, held: Held) -> int:
        """Delete all that need not be kept; returns how many events.

        Args:
            held: the lease; when it is lost, another replica may be doing the same.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: the database did not go along, or the lease was lost; the
                rest goes next time.
        """
        by_age = await self._by_age(held, self._max_age) if self._max_age is not None else 0
        by_count = await self._by_count(held, self._most_per_rule) if self._most_per_rule is not None else 0
        by_quota = await self._by_quota(held) if self._quotas.limits_stored_events else 0
        forgotten = self._now() - _STATES
        await self._database.write(lambda connection: forget_states(connection, before=forgotten))
        if by_age or by_count or by_quota:
            oldest = await self._database.read(oldest_seq)
            if oldest is not None:
                await self._database.write(lambda connection: forget_below(connection, seq=oldest))
            log.info("events_deleted", by_age=by_age, by_count=by_count, by_quota=by_quota)
        self._metrics.retention_swept.set_to_current_time()
        return by_age + by_count + by_quota

    async def _by_age(self, held: Held, max_age: timedelta) -> int:
        before = self._now() - max_age
        return await drop_old(
            self._database,
            held,
            delete=lambda place: partial(self._delete_older, beyond=place, before=before),
            deleted=self._metrics.retention_deleted["age"].inc,
        )

    async def _by_count(self, held: Held, most: int) -> int:
        return await thin_out(
            self._database,
            held,
            crowded=lambda uid: partial(crowded, after=uid, most=most),
            delete=lambda uid, cut: partial(self._delete_of_rule, uid=uid, cut=cut),
            chunk=CHUNK,
            deleted=self._metrics.retention_deleted["count"].inc,
        )

    async def _by_quota(self, held: Held) -> int:
        return await thin_out(
            self._database,
            held,
            crowded=lambda name: partial(crowded_namespaces, after=name, most_of=self._quotas.stored_events_of),
            delete=lambda name, cut: partial(self._delete_of_namespace, name=name, cut=cut),
            chunk=CHUNK,
            deleted=self._metrics.retention_deleted["quota"].inc,
        )

    def _delete_of_namespace(self, connection: Connection, *, name: str, cut: int) -> int:
        deleted = delete_of_namespace(connection, name=name, up_to=min(cut, passed_on(connection, outbox=self._outbox)))
        self._metrics.quota_deleted(name, deleted)
        return deleted

    def _delete_older(self, connection: Connection, *, beyond: int, before: datetime) -> Chunk:
        return delete_older(connection, beyond=beyond, before=before, up_to=passed_on(connection, outbox=self._outbox))

    def _delete_of_rule(self, connection: Connection, *, uid: str, cut: int) -> int:
        return delete_of_rule(connection, uid=uid, up_to=min(cut, passed_on(connection, outbox=self._outbox)))
