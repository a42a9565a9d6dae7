"""How answers are printed: a table for people, JSON and YAML for programs.

JSON and YAML have the same fields, named as in the API or in Kubernetes, and nothing is shortened in them. Tables may change from
version to version. Colour is for terminals only, and not even there when ``NO_COLOR`` is set (no-color.org).
"""

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import typer

Tone = Literal["good", "bad", "waiting"]
#: What colour a tone is, as terminals call it.
COLOURS: Final[dict[Tone, str]] = {"good": "green", "bad": "red", "waiting": "yellow"}
_GAP: Final = "   "


class Format(StrEnum):
    """Ways to print an answer."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[Format, typer.Option("--output", "-o", help="How to print the answer.")]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table whose meaning may be shown by colour."""

    text: str
    tone: Tone | None = None


def show(
    data: Any,
    output: Format,
    *,
    title: str = "",
    columns: Sequence[str] = (),
    rows: Iterable[Sequence[str | Cell]] = (),
) -> None:
    """Print an answer.

    Args:
        data: the answer as plain values, for JSON and YAML.
        output: how.
        title: what stands above the table; alone when there are no columns.
        columns: the table's heads.
        rows: its rows, with as many cells as there are columns.
    """
    match output:
        case Format.JSON:
            typer.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))
        case Format.YAML:
            typer.echo(as_yaml(data), nl=False)
        case Format.TABLE:
            if title:
                typer.echo(title)
            if columns:
                print_table(columns, rows)


def say(text: str) -> None:
    """A remark, on stderr: it is no part of the answer."""
    typer.echo(text, err=True)


def as_yaml(data: Any) -> str:
    """Plain values as YAML, in the order in which they are given."""
    import yaml

    text: str = yaml.safe_dump(
        json.loads(json.dumps(data, default=str)), sort_keys=False, allow_unicode=True, width=120
    )
    return text


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> None:
    """Print columns as kubectl does: no lines, heads in capitals. Nothing is cut."""
    heads = [Cell(head.upper()) for head in columns]
    cells = [[_clean(cell) for cell in row] for row in rows]
    widths = [max(width(row[i].text) for row in [heads, *cells]) for i in range(len(columns))]
    for row in [heads, *cells]:
        parts = [
            painted(cell.text, cell.tone) + " " * (wide - width(cell.text))
            for cell, wide in zip(row, widths, strict=True)
        ]
        typer.echo(_GAP.join(parts).rstrip())


def colours() -> bool:
    """Whether stdout is a terminal that wants colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, tone: Tone | None) -> str:
    """The text in its tone's colour, where stdout wants colours."""
    return typer.style(text, fg=COLOURS[tone]) if tone and colours() else text


def _clean(cell: str | Cell) -> Cell:
    cell = Cell(cell) if isinstance(cell, str) else cell
    return Cell(printable(cell.text), cell.tone)


def printable(text: str) -> str:
    """One line, without what would steer the terminal: a Rule's message or an event's payload is somebody else's text."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else " " if character in "\n\t\r" else ascii(character)[1:-1]
        for character in text
    )


def width(text: str) -> int:
    """How many columns of a terminal it takes (Unicode Standard Annex #11)."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
