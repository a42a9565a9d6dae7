"""JSON Schema (2020-12) for documents and schemas that strangers wrote: bounded in time, memory and words.

Whoever may create a Sensor writes a schema, whoever may create a Rule writes a document, and the operator checks one by the
other in its event loop. So:

- nothing is fetched: a reference that leads out of the schema is an error;
- patterns are RE2's, whose time is linear, and not Python's, which some patterns keep busy for ever;
- each keyword that is evaluated is paid for from a budget, so that references that fan out end;
- values show themselves shortened, so that an error about 500 KiB is not 500 KiB long.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec
import re2  # type: ignore[import-untyped]
import referencing
import referencing.exceptions
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.validators import extend

from attune_contract.schemas import comparisons
from attune_contract.schemas.formats import check_format

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
#: Largest schema, in bytes of JSON.
MAX_SCHEMA_BYTES: Final = 256 * 1024
#: Keywords that one check may evaluate; about 20 µs each.
BUDGET: Final = 10_000
_SCHEMA_CHECK_BUDGET: Final = 50_000
#: Objects that a schema may consist of: checking the schema itself takes most of a millisecond for each.
MAX_PARTS: Final = 1000
_MAX_DEPTH: Final = 64
_SHOWN_ITEMS: Final = 12
_SHOWN_CHARACTERS: Final = 80
_SHOWN_LEVELS: Final = 3


class UnusableSchema(ValueError):  # noqa: N818 - read as a sentence
    """The schema itself is wrong, or needs something that is not offered. The text says what."""


class TooCostly(ValueError):  # noqa: N818 - read as a sentence
    """Checking the document takes more work than is allowed."""


# -- values that show themselves shortened


class _Text(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return _show(self, 1)


class _Array(list[Any]):
    __slots__ = ()

    def __repr__(self) -> str:
        return _show(self, _SHOWN_LEVELS)


class _Object(dict[str, Any]):
    __slots__ = ()

    def __repr__(self) -> str:
        return _show(self, _SHOWN_LEVELS)


def _show(value: Any, levels: int) -> str:
    match value:
        case str():
            cut = value[:_SHOWN_CHARACTERS]
            return f"{str.__repr__(cut)}{'…' if len(cut) < len(value) else ''}"
        case list() | dict() if levels == 0:
            return "[…]" if isinstance(value, list) else "{…}"
        case list():
            shown = [_show(item, levels - 1) for item in value[:_SHOWN_ITEMS]]
            return f"[{', '.join([*shown, '…'] if len(value) > _SHOWN_ITEMS else shown)}]"
        case dict():
            pairs = [f"{_show(k, 1)}: {_show(value[k], levels - 1)}" for k in list(value)[:_SHOWN_ITEMS]]
            return f"{{{', '.join([*pairs, '…'] if len(value) > _SHOWN_ITEMS else pairs)}}}"
        case _:
            return repr(value)


def shortened(value: Any, depth: int = 0) -> Any:
    """The same JSON value, of types whose ``repr`` is short.

    Raises:
        TooCostly: it is nested too deeply.
    """
    if depth > _MAX_DEPTH:
        raise TooCostly(f"it is nested more than {_MAX_DEPTH} levels deep")
    match value:
        case str():
            return _Text(value)
        case list():
            return _Array(shortened(item, depth + 1) for item in value)
        case dict():
            return _Object((_Text(key), shortened(item, depth + 1)) for key, item in value.items())
        case _:
            return value


# -- keywords that cost


_budget: ContextVar[list[int]] = ContextVar("schema_budget")

_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]
_Result = TypeVar("_Result")


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value) // 1024
    return len(value) // 8 if isinstance(value, list | dict) else 0


def _pay(cost: int) -> None:
    purse = _budget.get()
    purse[0] -= cost
    if purse[0] < 0:
        raise TooCostly("the schema takes more work to check than is allowed")


def _metered(keyword: _Keyword) -> _Keyword:
    def evaluate(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        _pay(1 + _size(value) + _size(instance))
        yield from keyword(validator, value, instance, schema) or ()

    return evaluate


@lru_cache(maxsize=4096)
def _pattern(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1024 * 1024
    try:
        return re2.compile(str(text), options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        shown = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise UnusableSchema(
            f"the pattern {_show(text, 1)} is not one that RE2 takes ({shown}); look-around and back-references are not "
            "offered"
        ) from error


def matches_pattern(pattern: str, text: str) -> bool:
    """Whether the pattern (RE2's) occurs in the text."""
    return _pattern(pattern).search(str(text)) is not None


def _check_pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not matches_pattern(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        _pay(len(instance))
        for name, value in instance.items():
            if matches_pattern(pattern, name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, subschema: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), list(schema.get("patternProperties", {}))
    _pay(len(instance) * len(patterns))
    extras = [name for name in instance if name not in known and not any(matches_pattern(p, name) for p in patterns)]
    if subschema is False:
        if extras:
            allowed = f"; allowed are {_show(sorted(known), 1)}" if known else ""
            yield ValidationError(f"unexpected {_show(sorted(extras), 1)}{allowed}")
        return
    for name in extras:
        yield from validator.descend(instance[name], subschema, path=name)


def _unique_items(validator: Any, unique: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if unique and validator.is_type(instance, "array"):
        seen = {json.dumps(item, sort_keys=True) for item in instance}
        if len(seen) < len(instance):
            yield ValidationError(f"{instance!r} has non-unique elements")


def _enum(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    _pay(len(allowed) // 4)
    yield from Draft202012Validator.VALIDATORS["enum"](validator, allowed, instance, schema)


def _comparisons(value: Any) -> tuple[comparisons.Comparison, ...]:
    try:
        return comparisons.parse_comparisons(value)
    except ValueError as error:
        raise UnusableSchema(str(error)) from error


def _compare(validator: Any, value: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for comparison in _comparisons(value):
        if (text := comparison.problem(instance)) is not None:
            place = comparison.place
            yield ValidationError(text, path=() if place is None else (place,))


_OWN: Final[Mapping[str, _Keyword]] = {
    "pattern": _check_pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
    "enum": _enum,
    "format": check_format,
    comparisons.KEYWORD: _compare,
}
_Validator: Final[Any] = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {name: _metered(keyword) for name, keyword in {**Draft202012Validator.VALIDATORS, **_OWN}.items()},
)


def _bounded(budget: int, work: Callable[[], _Result]) -> _Result:
    """Run ``work`` with a budget of its own."""
    token = _budget.set([budget])
    try:
        return work()
    except RecursionError as error:
        raise UnusableSchema("it refers to itself without end") from error
    finally:
        _budget.reset(token)


class BoundedSchema:
    """A schema that was checked and is ready to check documents.

    Args:
        text: the schema as JSON.

    Raises:
        UnusableSchema: it is not a schema, or needs something that is not offered.
    """

    def __init__(self, text: bytes) -> None:
        if len(text) > MAX_SCHEMA_BYTES:
            raise UnusableSchema(f"it has {len(text)} bytes, and {MAX_SCHEMA_BYTES} are allowed")
        try:
            schema = shortened(msgspec.json.decode(text))
        except (msgspec.DecodeError, TooCostly) as error:
            raise UnusableSchema(str(error)) from error
        if not isinstance(schema, dict | bool):
            raise UnusableSchema("it is neither an object nor true or false")
        if isinstance(schema, dict) and schema.get("$schema", DIALECT).rstrip("#") != DIALECT:
            raise UnusableSchema(f"it is written in {schema['$schema']!r}; only {DIALECT} is offered")
        keywords: set[str] = set()
        if (parts := _count_objects(schema)) > MAX_PARTS:
            raise UnusableSchema(f"it consists of {parts} objects, and {MAX_PARTS} are allowed")
        # A dialect named inside would bring the library's own, unbounded keywords back.
        schema = _survey(schema, keywords)
        if {"unevaluatedProperties", "patternProperties"} <= keywords:
            raise UnusableSchema("unevaluatedProperties together with patternProperties is not offered")
        self._validator = _Validator(schema, registry=referencing.Registry())
        self._check()

    def _check(self) -> None:
        schema = self._validator.schema
        meta = _Validator(Draft202012Validator.META_SCHEMA)
        try:
            problem = _bounded(_SCHEMA_CHECK_BUDGET, lambda: next(meta.iter_errors(schema), None))
        except TooCostly as error:
            raise UnusableSchema(str(error)) from error
        if problem is not None:
            where = ".".join(str(part) for part in problem.absolute_path) or "its root"
            raise UnusableSchema(f"{problem.message} (at {where})")

    def errors(self, document: bytes, *, limit: int, budget: int = BUDGET) -> list[ValidationError]:
        """What is wrong with the document (JSON), at most ``limit`` things, in the schema's order; for at most ``budget``
        keywords.

        Raises:
            UnusableSchema: a pattern or a reference in the schema turned out to be unusable.
            TooCostly: the check takes more work than is allowed.
        """
        value = shortened(msgspec.json.decode(document))

        def collect() -> list[ValidationError]:
            found = []
            for error in self._validator.iter_errors(value):
                found.append(error)
                if len(found) == limit:
                    break
            return found

        try:
            return _bounded(budget, collect)
        except referencing.exceptions.Unresolvable as error:
            raise UnusableSchema(
                f"it refers to {error.ref!r}, which is not in it; only references within a schema are followed"
            ) from error
        except (SchemaError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise UnusableSchema(f"{type(error).__name__}: {error}") from error


#: Longest sentence about one error, in characters.
MAX_ERROR_LENGTH: Final = 300


def describe(error: ValidationError, *, root: str) -> str:
    """One error as ``parameters.interval: -1 is less than …``. Of alternatives, the one that comes closest is named.

    Args:
        error: what is wrong.
        root: what the document is called.
    """
    deepest = best_match([error]) or error
    path = root
    for part in deepest.absolute_path:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return cut(f"{path}: {deepest.message}")


def cut(text: str) -> str:
    """A sentence of bounded length."""
    return text if len(text) <= MAX_ERROR_LENGTH else f"{text[: MAX_ERROR_LENGTH - 1]}…"


def _count_objects(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(_count_objects(item) for item in value.values())
    return sum(_count_objects(item) for item in value) if isinstance(value, list) else 0


def _survey(schema: Any, keywords: set[str]) -> Any:
    """Collect the keys that occur anywhere, compile the patterns, and drop every ``$schema``."""
    if isinstance(schema, list):
        return _Array(_survey(item, keywords) for item in schema)
    if not isinstance(schema, dict):
        return schema
    keywords.update(schema)
    if isinstance(pattern := schema.get("pattern"), str):
        _pattern(pattern)
    if isinstance(patterns := schema.get("patternProperties"), dict):
        for each in patterns:
            _pattern(each)
    if isinstance(compared := schema.get(comparisons.KEYWORD), list):
        _comparisons(compared)
    return _Object(
        (key, _survey(value, keywords))
        for key, value in schema.items()
        if not (key == "$schema" and isinstance(value, str))
    )
