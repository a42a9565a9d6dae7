"""Texts with expressions in them: ``"${event.rule.name} failed"``, as kro writes them. Pure; nothing is evaluated here.

A text that is one ``${…}`` keeps the value's type; in any other text the values become text. ``$${`` is a literal ``${``.
Results are put in after everything is parsed, and never read again: a ``${`` in a result is text.

Who has a JSON value with templates collects its expressions, evaluates them together, and renders::

    found = expressions_in(body)
    results = await evaluate({expression.source for _, expression in found})
    body = render(body, results)
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from attune_kit.cel.tokens import OPEN, scan

#: Where a text is in a JSON value: keys and indexes from its root.
Path = tuple[str | int, ...]
#: The longest expression, as :data:`attune_kit.cel.library.LONGEST`.
LONGEST: Final = 4096
#: So deeply values may be nested.
MOST_LEVELS: Final = 64


class TemplateError(ValueError):
    """A text is no template. ``column`` (from 1) says where in it."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"column {column}: {message}")
        self.reason = message
        self.column = column


@dataclass(frozen=True, slots=True)
class Expression:
    """What stands between ``${`` and ``}``, without blanks around it.

    Attributes:
        source: the expression.
        column: where it begins in the text, from 1.
    """

    source: str
    column: int


@dataclass(frozen=True, slots=True)
class Template:
    """A text as literals and expressions."""

    parts: tuple[str | Expression, ...]

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """The expressions in order."""
        return tuple(part for part in self.parts if isinstance(part, Expression))

    @property
    def only_expression(self) -> Expression | None:
        """The expression, when the text is one and nothing else: then the value keeps its type."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Expression):
            return self.parts[0]
        return None

    def render(self, results: Mapping[str, Any]) -> Any:
        """The text with results in place of expressions.

        Args:
            results: by expression, as JSON has them.

        Raises:
            KeyError: an expression has no result.
        """
        only = self.only_expression
        if only is not None:
            return results[only.source]
        return "".join(part if isinstance(part, str) else as_text(results[part.source]) for part in self.parts)


@lru_cache(maxsize=4096)
def parse(text: str) -> Template:
    """Read a text.

    Raises:
        TemplateError: an expression has no end, or is empty.
    """
    parts: list[str | Expression] = []
    literal: list[str] = []
    at = 0
    while (found := text.find("${", at)) >= 0:
        if found > at and text[found - 1] == "$":
            literal.append(text[at : found - 1] + "${")
            at = found + 2
            continue
        literal.append(text[at:found])
        end = _end(text, found)
        inner = text[found + 2 : end]
        source = inner.strip()
        if not source:
            raise TemplateError("there is no expression between ${ and }; write $${ for a literal ${", found + 1)
        if "".join(literal):
            parts.append("".join(literal))
        literal = []
        parts.append(Expression(source, found + 3 + len(inner) - len(inner.lstrip())))
        at = end + 1
    literal.append(text[at:])
    if "".join(literal):
        parts.append("".join(literal))
    return Template(tuple(parts))


def _end(text: str, opening: int) -> int:
    """Where the ``}`` is that ends the expression whose ``${`` is at ``opening``."""
    waiting: list[str] = []
    for token in scan(text, opening + 1):
        if token.start - opening > LONGEST:
            raise TemplateError(f"the expression that begins here has more than {LONGEST} characters", opening + 1)
        if token.kind == "mark" and token.text in OPEN:
            waiting.append(OPEN[token.text])
        elif token.kind == "mark" and token.text == waiting[-1]:
            waiting.pop()
            if not waiting:
                return token.start
    raise TemplateError("the expression that begins here has no closing }; write $${ for a literal ${", opening + 1)


def as_text(value: Any) -> str:
    """A value within a text: texts as they are, null as nothing, all else as JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def expressions_in(value: Any) -> list[tuple[Path, Expression]]:
    """All expressions in the texts of a JSON value, in order, each with where its text is. Keys of objects are no templates.

    Raises:
        TemplateError: a text is no template. ``path`` of :class:`LocatedTemplateError` says which one.
    """
    return [(path, expression) for path, text in texts_in(value) for expression in _parsed(path, text).expressions]


class LocatedTemplateError(TemplateError):
    """A text within a JSON value is no template. ``path`` says where it is."""

    def __init__(self, path: Path, error: TemplateError) -> None:
        super().__init__(error.reason, error.column)
        self.path = path


def _parsed(path: Path, text: str) -> Template:
    try:
        return parse(text)
    except TemplateError as error:
        raise LocatedTemplateError(path, error) from None


def texts_in(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """All texts that may be templates, each with where it is."""
    if len(path) > MOST_LEVELS:
        raise LocatedTemplateError(path, TemplateError(f"this is nested more deeply than {MOST_LEVELS} levels", 1))
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts_in(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from texts_in(inner, (*path, index))


def render(value: Any, results: Mapping[str, Any]) -> Any:
    """The JSON value with results in place of expressions.

    Args:
        value: JSON with templates in its texts.
        results: by expression, as JSON has them.

    Raises:
        TemplateError: a text is no template.
        KeyError: an expression has no result.
    """
    if isinstance(value, str):
        return parse(value).render(results) if "${" in value else value
    if isinstance(value, Mapping):
        return {key: render(inner, results) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [render(inner, results) for inner in value]
    return value
