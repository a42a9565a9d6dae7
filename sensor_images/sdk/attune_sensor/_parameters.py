"""A rule's parameters as a type, and what is wrong with them in words for its author."""

from typing import Any, TypeVar, cast

import msgspec

from attune_kit.parameters import microseconds, sentence
from attune_sensor._errors import InvalidRuleError

P = TypeVar("P")


def read_parameters(parameters: dict[str, Any], wanted: type[P] | None) -> P:
    """A rule's parameters as a type.

    Args:
        parameters: as the rule says them.
        wanted: a type of msgspec or a pydantic model; None: as they are.

    Raises:
        InvalidRuleError: they do not fit; the text names each field that is wrong.
    """
    if wanted is None:
        return cast("P", parameters)
    # pydantic is not imported for those who do not use it: it costs memory.
    validate = getattr(wanted, "model_validate", None)
    try:
        if validate is not None:
            return cast("P", validate(parameters))
        return msgspec.convert(parameters, type=wanted)
    except ValueError as error:
        raise InvalidRuleError(_sentence(error)) from None


def read_duration(text: str, name: str) -> int:
    """A duration among a rule's parameters, in microseconds.

    Args:
        text: like ``24h``, ``1h30m`` or ``500ms``.
        name: the parameter's.

    Raises:
        InvalidRuleError: it is none.
    """
    try:
        return microseconds(text)
    except ValueError as error:
        raise InvalidRuleError(f"parameters.{name}: {error}") from None


def _sentence(error: ValueError) -> str:
    problems = getattr(error, "errors", None)
    if problems is None:
        return sentence(error)
    sentences = []
    for problem in problems():
        place = ".".join(["parameters", *(str(part) for part in problem["loc"])])
        sentences.append(f"{place}: {problem['msg']}")
    return "; ".join(sentences)
