"""Which events a reader wants: one meaning, said to SQLite, to PostgreSQL, and of an event in memory."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import Column, ColumnElement, Numeric, Text, and_, bindparam, case, cast, false, func, or_

from attune_api.storage.types import UtcTime

#: Payload filters in one request, and the names in one path.
MAX_PAYLOAD_FILTERS: Final = 4
MAX_PATH_NAMES: Final = 8
_MAX_VALUE: Final = 320
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,308})(\.[0-9]{1,308})?([eE][+-]?[0-9]{1,3})?")
_PLACE: Final = re.compile(r"0|[1-9][0-9]{0,8}")
# What SQLite's paths cannot quote, and what no JSON text holds as it is.
_UNSAFE: Final = re.compile(r'["\\\x00-\x1f\x7f\ud800-\udfff]')
_LARGEST: Final = 2**63 - 1

#: Columns by which events are looked up, from the most telling one on; each has an index that goes on with ``seq``.
EQUAL: Final = ("rule_uid", "rule_namespace", "rule_name", "trigger_type", "sensor_ref")


class InvalidFilterError(ValueError):
    """A filter that cannot be meant; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class PayloadFilter:
    """A field of the payload has this value.

    ``path`` leads to the field: a text is a member's name, a number a place in a list (from 0). ``value`` is compared with
    what the field says as text: ``42`` is the number 42 (so are 42.0 and 4.2e1) and the text ``42``; ``true``, ``false`` and
    ``null`` are also those; in double quotes it is the text between them and nothing else.
    """

    path: tuple[str | int, ...]
    value: str

    @classmethod
    def parse(cls, path: str, value: str) -> "PayloadFilter":
        """Read ``user.name`` and ``ann``.

        Raises:
            InvalidFilterError: the path or the value cannot be looked for.
        """
        names = path.split(".")
        if len(names) > MAX_PATH_NAMES:
            raise InvalidFilterError(f"the path has {len(names)} names; {MAX_PATH_NAMES} are the most")
        for name in names:
            if not name:
                raise InvalidFilterError("the path has an empty name; write payload.user.name=ann")
            if len(name) > 128 or _UNSAFE.search(name):
                raise InvalidFilterError(
                    f"{name[:40]!r} cannot be a name in the path: no quotes, backslashes or control characters, and at "
                    "most 128 characters"
                )
        if len(value) > _MAX_VALUE or "\0" in value or re.search("[\ud800-\udfff]", value):
            raise InvalidFilterError(
                f"the value is longer than {_MAX_VALUE} characters, or holds a NUL or a lone surrogate"
            )
        return cls(tuple(int(name) if _PLACE.fullmatch(name) else name for name in names), value)

    @property
    def text(self) -> str:
        """What a text must be."""
        quoted = len(self.value) >= 2 and self.value[0] == self.value[-1] == '"'
        return self.value[1:-1] if quoted else self.value

    @property
    def number(self) -> Decimal | None:
        """What a number must be, if the value is one."""
        return Decimal(self.value) if _NUMBER.fullmatch(self.value) else None

    def matches(self, payload: Any) -> bool:
        """Whether a payload, decoded, has it."""
        for step in self.path:
            if isinstance(payload, dict) and isinstance(step, str):
                if step not in payload:
                    return False
                payload = payload[step]
            elif isinstance(payload, list) and isinstance(step, int) and step < len(payload):
                payload = payload[step]
            else:
                return False
        match payload:
            case str():
                return payload == self.text
            case bool() | None:
                return self.value == _LITERALS[payload]
            case int() | float():
                return self.number is not None and Decimal(repr(payload)) == self.number
        return False

    def clause(self, column: ColumnElement[Any], dialect: str) -> ColumnElement[bool]:
        """The filter as a condition on the column with the payload."""
        return self._postgresql(column) if dialect == "postgresql" else self._sqlite(column)

    def _sqlite(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        path = "$" + "".join(f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in self.path)
        kind, value = func.json_type(column, path), func.json_extract(column, path)
        ways = [and_(kind == "text", value == self.text)]
        if self.value in _LITERALS.values():
            ways.append(kind == self.value)
        if (number := self.number) is not None:
            whole = number == number.to_integral_value() and abs(number) <= _LARGEST
            ways.append(and_(kind.in_(["integer", "real"]), value == (int(number) if whole else float(number))))
        return or_(*ways)

    def _postgresql(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        field: ColumnElement[Any] = column
        for step in self.path[:-1]:
            field = field.op("->")(step)
        kind, value = func.json_typeof(field.op("->")(self.path[-1])), field.op("->>")(self.path[-1])
        ways = [and_(kind == "string", value == self.text)]
        if self.value == "null":
            ways.append(kind == "null")
        elif self.value in _LITERALS.values():
            ways.append(and_(kind == "boolean", value == self.value))
        if (number := self.number) is not None:
            # In a CASE, since PostgreSQL may try the cast before it looks at the kind.
            ways.append(case((kind == "number", cast(value, Numeric) == number), else_=false()))
        return or_(*ways)


_LITERALS: Final[dict[bool | None, str]] = {True: "true", False: "false", None: "null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events; None is any. Times are compared with ``occurred_at``: after is inclusive, before is not."""

    rule_uid: str | None = None
    rule_namespace: str | None = None
    rule_name: str | None = None
    trigger_type: str | None = None
    sensor_ref: str | None = None
    occurred_after: datetime | None = None
    occurred_before: datetime | None = None
    payload: tuple[PayloadFilter, ...] = ()

    @property
    def equal(self) -> dict[str, str]:
        """What columns must be."""
        return {name: value for name in EQUAL if (value := getattr(self, name)) is not None}

    @property
    def is_timed(self) -> bool:
        """Whether times are bounded."""
        return self.occurred_after is not None or self.occurred_before is not None

    @property
    def given(self) -> "Given":
        """What is asked, without the values."""
        return Given(tuple(self.equal), self.occurred_after is not None, self.occurred_before is not None, self.payload)

    @property
    def parameters(self) -> dict[str, Any]:
        """The values for :meth:`Given.clauses`, by the names of the parameters there."""
        parameters: dict[str, Any] = {**self.equal}
        if self.occurred_after is not None:
            parameters["occurred_after"] = self.occurred_after
        if self.occurred_before is not None:
            parameters["occurred_before"] = self.occurred_before
        return parameters

    def matches(self, event: "Candidate") -> bool:
        """Whether an event in memory is wanted."""
        row = event.fields
        if any(row[name] != value for name, value in self.equal.items()):
            return False
        if self.occurred_after is not None and event.occurred_at < self.occurred_after:
            return False
        if self.occurred_before is not None and event.occurred_at >= self.occurred_before:
            return False
        return not self.payload or all(wanted.matches(event.payload) for wanted in self.payload)


@dataclass(frozen=True, slots=True)
class Given:
    """What a filter asks without its values; statements differ by it. Payload filters are whole."""

    equal: tuple[str, ...] = ()
    after: bool = False
    before: bool = False
    payload: tuple[PayloadFilter, ...] = ()

    @property
    def is_timed(self) -> bool:
        """Whether times are bounded."""
        return self.after or self.before

    def clauses(
        self, columns: Mapping[str, Column[Any]] | Any, dialect: str, *, except_for: Sequence[str] = ()
    ) -> list[ColumnElement[bool]]:
        """The filter as conditions that must all hold, with :attr:`EventFilter.parameters` for what they compare with.

        Args:
            columns: those of the table, or of a subquery.
            dialect: name of SQLAlchemy's dialect.
            except_for: columns that are seen to otherwise.
        """
        clauses = [columns[name] == bindparam(name, type_=Text) for name in self.equal if name not in except_for]
        if self.after:
            clauses.append(columns["occurred_at"] >= bindparam("occurred_after", type_=UtcTime))
        if self.before:
            clauses.append(columns["occurred_at"] < bindparam("occurred_before", type_=UtcTime))
        clauses += [wanted.clause(columns["payload"], dialect) for wanted in self.payload]
        return clauses


class Candidate:
    """An event in memory that many filters are tried on; what costs is done once, and only when one asks."""

    __slots__ = ("_payload", "_raw", "fields", "occurred_at")

    def __init__(self, fields: Mapping[str, str], *, occurred_at: datetime, payload: msgspec.Raw) -> None:
        self.fields = fields
        self.occurred_at = occurred_at
        self._raw = payload
        self._payload: Any = None

    @property
    def payload(self) -> Any:
        """The payload, decoded."""
        if self._payload is None:
            self._payload = msgspec.json.decode(self._raw)
        return self._payload
