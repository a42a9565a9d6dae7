"""Lines out of a stream of bytes, in bounded memory. Pure."""

from dataclasses import dataclass
from typing import Final

#: How much of a line that is too long is kept, to show what it was.
_KEPT: Final = 200


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end. ``length`` is how long it was; a longer line than is allowed has only its beginning here."""

    text: bytes
    length: int

    @property
    def cut(self) -> bool:
        """Whether something of it is missing."""
        return self.length > len(self.text)


class LineSplitter:
    """Takes bytes as they come, and gives lines.

    Args:
        limit: bytes that a line may have. What is longer is thrown away as it comes, but for its beginning.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._length = 0

    @property
    def waiting(self) -> int:
        """Bytes of a line that has not ended yet."""
        return self._length

    def feed(self, data: bytes) -> list[Line]:
        """Take bytes; returns the lines that they complete."""
        *complete, rest = data.split(b"\n")
        lines = []
        for part in complete:
            self._add(part)
            lines.append(self._take())
        self._add(rest)
        return lines

    def end(self) -> Line | None:
        """The last line when the stream ended without its end; None when nothing is left."""
        return self._take() if self._length else None

    def _add(self, part: bytes) -> None:
        if not part:
            return
        self._length += len(part)
        if self._length <= self._limit:
            self._parts.append(part)
        elif len(self._parts) != 1 or len(self._parts[0]) > _KEPT:
            self._parts = [b"".join([*self._parts, part])[:_KEPT]]

    def _take(self) -> Line:
        line = Line(b"".join(self._parts), self._length)
        self._parts, self._length = [], 0
        return line
