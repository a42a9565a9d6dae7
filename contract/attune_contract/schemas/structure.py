"""What a schema consists of, and which part of it looks at which value.

A schema of a stranger is taken only if this much is bounded: its size, how deep it is nested, how references follow each
other, and its patterns. What a check then costs is counted from the parts (:mod:`.cost`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from attune_contract.schemas import comparisons, patterns

#: Objects that a schema may consist of.
MAX_PARTS: Final = 1000
#: How deep a schema may be nested, in objects and lists.
MAX_NESTING: Final = 64
#: References and alternatives that may apply to one value one inside the other; each is a frame on the stack.
MAX_IN_PLACE: Final = 100

# Units of cost for keywords that cost more than a comparison (30 ns).
_FORMATS: Final[Mapping[str, int]] = {
    "date": 100,
    "date-time": 100,
    "timezone": 100,
    "cron": 8000,
    "cron-calendar": 8000,
}
_COMPARISON: Final = 150
_FRACTION: Final = 1000  # multipleOf with a fraction, computed exactly
_UNIQUE_ITEM: Final = 25
_PLACE: Final = 1.5  # a place of a pattern, for each character
_SMALL_PATTERN: Final = 0.1  # any pattern that has its whole automaton in the cache
_LENGTH: Final = 0.002  # minLength and maxLength, for each character
#: The library looks for what was not evaluated by evaluating it again, several times.
_UNEVALUATED: Final = 4

_ALTERNATIVES: Final = ("anyOf", "oneOf")
_IN_PLACE: Final = ("not", "if", "then", "else")
_NOT_SUPPORTED: Final = ("$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary")
#: Keywords that can be broken.
_ASSERTIONS: Final = frozenset(
    {
        *("type", "enum", "const", "format", "pattern", "minLength", "maxLength", "multipleOf"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
        *("minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains", "unevaluatedItems"),
        *("minProperties", "maxProperties", "required", "dependentRequired", "propertyNames"),
        *("additionalProperties", "unevaluatedProperties", "not", "anyOf", "oneOf", comparisons.KEYWORD),
    }
)


class UnusableSchemaError(ValueError):
    """The schema itself is wrong, or needs something that is not supported. The text says what."""


@dataclass(frozen=True, slots=True)
class InPlace:
    """A part that looks at the same value as another: how many times, and whether it is one of several alternatives."""

    part: int
    times: int
    alternative: bool


@dataclass(slots=True)
class Part:
    """One schema in the schema: what it costs by itself, and which parts look at the same value or at those below.

    Attributes:
        units: what its keywords cost for a value.
        per_character: the same for each character of a text, or of the names of an object's members.
        per_descendant: the same for each value below.
        mistakes: how many it can find at a value.
        in_place: parts that look at the same value.
        named: parts that look at members of these names.
        others: parts that look at members of other names.
        prefix: parts that look at the first items.
        items: parts that look at the other items.
        all_below: parts that may look at each value below, or at the name of each member.
    """

    units: float = 1.0
    per_character: float = 0.0
    per_descendant: float = 0.0
    mistakes: float = 0.0
    in_place: list[InPlace] = field(default_factory=list)
    named: dict[str, int] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)
    prefix: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    all_below: list[int] = field(default_factory=list)


def read_parts(schema: Any) -> tuple[list[Part], list[int]]:
    """Take a schema apart.

    Args:
        schema: decoded.

    Returns:
        The parts, the whole first; and their numbers in an order in which each comes after all that look at the same value
        because of it.

    Raises:
        UnusableSchemaError: a reference leads out of the schema or back to itself, or something is too large.
    """
    _check_size(schema)
    parts = _Reader(schema).parts
    return parts, _in_place_order(parts)


class _Reader:
    def __init__(self, schema: Any) -> None:
        self._root = schema
        self.parts: list[Part] = []
        self._numbers: dict[int, int] = {}
        self._anchors: dict[str, Any] = {}
        self._places = 0
        self._waiting: list[tuple[int, Any]] = []
        self._collect_anchors(schema)
        self._number(schema)
        while self._waiting:
            number, part = self._waiting.pop()
            self.parts[number] = self._read(part)

    def _collect_anchors(self, value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(anchor := value.get("$anchor"), str):
                self._anchors[anchor] = value
            for item in value.values():
                self._collect_anchors(item)
        elif isinstance(value, list):
            for item in value:
                self._collect_anchors(item)

    def _number(self, schema: Any) -> int:
        """The number of a part; one that is new is read later."""
        if not isinstance(schema, dict):
            self.parts.append(Part(mistakes=float(schema is False)))
            return len(self.parts) - 1
        number = self._numbers.setdefault(id(schema), len(self.parts))
        if number == len(self.parts):
            self.parts.append(Part())
            self._waiting.append((number, schema))
        return number

    def _read(self, schema: Mapping[str, Any]) -> Part:
        if schema is not self._root and "$id" in schema:
            raise UnusableSchemaError("$id is supported at the root only")
        for keyword in _NOT_SUPPORTED:
            if keyword in schema:
                raise UnusableSchemaError(f"{keyword} is not supported")
        times = _UNEVALUATED if {"unevaluatedProperties", "unevaluatedItems"} & schema.keys() else 1
        return Part(
            units=1.0 + len(schema) + sum(map(_units, schema.items())),
            per_character=sum(self._per_character(schema)),
            per_descendant=_UNIQUE_ITEM if schema.get("uniqueItems") is True else 0.0,
            mistakes=float(len(_ASSERTIONS & schema.keys()) + len(_list(schema, "required"))),
            in_place=[InPlace(self._number(each), times, alone) for each, alone in self._same_value(schema)],
            named={name: self._number(each) for name, each in _mapping(schema, "properties").items()},
            others=self._present(schema, "additionalProperties", "unevaluatedProperties"),
            prefix=[self._number(each) for each in _list(schema, "prefixItems")],
            items=self._present(schema, "items", "unevaluatedItems"),
            all_below=[
                *(self._number(each) for each in _mapping(schema, "patternProperties").values()),
                *self._present(schema, "contains", "propertyNames"),
            ],
        )

    def _present(self, schema: Mapping[str, Any], *keywords: str) -> list[int]:
        return [self._number(schema[each]) for each in keywords if isinstance(schema.get(each), dict | bool)]

    def _same_value(self, schema: Mapping[str, Any]) -> Iterator[tuple[Any, bool]]:
        if "$ref" in schema:
            yield self._resolve(schema["$ref"]), False
        for each in _list(schema, "allOf"):
            yield each, False
        for keyword in _ALTERNATIVES:
            for each in _list(schema, keyword):
                yield each, True
        for keyword in _IN_PLACE:
            if keyword in schema:
                yield schema[keyword], False
        for each in _mapping(schema, "dependentSchemas").values():
            yield each, False

    def _resolve(self, reference: Any) -> Any:
        if not isinstance(reference, str):
            raise UnusableSchemaError("$ref is not a string")
        base, _, fragment = reference.partition("#")
        if base and not (isinstance(self._root, dict) and self._root.get("$id") == base):
            raise UnusableSchemaError(
                f"it refers to {reference[:200]!r}, which is not in it; only references within a schema are followed, "
                "so put the target under $defs"
            )
        found = self._find(unquote(fragment))
        if not isinstance(found, dict | bool):
            raise UnusableSchemaError(f"it refers to {reference[:200]!r}, which is not in it, or is not a schema")
        return found

    def _find(self, fragment: str) -> Any:
        """What a fragment points to (RFC 6901, or an anchor); None when there is no such thing."""
        if fragment and not fragment.startswith("/"):
            return self._anchors.get(fragment)
        found = self._root
        for escaped in fragment.split("/")[1:]:
            name = escaped.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(name)
            elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            else:
                return None
        return found

    def _per_character(self, schema: Mapping[str, Any]) -> Iterator[float]:
        yield _LENGTH * len({"minLength", "maxLength"} & schema.keys())
        found = [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
        for pattern in [*found, *_mapping(schema, "patternProperties")]:
            count = patterns.places(pattern)
            self._places += count
            if self._places > patterns.MAX_PLACES:
                raise UnusableSchemaError(
                    f"its patterns are too large: more than {patterns.MAX_PLACES} characters and classes, each as often as "
                    "it is repeated"
                )
            yield _SMALL_PATTERN if count <= patterns.SMALL else _PLACE * count


def _in_place_order(parts: list[Part]) -> list[int]:
    order: list[int] = []
    height = [0] * len(parts)  # 0: new, -1: begun
    for start in range(len(parts)):
        stack = [(start, False)]
        while stack:
            number, done = stack.pop()
            below = [each.part for each in parts[number].in_place]
            if done:
                height[number] = 1 + max((height[child] for child in below), default=0)
                if height[number] > MAX_IN_PLACE:
                    raise UnusableSchemaError(f"more than {MAX_IN_PLACE} references follow each other")
                order.append(number)
            elif height[number] == 0:
                height[number] = -1
                stack.append((number, True))
                if any(height[child] == -1 for child in below):
                    raise UnusableSchemaError("it refers to itself without end")
                stack += [(child, False) for child in below if height[child] == 0]
    return order


def _units(keyword: tuple[str, Any]) -> float:
    """What a keyword costs beyond a comparison, for one value."""
    match keyword:
        case ("enum", list() as options):
            return size(options) * 5 if any(isinstance(each, dict | list) for each in options) else len(options) / 64
        case ("const", dict() | list() as value):
            return size(value) * 5
        case ("required", list() as names):
            return len(names)
        case ("properties" | "dependentRequired" | "dependentSchemas", dict() as named):
            return len(named) / 4
        case ("format", str() as name):
            return _FORMATS.get(name, 10)
        case ("multipleOf", float() as divisor) if not divisor.is_integer():
            return _FRACTION
        case (comparisons.KEYWORD, list() as compared):
            return _COMPARISON * len(compared)
    return 0


def size(value: Any) -> int:
    """How many values there are in a JSON value, itself included."""
    if isinstance(value, dict):
        return 1 + sum(map(size, value.values()))
    return 1 + sum(map(size, value)) if isinstance(value, list) else 1


def _list(schema: Mapping[str, Any], keyword: str) -> list[Any]:
    found = schema.get(keyword)
    return found if isinstance(found, list) else []


def _mapping(schema: Mapping[str, Any], keyword: str) -> Mapping[str, Any]:
    found = schema.get(keyword)
    return found if isinstance(found, dict) else {}


def _check_size(schema: Any) -> None:
    objects, level, depth = 0, [schema], 0
    while level:
        objects += sum(isinstance(each, dict) for each in level)
        below: list[Any] = []
        for each in level:
            values = each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
            below += [value for value in values if isinstance(value, dict | list)]
        level, depth = below, depth + 1
        if depth > MAX_NESTING:
            raise UnusableSchemaError(f"it is nested more than {MAX_NESTING} levels deep")
    if objects > MAX_PARTS:
        raise UnusableSchemaError(f"it consists of {objects} objects, and {MAX_PARTS} are allowed")
