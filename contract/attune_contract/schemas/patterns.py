"""How much work a regular expression is, before it runs.

Patterns run in Rust's ``regex``, whose time is linear in the text. The factor is the number of places in the pattern: when
its automaton outgrows its cache, each character is tried at each place. ``[ab]*a[ab]{1000}`` over 40 KB takes 1.3 s. So
places are counted here, and a check is refused when places times characters are too many (:mod:`.cost`).
"""

import re
from typing import Final

#: Places of all patterns of a schema together. Compiling takes some 10 µs for each.
MAX_PLACES: Final = 3000
#: Up to so many places an automaton has at most 256 states, which always fit into its cache.
SMALL: Final = 8

# A class of Unicode characters is an automaton of its own over UTF-8.
_UNICODE: Final = 4
_PROPERTY: Final = 30
_REPEAT: Final = re.compile(r"\{\s*(\d*)\s*(,?)\s*(\d*)\s*\}")
_GROUP: Final = re.compile(r"\?(?:P?<[^>]*>|[a-zA-Z-]*:?)")
_BRACED: Final = re.compile(r"\{[^}]*\}")


def places(pattern: str) -> int:
    """At how many places of the pattern a match can be at once, at most: literals and classes, times their repetitions.

    A pattern that is not valid has some number too; the compiler refuses it.
    """
    groups, last, index = [0], 0, 0
    while index < len(pattern):
        char = pattern[index]
        index += 1
        if char == "(":
            groups.append(0)
            last = 0
            if group := _GROUP.match(pattern, index):
                index = group.end()
        elif char == ")":
            last = groups.pop() if len(groups) > 1 else last
            groups[-1] += last
        elif char == "{" and (repeat := _REPEAT.match(pattern, index - 1)):
            least, comma, most = repeat.groups()
            # "{n,}" is n and a loop. One is counted already.
            times = int(most or 0) or int(least or 0) + bool(comma)
            groups[-1] += last * (max(times, 1) - 1)
            index = repeat.end()
        elif char not in "|?*+^$":
            last, index = _atom(pattern, char, index)
            groups[-1] += last
        if groups[-1] > 10 * MAX_PLACES:
            break
    total = sum(groups)
    return 2 * total if "(?" in pattern and "i" in pattern else total


def _atom(pattern: str, char: str, index: int) -> tuple[int, int]:
    """The places of one character or class, and where it ends."""
    if char == "[":
        return _character_class(pattern, index)
    if char == ".":
        return _UNICODE, index
    if char != "\\":
        return len(char.encode("utf-8", "replace")), index
    escaped = pattern[index : index + 1]
    index += 1
    if escaped in "pPxuU" and escaped:
        braces = _BRACED.match(pattern, index)
        return (_PROPERTY if escaped in "pP" else 4), braces.end() if braces else index + 1
    return (_UNICODE if escaped in "wWdDsS" else 1), index


def _character_class(pattern: str, index: int) -> tuple[int, int]:
    """``[…]``, which may hold others. ASCII alone is one place."""
    weight = _UNICODE if pattern[index : index + 1] == "^" else 1
    start, depth = index, 1
    while index < len(pattern) and depth:
        char = pattern[index]
        index += 1
        if char == "\\":
            weight = max(weight, _PROPERTY if pattern[index : index + 1] in ("p", "P") else _UNICODE)
            index += 1
        elif char == "[":
            depth, weight = depth + 1, max(weight, _UNICODE)
        elif char == "]" and index - 1 > start + (pattern[start : start + 1] == "^"):
            depth -= 1
        elif not char.isascii():
            weight = _PROPERTY
    return weight, index
