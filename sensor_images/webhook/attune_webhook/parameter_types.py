"""Reads single values of a rule's parameters. Each function raises InvalidRuleError with a sentence for the rule's author."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

from attune_sensor import InvalidRuleError

_Choice = TypeVar("_Choice", bound=StrEnum)
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_FIELD: Final = re.compile(r"[^.\s{}]{1,128}(\.[^.\s{}]{1,128}){0,15}")


def known_fields(found: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    """Refuse fields that do not exist."""
    if unknown := sorted(set(found) - known):
        raise InvalidRuleError(f"{where}.{unknown[0]}: unknown field; expected one of: {', '.join(sorted(known))}")


def whole_number(value: Any, where: str, least: int, most: int) -> int:
    """A whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidRuleError(f"{where}: expected a whole number from {least} to {most}; got {value!r}")
    return value


def text(value: Any, where: str, longest: int) -> str:
    """A printable ASCII text of at most so many characters; it may be empty."""
    if (
        not isinstance(value, str)
        or len(value) > longest
        or not (value.isascii() and (not value or value.isprintable()))
    ):
        raise InvalidRuleError(f"{where}: expected a text of at most {longest} printable characters; got {value!r}")
    return value


def flag(value: Any, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidRuleError(f"{where}: expected true or false; got {value!r}")
    return value


def header_name(value: Any, where: str) -> str:
    """The name of a header, in lower case."""
    if not isinstance(value, str) or not _HEADER.fullmatch(value):
        raise InvalidRuleError(f"{where}: expected the name of a header, like X-GitHub-Event; got {value!r}")
    return value.lower()


def field_path(value: Any, where: str) -> str:
    """The path of a field in the body."""
    if not isinstance(value, str) or not _FIELD.fullmatch(value):
        raise InvalidRuleError(f"{where}: expected the path of a field, like data.id; got {value!r}")
    return value


def choice(value: Any, where: str, choices: type[_Choice], *, among: tuple[str, ...] | None = None) -> _Choice:
    """One of a few words: ``among`` those that are allowed, or any of ``choices``."""
    allowed = [each.value for each in choices] if among is None else list(among)
    if value not in allowed:
        raise InvalidRuleError(f"{where}: expected one of: {', '.join(allowed)}; got {value!r}")
    return choices(value)
