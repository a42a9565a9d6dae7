"""From a record that a program prints to an event (docs/runners.md, "Programs as they are"). Pure."""

import csv
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from attune_stdio.lines import LineSplitter
from attune_stdio.messages import MAX_LINE, AckLine, EventLine, LineError, decoded, parse, repaired
from attune_stdio.moments import MomentError, parse_moment
from attune_stdio.splitters import CsvSplitter, JsonSplitter, Splitter

#: What expressions may read: the printed value, and the rule's parameters (null where one process serves all rules).
VARIABLES: Final = ("line", "params")
_MAX_OCCURRENCE: Final = 4096


class Format(StrEnum):
    """What a program prints."""

    EVENTS = "events"  #: events as in docs/runners.md, one JSON object a line
    JSON = "json"  #: JSON values, over several lines or not
    JSON_LINES = "jsonlines"  #: a JSON value a line
    TEXT = "text"  #: lines of text
    REGEX = "regex"  #: lines of text; those that match a pattern, as its named groups
    CSV = "csv"  #: comma-separated values, quoted as in RFC 4180


class OutputOptions(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """How output is read (``spec.stdio``).

    Attributes:
        format: what the program prints.
        pattern: with :attr:`Format.REGEX`, a regular expression with named groups, found anywhere in a line.
        columns: with :attr:`Format.CSV`, the columns' names; without them a record is a list.
        when: a CEL expression; records for which it is false are skipped.
        payload: a CEL expression for the payload.
        occurrence: a CEL expression for the name of the occurrence, a text or number.
        occurred_at: a CEL expression for its time.
    """

    format: Format = Format.EVENTS
    pattern: str | None = None
    columns: tuple[str, ...] = ()
    when: str | None = None
    payload: str | None = None
    occurrence: str | None = None
    occurred_at: str | None = None

    @property
    def expressions(self) -> dict[str, tuple[str, bool]]:
        """The CEL expressions by field, each with whether it is a condition."""
        given = {
            "when": self.when,
            "payload": self.payload,
            "occurrence": self.occurrence,
            "occurredAt": self.occurred_at,
        }
        return {name: (text, name == "when") for name, text in given.items() if text is not None}

    def problem(self) -> str | None:
        """What does not fit together; None when all does."""
        if (self.format is Format.REGEX) != (self.pattern is not None):
            return "pattern and format: regex go together"
        if self.columns and self.format is not Format.CSV:
            return "columns go with format: csv"
        if self.format is Format.EVENTS and self.expressions:
            return f"{', '.join(self.expressions)}: not with format: events, where each line says so itself"
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                return f"pattern {self.pattern!r} is not a regular expression: {error}"
        return None


#: Stands for a record that makes no event, and should not.
NOT_WANTED: Final = object()


@dataclass(frozen=True, slots=True)
class OutputReader:
    """Reads the records of one format.

    Args:
        options: how.
    """

    options: OutputOptions

    def splitter(self) -> Splitter:
        """What cuts the output into records."""
        match self.options.format:
            case Format.JSON:
                return JsonSplitter(limit=MAX_LINE)
            case Format.CSV:
                return CsvSplitter(limit=MAX_LINE)
            case _:
                return LineSplitter(limit=MAX_LINE)

    def value(self, record: bytes) -> Any:
        """The printed value that a record stands for; :data:`NOT_WANTED` when it does not match the pattern.

        Raises:
            LineError: it is not of the format.
        """
        record = repaired(record)
        match self.options.format:
            case Format.JSON | Format.JSON_LINES:
                return decoded(record)
            case Format.REGEX:
                found = re.search(self.options.pattern or "", record.decode())
                return NOT_WANTED if found is None else found.groupdict() or {"text": found.group()}
            case Format.CSV:
                return self._columns(record.decode())
            case _:
                return record.decode()

    def _columns(self, text: str) -> Any:
        try:
            values = next(csv.reader(text.splitlines(keepends=True), strict=True), [])
        except csv.Error as error:
            raise LineError(f"not CSV: {error}") from None
        if not self.options.columns:
            return values
        if len(values) != len(self.options.columns):
            raise LineError(f"it has {len(values)} columns; expected {len(self.options.columns)}")
        return dict(zip(self.options.columns, values, strict=True))

    def event(self, value: Any, results: Mapping[str, Any]) -> EventLine | None:
        """The event of a value; None when it is not wanted.

        Args:
            value: what was printed.
            results: of the expressions, by field.

        Raises:
            LineError: an expression gave something that cannot be used.
        """
        if results.get("when", True) is not True:
            return None
        payload = results.get("payload", value)
        if "payload" in results and not isinstance(payload, dict):
            raise LineError("payload: the expression gives no object")
        if not isinstance(payload, dict):
            payload = {"text" if isinstance(value, str) else "value": payload}
        occurrence = _name(results["occurrence"]) if "occurrence" in results else None
        occurred_at = None
        if (given := results.get("occurredAt")) is not None:
            try:
                occurred_at = parse_moment(given)
            except MomentError as error:
                raise LineError(f"occurredAt: {error}") from None
        return named(EventLine(payload=payload, occurrence=occurrence, occurred_at=occurred_at))


def _name(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise LineError("occurrence: the expression gives neither a text nor a number")
    if len(text := str(value)) > _MAX_OCCURRENCE:
        raise LineError(f"occurrence: it has more than {_MAX_OCCURRENCE} characters")
    return text


def named(line: EventLine) -> EventLine:
    """An event with a time and no occurrence, named by its time and its payload: stamps of whole seconds tell no two events of
    the same second apart.
    """
    if line.occurrence is not None or line.occurred_at is None:
        return line
    digest = hashlib.sha256(msgspec.json.encode(line.payload, order="deterministic")).hexdigest()[:16]
    return msgspec.structs.replace(line, occurrence=f"{line.occurred_at.isoformat()}/{digest}")


def parse_event(record: bytes) -> EventLine | AckLine:
    """Read a record of :attr:`Format.EVENTS`.

    Raises:
        LineError: it is something else.
    """
    found = parse(record)
    return found if isinstance(found, AckLine) else named(found)
