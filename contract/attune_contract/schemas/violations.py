"""What is wrong with a document, in words for the person who wrote it.

The library's own sentences are not used: they quote whole values, and an error about 500 KiB would be 500 KiB long.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jsonschema_rs import ValidationError, ValidationErrorKind

from attune_contract.schemas import comparisons
from attune_contract.schemas.formats import format_problem

#: Longest sentence about one mistake, in characters.
MAX_LENGTH: Final = 300
_SHOWN_ITEMS: Final = 12
_SHOWN_CHARACTERS: Final = 80
_SHOWN_LEVELS: Final = 3
_SHOWN_ALTERNATIVES: Final = 3

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Violation:
    """A place in a document that breaks a schema, and how."""

    path: Path
    message: str


def describe(violation: Violation, *, root: str) -> str:
    """A violation as ``parameters.interval: -1 is less than …``.

    Args:
        violation: what is wrong.
        root: what the document is called.
    """
    path = root
    for part in violation.path:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return cut(f"{path}: {violation.message}")


def cut(text: str) -> str:
    """A sentence of bounded length."""
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"


def show(value: Any, levels: int = _SHOWN_LEVELS) -> str:
    """A JSON value, shortened."""
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            start = value[:_SHOWN_CHARACTERS]
            return f"{start!r}{'…' if len(start) < len(value) else ''}"
        case list() | dict() if levels == 0:
            return "[…]" if isinstance(value, list) else "{…}"
        case list():
            shown = [show(item, levels - 1) for item in value[:_SHOWN_ITEMS]]
            return f"[{', '.join([*shown, '…'] if len(value) > _SHOWN_ITEMS else shown)}]"
        case dict():
            pairs = [f"{show(name)}: {show(value[name], levels - 1)}" for name in list(value)[:_SHOWN_ITEMS]]
            return f"{{{', '.join([*pairs, '…'] if len(value) > _SHOWN_ITEMS else pairs)}}}"
        case int() if abs(value) >= 1 << 256:
            return "a very large number"
    return repr(value)


def violation(error: ValidationError, *, schema: Any) -> Violation:
    """The violation that the library's error stands for. Of alternatives, the one that comes closest is named.

    Args:
        error: of the library.
        schema: the whole schema, decoded.
    """
    error = _closest(error)
    path: Path = tuple(error.instance_path)
    match error.kind:
        case ValidationErrorKind.Custom(_, message):
            place, separator, text = message.partition(comparisons.SEPARATOR)
            return Violation((*path, place), text) if separator else Violation(path, message)
        case ValidationErrorKind.AnyOf(context) | ValidationErrorKind.OneOfNotValid(context):
            return Violation(path, _no_alternative(error, context, schema))
        case ValidationErrorKind.PropertyNames(nested):
            return Violation(path, f"a property has the wrong name: {violation(nested, schema=schema).message}")
    return Violation(path, "".join(_message(error, schema)))


def _closest(error: ValidationError) -> ValidationError:
    """Of alternatives, the mistake that is deepest in the document, if there is one that is deeper than the others."""
    while isinstance(error.kind, ValidationErrorKind.AnyOf | ValidationErrorKind.OneOfNotValid):
        depth = len(error.instance_path)
        found = [nested for branch in error.kind.context for nested in branch if len(nested.instance_path) > depth]
        if not found:
            return error
        error = max(found, key=lambda nested: len(nested.instance_path))
    return error


def _no_alternative(error: ValidationError, context: Sequence[Sequence[ValidationError]], schema: Any) -> str:
    reasons = list(dict.fromkeys(violation(branch[0], schema=schema).message for branch in context if branch))
    shown = [cut(reason) for reason in reasons[:_SHOWN_ALTERNATIVES]]
    if len(reasons) == 1:
        return shown[0]
    more = [f"and {len(reasons) - len(shown)} more"] if len(reasons) > len(shown) else []
    return f"{show(error.instance)} fits none of the alternatives: {'; or '.join(shown + more)}"


def _message(error: ValidationError, schema: Any) -> Iterator[str]:
    kind, value = error.kind, error.instance
    shown = show(value)
    match kind:
        case ValidationErrorKind.Type(types):
            yield f"{shown} is not of type {' or '.join(repr(name) for name in types)}"
            if value is None:
                yield "; give it a value, or leave the field out"
        case ValidationErrorKind.Required(name):
            yield f"{show(name)} is a required property"
        case ValidationErrorKind.Enum(options):
            yield f"{shown} is not one of {show(options)}"
        case ValidationErrorKind.Constant(expected):
            yield f"{shown} is not {show(expected)}"
        case ValidationErrorKind.Pattern(pattern):
            yield f"{shown} does not match {show(pattern)}"
        case ValidationErrorKind.Format(name):
            yield format_problem(name, value) or f"{shown} is not of the format {name!r}"
        case ValidationErrorKind.AdditionalProperties(names) | ValidationErrorKind.UnevaluatedProperties(names):
            yield _unknown(names, _parent(schema, error))
        case ValidationErrorKind.FalseSchema() if error.schema_path[-1:] == ["additionalProperties"]:
            yield _unknown(list(value) if isinstance(value, dict) else [], {})
        case ValidationErrorKind.FalseSchema():
            yield f"{shown} is not allowed here"
        case ValidationErrorKind.UnevaluatedItems():
            yield f"{shown} has more items than are allowed"
        case ValidationErrorKind.Not():
            yield f"{shown} is what the schema excludes"
        case ValidationErrorKind.OneOfMultipleValid():
            yield f"{shown} fits more than one of the alternatives, and must fit exactly one"
        case ValidationErrorKind.UniqueItems():
            yield f"{shown} has non-unique elements"
        case ValidationErrorKind.Contains():
            yield f"{shown} has too few or too many of the items that it must contain"
        case ValidationErrorKind.MultipleOf(divisor):
            yield f"{shown} is not a multiple of {divisor}"
        case _:
            yield f"{shown} {_limits(kind)}"


_LIMITS: Final[Mapping[type[ValidationErrorKind], Callable[[Any], str]]] = {
    ValidationErrorKind.Minimum: lambda limit: f"is less than the minimum of {limit}",
    ValidationErrorKind.ExclusiveMinimum: lambda limit: f"is less than or equal to the minimum of {limit}",
    ValidationErrorKind.Maximum: lambda limit: f"is greater than the maximum of {limit}",
    ValidationErrorKind.ExclusiveMaximum: lambda limit: f"is greater than or equal to the maximum of {limit}",
    ValidationErrorKind.MinLength: lambda limit: f"has fewer than {limit} characters",
    ValidationErrorKind.MaxLength: lambda limit: f"has more than {limit} characters",
    ValidationErrorKind.MinItems: lambda limit: f"has fewer than {limit} items",
    ValidationErrorKind.MaxItems: lambda limit: f"has more than {limit} items",
    ValidationErrorKind.MinProperties: lambda limit: f"has fewer than {limit} properties",
    ValidationErrorKind.MaxProperties: lambda limit: f"has more than {limit} properties",
}


def _limits(kind: ValidationErrorKind) -> str:
    words = _LIMITS.get(type(kind))
    return f"breaks the keyword {kind.name}" if words is None else words(kind.as_dict()["limit"])


def _unknown(names: Sequence[str], parent: Mapping[str, Any]) -> str:
    shown = ", ".join(show(name) for name in sorted(names)[:_SHOWN_ITEMS])
    word = "property" if len(names) == 1 else "properties"
    known = parent.get("properties")
    if not known or not isinstance(known, dict):
        return (
            f"unknown {word} {shown}; none is allowed"
            if "patternProperties" not in parent
            else f"unknown {word} {shown}"
        )
    listed = sorted(known)
    expected = ", ".join([*listed[:_SHOWN_ITEMS], "…"] if len(listed) > _SHOWN_ITEMS else listed)
    return f"unknown {word} {shown}; expected one of: {expected}"


def _parent(schema: Any, error: ValidationError) -> Mapping[str, Any]:
    """The schema that has the keyword that was broken."""
    for step in error.schema_path[:-1]:
        try:
            schema = schema[step]
        except (KeyError, IndexError, TypeError):
            return {}
    return schema if isinstance(schema, dict) else {}
