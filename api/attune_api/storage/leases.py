"""Leases: what only one replica may do is done by the holder of a row, whatever is between the replicas and PostgreSQL.

A row of ``leases`` says who holds it, since which epoch, and until when. It is taken, renewed and given back in short
transactions, each of which changes the row only as it was known. So nothing hangs on a connection, which a pooler may share
among replicas, or keep after all of them have ended.

- Only the database's clock says when a lease ends. A holder measures for itself, from before it asked, how long it may go
  on (:meth:`Held.check`); clocks of replicas are never compared.
- A holder that stood still does not know that its time is up before it looks. So ``epoch``, which grows with each holder, goes
  into what the holder writes: see :class:`attune_api.streams.outbox.Outbox`.
- One that ends well gives its lease back. After one that was killed, another takes over when the lease has ended.

SQLite has one process, which holds everything.
"""

import asyncio
import math
import socket
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

import structlog
from sqlalchemy import Connection, text

from attune_api.storage.database import Database
from attune_api.storage.faults import OUTAGES
from attune_kit.backoff import Backoff, spread

log = structlog.get_logger(__name__)

#: Seconds that a lease lasts unless it is renewed: by default, and at most. If the database's clock is set back, a lease of
#: a holder that is gone lasts no longer than that either.
DEFAULT_LENGTH: Final = 5.0
LONGEST: Final = 60.0
#: Parts of a lease's length after which its holder renews it, and after which others try to take it.
_RENEWED_AFTER: Final = 1 / 3
_TRIED_AFTER: Final = 1 / 5
#: Between tries to renew while the database does not answer.
_RETRY: Final = Backoff(initial=0.1, maximum=1.0)
#: Seconds for giving a lease back.
_RELEASE_TIMEOUT: Final = 2.0

_MAKE: Final = text(
    "INSERT INTO leases (name, holder, epoch, expires_at) VALUES (:name, '', 0, clock_timestamp()) ON CONFLICT DO NOTHING"
)
# A statement that finds nothing to change locks and writes nothing, so that trying again and again costs little.
_TAKE: Final = text(
    "UPDATE leases SET holder = :holder, epoch = epoch + 1, expires_at = clock_timestamp() + make_interval(secs => :length) "
    "WHERE name = :name AND (holder = :holder OR expires_at <= clock_timestamp() "
    "OR expires_at > clock_timestamp() + make_interval(secs => :longest)) RETURNING epoch"
)
_RENEW: Final = text(
    "UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => :length) "
    "WHERE name = :name AND epoch = :epoch AND holder = :holder"
)
_RELEASE: Final = text(
    "UPDATE leases SET holder = '', expires_at = clock_timestamp() WHERE name = :name AND epoch = :epoch AND holder = :holder"
)


class LeaseLostError(OSError):
    """The lease has ended, or somebody else holds it."""


class Held:
    """A lease that is held.

    Attributes:
        epoch: grows with each holder; what a holder writes is to be refused when there was a later one.
        until: when it ends unless it is renewed, by the clock; minus infinity once somebody else holds it.
    """

    def __init__(self, name: str, *, epoch: int, until: float, clock: Callable[[], float]) -> None:
        self.epoch = epoch
        self._name = name
        self.until = until
        self._clock = clock

    @property
    def lost(self) -> bool:
        """Whether another replica may hold it now."""
        return self._clock() >= self.until

    def check(self) -> None:
        """Go on only while it is held.

        Raises:
            LeaseLostError: another replica may hold it now.
        """
        if self.lost:
            raise LeaseLostError(f"the lease {self._name} was not renewed in time")


class Leases:
    """The leases of a database, as one replica takes them.

    Args:
        database: where they are.
        length: seconds after which another replica takes a lease that was not renewed; at most :data:`LONGEST`.
        clock: monotonic seconds.
    """

    def __init__(
        self, database: Database, *, length: float = DEFAULT_LENGTH, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._length = length
        self._clock = clock
        self._holder = f"{socket.gethostname()}/{uuid.uuid4().hex}"

    @asynccontextmanager
    async def hold(self, name: str, *, at_least: float = 0.0) -> AsyncGenerator[Held]:
        """Hold a lease while the context lasts, or until it is lost (:meth:`Held.check`); waits for it.

        Args:
            name: of the lease.
            at_least: seconds that it lasts, where another replica need not take over as soon as the settings say.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, OSError, TimeoutError: see :func:`attune_api.storage.faults.is_outage`.
        """
        if not self._database.has_replicas:
            yield Held(name, epoch=0, until=math.inf, clock=self._clock)
            return
        length = min(max(self._length, at_least), LONGEST)
        held = await self._take(name, length)
        keeping = asyncio.create_task(self._keep(name, held, length))
        try:
            yield held
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            with suppress(*OUTAGES):
                async with asyncio.timeout(_RELEASE_TIMEOUT):
                    await self._database.write(
                        lambda connection: connection.execute(_RELEASE, self._values(name, epoch=held.epoch))
                    )

    async def _take(self, name: str, length: float) -> Held:
        await self._database.write(lambda connection: connection.execute(_MAKE, {"name": name}))
        values = self._values(name, length=length, longest=LONGEST)
        while True:
            asked = self._clock()
            epoch = await self._database.write(partial(_taken, values=values))
            if epoch is not None:
                return Held(name, epoch=epoch, until=asked + length, clock=self._clock)
            await asyncio.sleep(spread(length * _TRIED_AFTER))

    async def _keep(self, name: str, held: Held, length: float) -> None:
        """Renew until cancelled, or until somebody else has it."""
        values = self._values(name, length=length, epoch=held.epoch)
        retries = _RETRY.start()
        await asyncio.sleep(length * _RENEWED_AFTER)
        while True:
            asked = self._clock()
            try:
                renewed = await self._database.write(partial(_renewed, values=values))
            except OUTAGES:
                await asyncio.sleep(retries.next_delay())
                continue
            if not renewed:
                held.until = -math.inf
                return
            # Also after its time: as long as nobody else took it, nobody else did anything.
            held.until = asked + length
            retries.reset()
            await asyncio.sleep(length * _RENEWED_AFTER)

    def _values(self, name: str, **others: Any) -> dict[str, Any]:
        return {"name": name, "holder": self._holder, **others}


def _taken(connection: Connection, *, values: dict[str, Any]) -> int | None:
    epoch: int | None = connection.execute(_TAKE, values).scalar_one_or_none()
    return epoch


def _renewed(connection: Connection, *, values: dict[str, Any]) -> bool:
    return bool(connection.execute(_RENEW, values).rowcount)
