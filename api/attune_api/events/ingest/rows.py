"""Rows of events on their way into the table, column by column, as the drivers take them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attune_api.events.table import EVENTS

#: A row of the table, without its ``seq``.
Row = Mapping[str, Any]

COLUMNS: Final = tuple(column for column in EVENTS.columns if column.name != "seq")
NAMES: Final = tuple(column.name for column in COLUMNS)

#: The id as a number, and the rule's uid. A UUID is hashed by a function in Python, which eight times a row was a tenth of
#: the work of storing it.
Key = tuple[int, str]


def key_of(row: Row) -> Key:
    """What tells an event from others."""
    return row["id"].int, row["rule_uid"]


def columns_of(rows: Sequence[Row], made: Mapping[str, Callable[[Any], Any]]) -> list[list[Any]]:
    """The values of each column in the order of :data:`NAMES`; of some columns what is made of them."""
    return [_made([row[name] for row in rows], made.get(name)) for name in NAMES]


def _made(values: list[Any], make: Callable[[Any], Any] | None) -> list[Any]:
    if make is None:
        return values
    first = values[0]
    if all(value is first for value in values):  # when they were received, for instance
        return [make(first)] * len(values)
    return list(map(make, values))
