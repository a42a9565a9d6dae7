"""Whether something can be stored now: what the writer of events met last, and what a look finds."""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Final

import structlog
from prometheus_client import Gauge
from sqlalchemy import Connection, delete, insert

from attune_api.storage.database import Database
from attune_api.storage.faults import OUTAGES, explain
from attune_api.storage.tables import METADATA

log = structlog.get_logger(__name__)

_TABLE: Final = METADATA.tables["outbox"]
#: Seconds in which the database must do something.
_TIMEOUT: Final = 2.0
#: Seconds after events could not be stored in which a small write that goes well says little: on a full disk there is room
#: for some.
_DISTRUST: Final = 5.0
#: Rows, and bytes of each, that are written and deleted to see whether there is room.
_ROWS: Final = 64
_ROW_BYTES: Final = 1000


class Writable:
    """Knows whether events can be stored.

    Args:
        database: where to.
        gauge: 1 while they can, else 0.
        clock: monotonic seconds.
    """

    def __init__(self, *, database: Database, gauge: Gauge, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._gauge = gauge
        self._clock = clock
        self._fault: str | None = None
        self._events_failed: float | None = None
        gauge.set(1)

    def worked(self) -> None:
        """Events were stored."""
        self._events_failed = None
        if self._fault is not None:
            self._now(None)

    def failed(self, error: Exception) -> None:
        """Events could not be stored."""
        self._events_failed = self._clock()
        self._now(explain(error))

    async def look(self) -> str | None:
        """Try whether something can be written; why it cannot, or None.

        Where all is well that writes nothing, but takes what a write takes. Where it is not, rows are written and deleted.
        """
        work = _write_nothing if self._fault is None else _write_something
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._database.write(work)
        except OUTAGES as error:
            self._now(explain(error) if str(error) else f"the database does not answer within {_TIMEOUT:.0f} s")
        else:
            if self._events_failed is None or self._clock() - self._events_failed > _DISTRUST:
                self.worked()
        return self._fault

    def _now(self, fault: str | None) -> None:
        before, self._fault = self._fault, fault
        self._gauge.set(0 if fault else 1)
        if fault and before is None:
            log.error("storage_not_writable", reason=fault)
        elif before and fault is None:
            log.info("storage_writable_again")


def _write_nothing(connection: Connection) -> None:
    connection.execute(delete(_TABLE).where(_TABLE.c.name == ""))


def _write_something(connection: Connection) -> None:
    beginning = f"look {uuid.uuid4().hex}"
    rows = [{"name": f"{beginning} {number} ".ljust(_ROW_BYTES, "."), "published": 0} for number in range(_ROWS)]
    connection.execute(insert(_TABLE), rows)
    connection.execute(delete(_TABLE).where(_TABLE.c.name.startswith(beginning)))
