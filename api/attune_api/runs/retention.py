"""How long runs are kept: by age, and by number for each rule. A run that has not ended is never deleted."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from attune_api.metrics import Metrics
from attune_api.runs.sql import CHUNK, crowded, delete_of_rule, delete_older, forget_rules
from attune_api.storage.database import Database
from attune_api.storage.leases import Held, Leases
from attune_api.storage.sweeping import drop_old, sweep_for_ever, thin_out

log = structlog.get_logger(__name__)

#: Name of the lease of the replica that deletes.
_LEASE: Final = "run-retention"


class RunRetention:
    """Deletes runs that need not be kept. :meth:`run` does it until cancelled.

    Args:
        database: where runs are.
        leases: of the database.
        metrics: what is counted.
        max_age: for how long a run is kept after its last change; None for ever.
        most_per_rule: how many of each rule are kept; None for all.
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
        interval: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._leases = leases
        self._metrics = metrics
        self._max_age = max_age
        self._most_per_rule = most_per_rule
        self._interval = interval
        self._now = now

    async def run(self) -> None:
        """Sweep again and again until cancelled; wait out whatever the database does. On PostgreSQL one replica does it."""
        await sweep_for_ever(
            self._leases, lease=_LEASE, interval=self._interval, sweep=self.sweep, waits="run_retention_waits"
        )

    async def sweep(self, held: Held) -> int:
        """Delete all that need not be kept; returns how many runs.

        Args:
            held: the lease; when it is lost, another replica may be doing the same.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: the database did not go along, or the lease was lost; the
                rest goes next time.
        """
        by_age = await self._by_age(held, self._max_age) if self._max_age is not None else 0
        by_count = await self._by_count(held, self._most_per_rule) if self._most_per_rule is not None else 0
        if by_age or by_count:
            log.info("runs_deleted", by_age=by_age, by_count=by_count)
        return by_age + by_count

    async def _by_age(self, held: Held, max_age: timedelta) -> int:
        before = self._now() - max_age
        total = await drop_old(
            self._database,
            held,
            delete=lambda place: partial(delete_older, beyond=place, before=before),
            deleted=self._metrics.runs_deleted["age"].inc,
        )
        await self._database.write(lambda connection: forget_rules(connection, before=before))
        return total

    async def _by_count(self, held: Held, most: int) -> int:
        return await thin_out(
            self._database,
            held,
            crowded=lambda uid: partial(crowded, after=uid, most=most),
            delete=lambda uid, cut: partial(delete_of_rule, uid=uid, up_to=cut),
            chunk=CHUNK,
            deleted=self._metrics.runs_deleted["count"].inc,
        )
