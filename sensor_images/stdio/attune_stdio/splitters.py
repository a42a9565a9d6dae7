"""What a program prints, cut into records, in bounded memory. Pure."""

import re
from collections.abc import Iterator
from typing import Final, Protocol

from attune_stdio.lines import Line, LineSplitter

_OUTSIDE: Final = re.compile(rb'["{}\[\]\n]')
_INSIDE: Final = re.compile(rb'["\\]')
_BLANK: Final = b" \t\r\n"


class Splitter(Protocol):
    """Takes bytes as they come, and gives records."""

    @property
    def waiting(self) -> int:
        """Bytes of a record that has not ended yet."""

    def feed(self, data: bytes) -> list[Line]:
        """Take bytes; returns the records that they complete."""

    def end(self) -> Line | None:
        """The last record, when the stream has ended without its end; None when nothing is left."""


class JsonSplitter:
    """JSON values, one after another: over several lines, or without a newline between them.

    A value ends where its brackets close; a text or number ends with its line. What is no JSON ends with its line, too.

    Args:
        limit: bytes that a value may have. Of a longer one the beginning is given, and the rest is skipped to its line's end.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._parts = bytearray()
        self._depth = 0
        self._in_text = False
        self._skipping = False
        self._length = 0
        self._escaped = False

    @property
    def waiting(self) -> int:
        """Bytes of a value that has not ended yet."""
        return self._length

    def feed(self, data: bytes) -> list[Line]:
        """Take bytes; returns the values that they complete."""
        return list(self._feed(data))

    def end(self) -> Line | None:
        """The last value, when the stream has ended without its end; None when nothing is left."""
        return self._take()

    def _feed(self, data: bytes) -> Iterator[Line]:
        start = at = 0
        while at < len(data):
            if self._escaped:  # the chunk before ended with a backslash
                self._escaped = False
                at += 1
                continue
            match = (_INSIDE if self._in_text else _OUTSIDE).search(data, at)
            if match is None:
                break
            mark, at = match[0], match.end()
            if self._in_text:
                if mark == b'"':
                    self._in_text = False
                elif at == len(data):
                    self._escaped = True
                else:
                    at += 1
            elif mark == b"\n":
                if self._depth == 0 or self._skipping:
                    yield from self._cut(data[start:at])
                    start = at
            elif mark == b'"':
                # A quote in a line that is no JSON must not swallow the lines after it.
                self._in_text = self._depth > 0 or not (self._parts + data[start : at - 1]).strip(_BLANK)
            elif mark in b"{[":
                self._depth += 1
            elif self._depth > 0:
                self._depth -= 1
                if self._depth == 0:
                    yield from self._cut(data[start:at])
                    start = at
        self._add(data[start:])

    def _cut(self, data: bytes) -> Iterator[Line]:
        self._add(data)
        if (found := self._take()) is not None:
            yield found

    def _add(self, data: bytes) -> None:
        if not self._length:
            data = data.lstrip(_BLANK)
        self._length += len(data)
        if len(self._parts) <= self._limit:
            self._parts += data
        if self._length > self._limit and not self._skipping:
            self._skipping, self._in_text = True, False

    def _take(self) -> Line | None:
        text, length = bytes(self._parts), self._length
        self._parts, self._length = bytearray(), 0
        self._depth, self._in_text, self._skipping = 0, False, False
        if not text.strip(_BLANK):
            return None
        return (
            Line(text[: min(200, self._limit)], length)
            if length > self._limit
            else Line(text.strip(_BLANK), len(text.strip(_BLANK)))
        )


class CsvSplitter:
    """CSV records: lines, but a newline inside of quotes does not end one (RFC 4180).

    Args:
        limit: bytes that a record may have.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._lines = LineSplitter(limit=limit)
        self._parts: list[bytes] = []

    @property
    def waiting(self) -> int:
        """Bytes of a record that has not ended yet."""
        return sum(map(len, self._parts)) + self._lines.waiting

    def feed(self, data: bytes) -> list[Line]:
        """Take bytes; returns the records that they complete."""
        found = []
        for line in self._lines.feed(data):
            if line.cut:
                self._parts = []
                found.append(line)
                continue
            self._parts.append(line.text)
            text = b"\n".join(self._parts)
            if text.count(b'"') % 2 == 0 or len(text) > self._limit:
                self._parts = []
                found.append(Line(text[: self._limit], len(text)))
        return found

    def end(self) -> Line | None:
        """The last record, when the stream has ended without its end; None when nothing is left."""
        last = self._lines.end()
        parts = [*self._parts, *([] if last is None else [last.text])]
        self._parts = []
        text = b"\n".join(parts)
        return Line(text, len(text)) if text else None
