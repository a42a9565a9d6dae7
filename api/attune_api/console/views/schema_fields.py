"""The fields of a trigger type's parameters, as its JSON Schema has them: for a list to read, and for a form. Pure.

A stranger wrote the schema. What is odd in it becomes a field for JSON, or is passed over; nothing of it is an error here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

#: How a value is entered; "json" is for what has parts of its own.
Kind = Literal["text", "number", "integer", "checkbox", "select", "json"]
#: Fields of a form: a request has 50 at most, and some of them are our own.
MOST_FIELDS: Final = 40
_MOST_OPTIONS: Final = 200
_MOST_TEXT: Final = 800
_MOST_VALUE: Final = 120
_KINDS: Final[Mapping[str, Kind]] = {"string": "text", "number": "number", "integer": "integer", "boolean": "checkbox"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A value that can be chosen: as JSON, and as people read it."""

    value: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One parameter.

    Attributes:
        name: of the property.
        kind: how it is entered.
        type: its type in words.
        required: whether it must be given.
        description: what its author says of it; may be empty.
        default: what it is if it is left out, in JSON or as text; empty if nothing is said.
        switched_on: of a checkbox: whether it is on when nothing is said.
        options: of a select: what can be chosen.
        example: what might stand there; may be empty.
    """

    name: str
    kind: Kind
    type: str
    required: bool
    description: str
    default: str
    switched_on: bool = False
    options: Sequence[Option] = ()
    example: str = ""

    @property
    def key(self) -> str:
        """What the form's field is called. No field of our own begins so."""
        return f"p.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The parameters of a trigger type.

    Attributes:
        fields: those that the schema names; those that must be given come first.
        others: whether there can be more than these.
        description: what the author says of all of them.
    """

    fields: Sequence[Field]
    others: bool
    description: str


def fields_of(schema: Any, *, most: int = MOST_FIELDS) -> Fields:
    """The fields of a schema.

    Args:
        schema: ``parametersSchema``, decoded; None where any parameters are accepted.
        most: fields at most; the rest counts among the others.
    """
    if not isinstance(schema, dict):
        return Fields(fields=(), others=schema is not False, description="")
    properties = schema.get("properties")
    named = properties if isinstance(properties, dict) else {}
    required = frozenset(name for name in _list(schema.get("required")) if isinstance(name, str))
    example = next((each for each in _list(schema.get("examples")) if isinstance(each, dict)), {})
    found = [
        _field(name, declared, required=name in required, example=example.get(name))
        for name, declared in named.items()
        if declared is not False
    ]
    found.sort(key=lambda field: not field.required)
    closed = schema.get("additionalProperties") is False and not schema.get("patternProperties")
    return Fields(
        fields=found[:most],
        others=not closed or len(found) > most,
        description=_text(schema.get("description")),
    )


def _field(name: str, declared: Any, *, required: bool, example: Any) -> Field:
    schema = declared if isinstance(declared, dict) else {}
    default = schema.get("default")
    kind, options = _kind(schema, required=required)
    if example is None:
        example = next(iter(_list(schema.get("examples"))), None)
    return Field(
        name=name,
        kind=kind,
        type=type_text(schema),
        required=required,
        description=_text(schema.get("description")),
        default="" if default is None else plain(default),
        switched_on=default is True,
        options=options,
        example="" if example is None else _json(example) if kind == "json" else plain(example),
    )


def _kind(schema: Mapping[str, Any], *, required: bool) -> tuple[Kind, Sequence[Option]]:
    """How a value is entered, and what can be chosen."""
    values = [schema["const"]] if "const" in schema else _list(schema.get("enum"))
    if 0 < len(values) <= _MOST_OPTIONS and all(len(_json(value)) < _MOST_TEXT for value in values):
        return "select", _options(values)
    kind = _KINDS.get(_one_type(schema) or "", "json")
    if kind == "checkbox" and not required and not isinstance(schema.get("default"), bool):
        return "select", _options((True, False))  # left out is a third thing here
    return kind, ()


def _options(values: Iterable[Any]) -> Sequence[Option]:
    return tuple(Option(value=_json(value), text=plain(value)) for value in values)


def _one_type(schema: Mapping[str, Any]) -> str | None:
    """The only type that a value may have, null aside; None if there are several, or parts that say more."""
    if any(word in schema for word in ("$ref", "anyOf", "oneOf", "allOf", "enum", "const")):
        return None
    types = schema.get("type")
    found = [each for each in (types if isinstance(types, list) else [types]) if isinstance(each, str)]
    found = [each for each in found if each != "null"]
    return found[0] if len(found) == 1 else None


def type_text(schema: Mapping[str, Any]) -> str:
    """A type in words: ``list of string``, ``string (date-time)``, ``one of cron, all``."""
    if "const" in schema:
        return f"only {plain(schema['const'])}"
    if options := _list(schema.get("enum")):
        shown = ", ".join(plain(value) for value in options[:12])
        return _cut(f"one of {shown}" + (", …" if len(options) > 12 else ""), _MOST_TEXT)
    types = schema.get("type")
    words = [each for each in (types if isinstance(types, list) else [types]) if isinstance(each, str)]
    text = " or ".join(words) or "any"
    if words == ["array"]:
        items = schema.get("items")
        inner = items.get("type") if isinstance(items, dict) else None
        text = f"list of {inner}" if isinstance(inner, str) else "list"
    pattern = schema.get("format")
    return _cut(f"{text} ({pattern})" if isinstance(pattern, str) else text, _MOST_VALUE)


def plain(value: Any) -> str:
    """A value in few words: texts as they are, all else as JSON."""
    return _cut(value if isinstance(value, str) and value else _json(value), _MOST_VALUE)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return _cut(" ".join(value.split()), _MOST_TEXT) if isinstance(value, str) else ""


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
