"""Patterns of paths. Pure."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

#: Parts ``**`` in one pattern.
MOST_DEEP = 3


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path is of a pattern.

    Args:
        parts: the path below the folder, in parts.
        pattern: the pattern, in parts: ``*``, ``?`` and ``[a-z]`` are within a part, ``**`` is any number of parts.
    """
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(matches(parts[skip:], pattern[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


def depth_of(pattern: Sequence[str]) -> int | None:
    """How many folders below the first a pattern reaches; None: any number."""
    return None if "**" in pattern else len(pattern) - 1
