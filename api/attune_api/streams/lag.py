"""How far the outbox is behind, as numbers that every replica shows, whether NATS answers or not."""

import asyncio
from typing import Final

from sqlalchemy import Connection, func, select

from attune_api.metrics import Metrics
from attune_api.storage.database import Database
from attune_api.storage.faults import OUTAGES
from attune_api.storage.tables import METADATA
from attune_api.streams.outbox import NAME
from attune_kit.backoff import spread

_EVENTS: Final = METADATA.tables["events"]
_OUTBOX: Final = METADATA.tables["outbox"]


def newest_and_published(connection: Connection) -> tuple[int, int]:
    """``seq`` of the newest stored event, and that up to which events were passed on; 0 where there is none."""
    newest = connection.execute(select(func.max(_EVENTS.c.seq))).scalar_one()
    position = connection.execute(select(_OUTBOX.c.published).where(_OUTBOX.c.name == NAME)).scalar_one_or_none()
    return newest or 0, position or 0


async def measure_for_ever(database: Database, metrics: Metrics, *, every: float) -> None:
    """Keep both gauges right, until cancelled; while the database is away they stay.

    Args:
        database: what is read.
        metrics: where the gauges are.
        every: seconds.
    """
    while True:
        try:
            newest, position = await database.read(newest_and_published)
        except OUTAGES:
            pass
        else:
            metrics.newest_seq.set(newest)
            metrics.outbox_position.set(position)
        await asyncio.sleep(spread(every))
