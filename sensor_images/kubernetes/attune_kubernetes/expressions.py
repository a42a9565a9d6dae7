"""CEL on an object and on what it was before: compiled once, and bounded in what an evaluation may cost.

cel-cpp checks types when it compiles, has regular expressions of linear time, and ends an evaluation whose loops go on for more
than ten thousand steps.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from cel_expr_python import cel

from attune_sensor import InvalidRule

LONGEST: Final = 4096

_ENVIRONMENT: Final = cel.NewEnv(variables={"object": cel.Type.DYN, "oldObject": cel.Type.DYN})


class EvaluationError(Exception):
    """An evaluation came to nothing: a field is not there, or it took too long."""


class Expression:
    """One CEL expression.

    Args:
        text: the expression; it knows ``object`` and ``oldObject``.
        where: which parameter it is, for errors.
        condition: whether it must be true or false.

    Raises:
        InvalidRule: it is no expression.
    """

    def __init__(self, text: str, *, where: str, condition: bool = False) -> None:
        if len(text) > LONGEST:
            raise InvalidRule(f"{where} has {len(text)} characters; at most {LONGEST} are taken")
        try:
            self._compiled = _ENVIRONMENT.compile(text)
        except RuntimeError as error:
            raise InvalidRule(f"{where} is no CEL expression: {_sentence(error)}") from None
        kind = self._compiled.return_type()
        if condition and kind not in (cel.Type.BOOL, cel.Type.DYN):
            raise InvalidRule(f"{where} gives {kind.name()}; it must be true or false")
        self.mentions_old = "oldObject" in text

    def evaluate(self, current: Mapping[str, Any], old: Mapping[str, Any] | None) -> Any:
        """The value as JSON has it.

        Raises:
            EvaluationError: there is none.
        """
        try:
            found = self._compiled.eval(data={"object": current, "oldObject": old})
            if found.type() == cel.Type.ERROR:
                raise EvaluationError(str(found.value()))
            return _plain(found.plain_value())
        except RuntimeError as error:
            raise EvaluationError(_sentence(error)) from None


def _sentence(error: Exception) -> str:
    """The first line, without the code that cel-cpp puts around it."""
    text = str(error).partition("\n")[0].strip()
    for prefix in ("INVALID_ARGUMENT: ", "INTERNAL: ", "ERROR: ", "<input>:"):
        text = text.removeprefix(prefix)
    return text.partition(" [")[0]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    return bytes(value) if isinstance(value, bytearray) else value
