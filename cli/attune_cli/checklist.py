"""Prints checks, for ``attune status`` and ``attune doctor``."""

from collections.abc import Sequence
from typing import Final

import typer

from attune_cli.checks import Check, State
from attune_cli.output import Cell, Tone, print_table, printable

_TONES: Final[dict[State, Tone]] = {"ok": "good", "note": "waiting", "problem": "bad", "unknown": "waiting"}


def print_checks(found: Sequence[Check]) -> None:
    """Print a table of all, and below it what to do about each problem."""
    print_table(
        ("what", "state", ""),
        [(check.name, Cell(check.state, _TONES[check.state]), check.message) for check in found],
    )
    for check in found:
        if check.state == "problem" and check.advice:
            typer.echo(f"\n{printable(check.name)}: {printable(check.message)}\n  try: {printable(check.advice)}")
