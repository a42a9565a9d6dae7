"""The table of events, and how its rows are read."""

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, select, type_coerce
from sqlalchemy.types import NullType

from attune_api.storage.tables import METADATA
from attune_api.storage.types import decode_json
from attune_contract.events import Event

EVENTS: Final = METADATA.tables["events"]


def rfc3339(time: datetime) -> str:
    """A UTC time with microseconds, always six digits, and ``Z`` (RFC 3339)."""
    return f"{time.isoformat(timespec='microseconds')[:26]}Z"


#: The columns that an :class:`Event` is made of, in its order.
FIELDS: Final = Event.__struct_fields__


def as_stored(columns: Any) -> list[ColumnElement[Any]]:
    """Columns of :data:`FIELDS`, of the table or of a subquery, whose values come as the driver has them, for :data:`READ`.

    What SQLAlchemy makes of them (ids, times) would be taken apart again: that is most of the work for a page.
    """
    return [type_coerce(columns[name], NullType()).label(name) for name in FIELDS]


def _reader(read_id: Callable[[Any], uuid.UUID], read_time: Callable[[Any], str]) -> Callable[[Sequence[Any]], Event]:
    key, occurred_at, received_at, payload = map(FIELDS.index, ("id", "occurred_at", "received_at", "payload"))

    def read(row: Sequence[Any]) -> Event:
        values = list(row)
        values[key] = read_id(values[key])
        values[occurred_at] = read_time(values[occurred_at])
        values[received_at] = read_time(values[received_at])
        values[payload] = decode_json(values[payload])
        return Event(**dict(zip(FIELDS, values, strict=True)))

    return read


#: How the event of a row of :func:`as_stored` is read, by SQLAlchemy's name of the dialect.
READ: Final = {
    # There an id is 32 hexadecimal digits, and a time ``2026-11-23 12:00:00.000000``, in UTC (see storage.types).
    "sqlite": _reader(uuid.UUID, lambda time: f"{time[:10]}T{time[11:]}Z"),
    # asyncpg gives ids as such, times in UTC, and JSON as the text that SQLAlchemy asks it for.
    "postgresql": _reader(lambda key: key, rfc3339),
}
_NEWEST: Final = select(func.max(EVENTS.c.seq))


def newest_seq(connection: Connection) -> int:
    """The highest ``seq`` there is; 0 when there are no events."""
    return int(connection.execute(_NEWEST).scalar_one() or 0)
