"""Argo's ``a && b``: a trigger that waits for several events becomes a Rule with ``core.all``, about a Rule for each of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attune_cli.convert.expressions import literal

#: Argo waits without an end; a Rule for as long as one can.
_WITHIN: Final = "744h"


def names_of(conditions: str, dependencies: Sequence[str]) -> list[str] | None:
    """The dependencies that must all have come; None when the conditions say something else.

    Args:
        conditions: ``a && b``; empty for all.
        dependencies: all there are.
    """
    if any(sign in conditions for sign in ("||", "!", "(")):
        return None
    names = [each.strip() for each in conditions.split("&&")] if conditions else list(dependencies)
    return names if len(names) > 1 else None


def parameters_of(rules: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The parameters of ``core.all``.

    Args:
        rules: the Rule of each dependency, and what its filters ask for.
    """
    ways = []
    for rule, conditions in rules.items():
        parts = [
            f"event.rule.name == {literal(rule)}",
            *(f"({each})" if " || " in each else each for each in conditions),
        ]
        ways.append(" && ".join(parts))
    when = {"when": " || ".join(f"({way})" for way in ways)} if any(rules.values()) else {}
    return {"rules": list(rules), "within": _WITHIN, **when}


def reads_events(action: Any) -> bool:
    """Whether an action has expressions: data of the events, which are several here."""
    match action:
        case str():
            return "${" in action.replace("$${", "")
        case dict():
            return any(map(reads_events, action.values()))
        case list():
            return any(map(reads_events, action))
    return False
