"""What tells several rules on one path apart: the parameter ``when``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from attune_sensor import InvalidRuleError
from attune_webhook.http.request import Request, field_of
from attune_webhook.parameter_types import field_path, header_name, known_fields

_WHERE: Final = "parameters.when"
_MOST_CONDITIONS: Final = 16
_MOST_VALUES: Final = 64

_Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Headers and fields of the body with the values that they may have. All must hold; without any, every request does.

    Two conditions are equal when they say the same.
    """

    headers: frozenset[tuple[str, frozenset[str]]] = frozenset()
    fields: frozenset[tuple[str, frozenset[tuple[str, _Value]]]] = frozenset()

    def holds(self, request: Request) -> bool:
        """Whether the request is one of those that the rule asks for."""
        if any(request.headers.get(name) not in values for name, values in self.headers):
            return False
        return all(_typed(field_of(request.read.data, path)) in values for path, values in self.fields)

    def __bool__(self) -> bool:
        return bool(self.headers or self.fields)


#: The condition of a rule that names none.
ANY_REQUEST: Final = Condition()


def condition_of(value: Any) -> Condition:
    """Read the parameter.

    Raises:
        InvalidRuleError: it cannot be used.
    """
    if value is None:
        return ANY_REQUEST
    if not isinstance(value, dict):
        raise InvalidRuleError(f"{_WHERE}: expected headers or fields with their values; got {value!r}")
    known_fields(value, frozenset({"headers", "fields"}), _WHERE)
    headers, fields = _mapping(value, "headers"), _mapping(value, "fields")
    if not headers and not fields:
        raise InvalidRuleError(f"{_WHERE}: expected at least one header or field")
    return Condition(
        headers=frozenset(
            (header_name(name, f"{_WHERE}.headers"), _texts(values, f"{_WHERE}.headers.{name}"))
            for name, values in headers.items()
        ),
        fields=frozenset(
            (field_path(path, f"{_WHERE}.fields"), _values(values, f"{_WHERE}.fields.{path}"))
            for path, values in fields.items()
        ),
    )


def _mapping(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name, {})
    if not isinstance(found, dict) or len(found) > _MOST_CONDITIONS:
        raise InvalidRuleError(f"{_WHERE}.{name}: expected at most {_MOST_CONDITIONS} names with values; got {found!r}")
    return found


def _texts(value: Any, where: str) -> frozenset[str]:
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= _MOST_VALUES or not all(isinstance(each, str) for each in values):
        raise InvalidRuleError(f"{where}: expected a text, or a list of 1 to {_MOST_VALUES}; got {value!r}")
    return frozenset(values)


def _values(value: Any, where: str) -> frozenset[tuple[str, _Value]]:
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= _MOST_VALUES or any(isinstance(each, dict | list) for each in values):
        raise InvalidRuleError(
            f"{where}: expected a text, number, true, false or null, or a list of them; got {value!r}"
        )
    return frozenset(_typed(each) for each in values)


def _typed(value: Any) -> tuple[str, _Value]:
    """A value with its JSON type, since Python takes 1 and true for the same."""
    match value:
        case bool():
            return "boolean", value
        case int() | float():
            return "number", value
        case str():
            return "string", value
        case None:
            return "null", None
        case _:
            return "other", None
