"""Compiles and evaluates CEL in this process. Time and memory are not bounded here: see :mod:`attune_kit.cel.evaluator`."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from attune_contract.calendar import zones
from attune_kit.cel.tokens import RENAMED, adapted, names, renamed, stand_in, string_calls

#: The longest expression, in characters.
LONGEST: Final = 4096
_EXTENSIONS: Final = (
    "optional", "strings", "lists", "sets", "two-var-comprehensions", "math", "encoders",
)  # fmt: skip
#: Variables that policies have in Kubernetes, and no event has.
_NOT_HERE: Final = frozenset({"request", "params", "namespaceObject", "authorizer", "variables", "self", "oldSelf"})
_ZONED: Final = frozenset(
    {"getFullYear", "getMonth", "getDayOfMonth", "getDate", "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes",
     "getSeconds", "getMilliseconds"}
)  # fmt: skip
_PATTERNS: Final = frozenset({"matches", "find", "findAll"})
_CONVERSIONS: Final = frozenset({"duration", "timestamp", "quantity", "url", "ip", "cidr", "semver"})
_WHERE: Final = re.compile(r"(?:ERROR: )?(?:<input>:)?(-?\d+):(-?\d+): ")


class ExpressionError(ValueError):
    """An expression cannot be used. The text says why; ``column`` (from 1) says where, 0 when that is not known."""

    def __init__(self, message: str, *, column: int = 0) -> None:
        super().__init__(f"column {column}: {message}" if column else message)
        self.reason = message
        self.column = column


class EvaluationError(Exception):
    """An evaluation has no result: a field is missing, types do not fit, or it needs too much."""


class Expression:
    """A compiled expression.

    Args:
        text: the expression.
        variables: what it may read; each of any type.
        condition: whether its result must be true or false.

    Raises:
        ExpressionError: it cannot be used.
    """

    def __init__(self, text: str, *, variables: Sequence[str], condition: bool = False) -> None:
        from cel_expr_python import cel

        if len(text) > LONGEST:
            raise ExpressionError(f"it has {len(text)} characters; at most {LONGEST} are allowed")
        environment = _environment(tuple(variables))
        try:
            written = environment.compile(renamed(text))
            self._compiled = environment.compile(adapted(text, variables=variables))
        except RuntimeError as error:
            raise _compile_error(error, text, variables) from None
        kind = written.return_type()
        if condition and kind not in (cel.Type.BOOL, cel.Type.DYN):
            raise ExpressionError(f"it gives {kind.name().lower()}; expected true or false")
        _check_constants(text, environment)
        self._variables = tuple(variables)
        self._condition = condition
        self.names = names(text)

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """The result as JSON has it.

        Args:
            values: the variables, as JSON has them.

        Raises:
            EvaluationError: there is none.
        """
        from cel_expr_python import cel

        data = dict(values)
        for name in self._variables:
            value = data.setdefault(name, None)
            data[stand_in(name)] = value if isinstance(value, dict) else {}
        try:
            found = self._compiled.eval(data=data)
            if found.type() == cel.Type.ERROR:
                raise EvaluationError(_sentence(str(found.value())))
            result = plain(found.plain_value())
        except EvaluationError:
            raise
        except Exception as error:  # whatever the runtime raises is one evaluation that failed
            raise EvaluationError(_sentence(str(error)) or type(error).__name__) from None
        if self._condition and not isinstance(result, bool):
            raise EvaluationError(f"it gives {_kind(result)}; expected true or false")
        return result


@lru_cache(maxsize=16)
def _environment(variables: tuple[str, ...]) -> Any:
    from cel_expr_python import cel

    from attune_kit.cel.functions import declarations

    # The runtime reads time zones by itself, from where this variable says.
    if (folder := zones.shipped().folder) is not None:
        os.environ["TZDIR"] = folder
    config = cel.NewEnvConfigFromYaml("extensions:\n" + "".join(f"- name: {name}\n" for name in _EXTENSIONS))
    known = {name: cel.Type.DYN for variable in variables for name in (variable, stand_in(variable))}
    return cel.NewEnv(config=config, variables=known, functions=declarations())


def _compile_error(error: Exception, text: str, variables: Sequence[str]) -> ExpressionError:
    first = str(error).partition("\n")[0].removeprefix("INVALID_ARGUMENT: ").strip()
    match = _WHERE.match(first)
    column = max(0, int(match[2])) if match and int(match[1]) == 1 else 0
    message = _sentence(first)
    for name, ours in RENAMED.items():
        message = message.replace(f"'{ours}'", f"'{name}'")
    undeclared = re.search(r"undeclared reference to '([A-Za-z_][A-Za-z0-9_.]*)'", message)
    if undeclared is not None:
        name = undeclared[1].partition(".")[0]
        here = f"expected one of: {', '.join(variables)}"
        if name in _NOT_HERE:
            message = f"{name} is not available here; {here}"
        elif re.search(rf"(?<![.\w]){re.escape(name)}\s*\(", text) or f".{name}" in text:
            message = f"unknown function {name}"
        else:
            message = f"unknown variable {name}; {here}"
        if column:
            # The runtime counts to the opening bracket of a call; people look for the name.
            found = text.rfind(name, 0, column + len(name))
            column = found + 1 if found >= 0 else column
    if "recursion depth" in message:
        message, column = "it is nested too deeply: at most 32 levels; a chain of + or ?: counts each", 0
    return ExpressionError(message, column=column)


def _check_constants(text: str, environment: Any) -> None:
    """Regular expressions, zones and the like that are written as constants are tried now, not at the first event."""
    from cel_expr_python import cel

    for name, constant, member, start in string_calls(text):
        if member and name in _PATTERNS:
            probe = f"''.{name}({constant})"
        elif member and name in _ZONED:
            probe = f"timestamp('2026-01-01T00:00:00Z').{name}({constant})"
        elif not member and name in _CONVERSIONS:
            probe = f"{name}({constant})"
        else:
            continue
        try:
            found = environment.compile(probe).eval(data={})
            problem = _sentence(str(found.value())) if found.type() == cel.Type.ERROR else ""
        except Exception as error:
            problem = _sentence(str(error))
        if problem:
            what = "time zone" if name in _ZONED else "regular expression" if name in _PATTERNS else name
            raise ExpressionError(f"{constant} is not a valid {what}: {problem}", column=start + 1)


def _sentence(text: str) -> str:
    """The first line, without what the runtime puts around it."""
    text = _WHERE.sub("", text.partition("\n")[0].strip())
    text = re.sub(r"^(?:[A-Z_]+: )+", "", text)
    text = _WHERE.sub("", text)
    return re.sub(r" \[[A-Z_]+\]$| \(in container ''\)", "", text)


def _kind(value: Any) -> str:
    return {str: "a text", dict: "an object", list: "a list", int: "a number", float: "a number"}.get(
        type(value), "null"
    )


def plain(value: Any) -> Any:
    """A result as JSON has it: keys are texts, times RFC 3339, durations seconds (``5400s``), bytes base64, and null where JSON
    has nothing (types, NaN, infinity).
    """
    match value:
        case dict():
            return {_key(key): plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case bool() | int() | str() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case timedelta():
            return f"{value.total_seconds():g}s" if value.microseconds else f"{value // timedelta(seconds=1)}s"
        case datetime():
            moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case bytes() | bytearray():
            import base64

            return base64.b64encode(bytes(value)).decode()
        case _:
            return None


def _key(key: Any) -> str:
    return ("true" if key else "false") if isinstance(key, bool) else str(key)
