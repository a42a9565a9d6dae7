"""Paths of rules: literal ones, and templates like ``/teams/{team}/github`` whose segments go into the event."""

import re
from dataclasses import dataclass
from typing import Final

LONGEST_PATH: Final = 256
_SEGMENT: Final = r"(?:\.?[A-Za-z0-9_~-][A-Za-z0-9._~-]*|\{[A-Za-z_][A-Za-z0-9_]*\})"
_PATH: Final = re.compile(rf"/|(?:/{_SEGMENT})+/?")
_LONGEST_VALUE: Final = 256


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A path with named segments, or without.

    Attributes:
        text: as the rule writes it.
        segments: what is between slashes; None for a named one.
        names: of the named segments, in order.
    """

    text: str
    segments: tuple[str | None, ...]
    names: tuple[str, ...]

    @property
    def shape(self) -> str:
        """The path without the names: two templates that match the same paths have the same."""
        return "/".join("{}" if segment is None else segment for segment in self.segments)

    def match(self, path: str) -> dict[str, str] | None:
        """The named segments of a path; None when it does not match."""
        given = path.split("/")
        if len(given) != len(self.segments):
            return None
        found = []
        for segment, text in zip(self.segments, given, strict=True):
            if segment is None:
                if not 0 < len(text) <= _LONGEST_VALUE or "\0" in text:
                    return None
                found.append(text)
            elif segment != text:
                return None
        return dict(zip(self.names, found, strict=True))


def path_of(text: str) -> PathTemplate | None:
    """Read a path; None when it is none."""
    if len(text) > LONGEST_PATH or not _PATH.fullmatch(text):
        return None
    parts = text.split("/")
    names = tuple(part[1:-1] for part in parts if part.startswith("{"))
    if len(set(names)) < len(names):
        return None
    return PathTemplate(text, tuple(None if part.startswith("{") else part for part in parts), names)
