"""The keyword ``x-attune-comparisons`` of schemas of parameters: what one parameter has to be in view of another.

JSON Schema judges each value by itself; "the end is not before the start" needs two. A comparison names two operands and how
they have to compare; the operator then says of a Rule that breaks it ``Accepted: False``, before any sensor sees it::

    x-attune-comparisons:
      - {left: end, is: ">=", right: start, message: the end is before the start}
      - {left: {property: interval, unit: unit}, is: ">=", right: 0.1, message: the shortest interval is 0.1 seconds}

An operand is the name of a property of the same object, a number, or a length of time: a property that holds a number, and one
that names its unit (seconds when it is absent). Numbers compare with numbers and times (RFC 3339) with times; a comparison one
of whose operands is absent, or of another type, holds: ``required`` and ``type`` speak of that. There is nothing in it that
repeats, so a check costs no more than the schema is long, whatever schema and document say (docs/decisions/0017 says why this is
not CEL).
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from attune_contract.schemas.formats import parse_time

KEYWORD: Final = "x-attune-comparisons"
#: Between the property that is blamed and the message, where only one text can be handed on. No name or message has it.
SEPARATOR: Final = "\0"
#: Comparisons that one object of a schema may have.
MAX_COMPARISONS: Final = 16
_MAX_MESSAGE: Final = 200
_MAX_NAME: Final = 100

#: By symbol: the comparison, and how it is said of numbers and of times.
_OPERATORS: Final[Mapping[str, tuple[Callable[[Any, Any], bool], str, str]]] = {
    "<": (operator.lt, "less than", "before"),
    "<=": (operator.le, "at most", "not after"),
    ">": (operator.gt, "more than", "after"),
    ">=": (operator.ge, "at least", "not before"),
    "==": (operator.eq, "equal to", "equal to"),
    "!=": (operator.ne, "different from", "different from"),
}
#: Seconds in each unit of a length of time.
UNITS: Final[Mapping[str, Decimal]] = {
    "milliseconds": Decimal("0.001"),
    "seconds": Decimal(1),
    "minutes": Decimal(60),
    "hours": Decimal(3600),
    "days": Decimal(86_400),
    "weeks": Decimal(604_800),
}


def _number(value: Any) -> Decimal | None:
    """A JSON number by its decimal form, in which 0.1 is a tenth; None for anything else."""
    return None if isinstance(value, bool) or not isinstance(value, int | float) else Decimal(str(value))


@dataclass(frozen=True, slots=True)
class _Literal:
    value: Decimal

    def of(self, _instance: Mapping[str, Any]) -> Decimal:
        return self.value

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class _Property:
    name: str

    def of(self, instance: Mapping[str, Any]) -> Decimal | datetime | None:
        value = instance.get(self.name)
        return parse_time(value) if isinstance(value, str) else _number(value)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class _Length:
    name: str
    unit: str

    def of(self, instance: Mapping[str, Any]) -> Decimal | None:
        value, unit = _number(instance.get(self.name)), instance.get(self.unit, "seconds")
        factor = UNITS.get(unit) if isinstance(unit, str) else None
        return None if value is None or factor is None else value * factor

    def __str__(self) -> str:
        return self.name


_Operand = _Literal | _Property | _Length


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison. ``place`` is the property that is blamed."""

    left: _Operand
    symbol: str
    right: _Operand
    message: str

    @property
    def place(self) -> str | None:
        """The first property that it names."""
        return next((each.name for each in (self.left, self.right) if not isinstance(each, _Literal)), None)

    def problem(self, instance: Mapping[str, Any]) -> str | None:
        """What is wrong with an object; None when the comparison holds or does not apply."""
        left, right = self.left.of(instance), self.right.of(instance)
        if left is None or right is None or type(left) is not type(right):
            return None
        holds, of_numbers, of_times = _OPERATORS[self.symbol]
        if holds(left, right):
            return None
        words = of_times if isinstance(left, datetime) else of_numbers
        return self.message or f"{self.left} has to be {words} {self.right}"


def parse_comparisons(value: Any) -> tuple[Comparison, ...]:
    """Read the keyword's value.

    Raises:
        ValueError: it is not what the module's docstring says; the text says where.
    """
    if not isinstance(value, list) or len(value) > MAX_COMPARISONS:
        raise ValueError(f"{KEYWORD} is a list of at most {MAX_COMPARISONS} comparisons")
    return tuple(_comparison(index, each) for index, each in enumerate(value))


def _comparison(index: int, value: Any) -> Comparison:
    where = f"{KEYWORD}[{index}]"
    if not isinstance(value, dict) or not {"left", "is", "right"} <= value.keys() <= {"left", "is", "right", "message"}:
        raise ValueError(f"{where} has left, is and right, and perhaps a message, and nothing else")
    symbol, message = value["is"], value.get("message", "")
    if not isinstance(symbol, str) or symbol not in _OPERATORS:
        raise ValueError(f"{where}.is is one of {' '.join(_OPERATORS)}")
    if not isinstance(message, str) or len(message) > _MAX_MESSAGE:
        raise ValueError(f"{where}.message is a text of at most {_MAX_MESSAGE} characters")
    left, right = _operand(f"{where}.left", value["left"]), _operand(f"{where}.right", value["right"])
    if isinstance(left, _Literal) and isinstance(right, _Literal):
        raise ValueError(f"{where} names no property")
    return Comparison(left, str(symbol), right, str(message))


def _operand(where: str, value: Any) -> _Operand:
    if isinstance(value, str) and len(value) <= _MAX_NAME:
        return _Property(str(value))
    if (number := _number(value)) is not None:
        return _Literal(number)
    if isinstance(value, dict) and value.keys() == {"property", "unit"}:
        name, unit = value["property"], value["unit"]
        if isinstance(name, str) and isinstance(unit, str) and max(len(name), len(unit)) <= _MAX_NAME:
            return _Length(str(name), str(unit))
    raise ValueError(f"{where} is the name of a property, a number, or {{property: …, unit: …}}")
