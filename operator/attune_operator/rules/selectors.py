"""Label selectors with the semantics of Kubernetes ("Labels and Selectors", metav1.LabelSelector)."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

Labels = Mapping[str, str]


class InvalidSelectorError(ValueError):
    """A label selector that Kubernetes would refuse. The text says what is wrong."""


_OPERATORS: Final[dict[str, Callable[[Labels, str, frozenset[str]], bool]]] = {
    "In": lambda labels, key, values: labels.get(key) in values,
    # As in Kubernetes, an absent label is "not in" and "does not exist".
    "NotIn": lambda labels, key, values: key not in labels or labels[key] not in values,
    "Exists": lambda labels, key, values: key in labels,
    "DoesNotExist": lambda labels, key, values: key not in labels,
}

_Requirement = tuple[str, str, frozenset[str]]


@lru_cache(maxsize=1024)
def _requirements(selector: bytes) -> tuple[_Requirement, ...]:
    parsed: Any = msgspec.json.decode(selector or b"{}")
    if not isinstance(parsed, dict):
        raise InvalidSelectorError("the selector is not an object")
    match_labels, expressions = parsed.get("matchLabels") or {}, parsed.get("matchExpressions") or []
    if not isinstance(match_labels, dict) or not isinstance(expressions, list):
        raise InvalidSelectorError("matchLabels is not an object, or matchExpressions is not a list")
    if unknown := sorted(set(parsed) - {"matchLabels", "matchExpressions"}):
        raise InvalidSelectorError(f"unknown field {unknown[0]!r}; expected one of: matchLabels, matchExpressions")
    found: list[_Requirement] = [(str(key), "In", frozenset([str(value)])) for key, value in match_labels.items()]
    for expression in expressions:
        if not isinstance(expression, dict) or not isinstance(expression.get("key"), str):
            raise InvalidSelectorError("an entry of matchExpressions has no key")
        operator, values = expression.get("operator"), expression.get("values") or []
        if operator not in _OPERATORS:
            raise InvalidSelectorError(f"unknown operator {operator!r}; expected one of: {', '.join(_OPERATORS)}")
        if not isinstance(values, list) or bool(values) != (operator in ("In", "NotIn")):
            raise InvalidSelectorError(
                f"{operator} of {expression['key']!r} {'requires' if not values else 'takes no'} values"
            )
        found.append((expression["key"], operator, frozenset(str(value) for value in values)))
    return tuple(found)


def matches(selector: bytes, labels: Labels) -> bool:
    """Whether the labels match the selector. An empty selector matches everything.

    Raises:
        InvalidSelectorError: the selector is invalid.
    """
    return all(_OPERATORS[operator](labels, key, values) for key, operator, values in _requirements(selector))


def describe(selector: bytes) -> str:
    """Return the selector in the syntax of ``kubectl --selector``, for messages."""
    try:
        requirements = _requirements(selector)
    except InvalidSelectorError as error:
        return f"an invalid selector ({error})"
    texts = []
    for key, operator, values in requirements:
        listed = ",".join(sorted(values))
        match operator:
            case "In" if len(values) == 1:
                texts.append(f"{key}={listed}")
            case "In":
                texts.append(f"{key} in ({listed})")
            case "NotIn":
                texts.append(f"{key} notin ({listed})")
            case "Exists":
                texts.append(key)
            case _:
                texts.append(f"!{key}")
    return ",".join(texts) or "everything"
