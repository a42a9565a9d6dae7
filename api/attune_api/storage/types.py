"""Column types that mean the same on SQLite and on PostgreSQL."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer
from sqlalchemy.types import TypeDecorator

#: A 64-bit number. SQLite calls its row number INTEGER and would not use BIGINT for it.
Sequence = BigInteger().with_variant(Integer, "sqlite")

#: JSON; read back as :class:`msgspec.Raw`, since most of it only passes through. On PostgreSQL it is ``json``, not
#: ``jsonb``: that would turn ``1e300`` into 301 digits, so payloads would not come out as they went in, and a body of one
#: megabyte could become fifty.
RawJson = JSON()


class UtcTime(TypeDecorator[datetime]):
    """A point in time with microseconds. SQLite has no zones, so there it is kept as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def sqlite_time(value: datetime) -> str:
    """What :class:`UtcTime` binds on SQLite: always as long, so that texts are in the order of the times."""
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


def encode_json(value: Any) -> str:
    """JSON text of a value, for the database driver."""
    return msgspec.json.encode(value).decode()


def decode_json(text: str | bytes) -> msgspec.Raw:
    """JSON text from the database as it is, unread."""
    return msgspec.Raw(text.encode() if isinstance(text, str) else text)
