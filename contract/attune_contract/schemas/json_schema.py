"""JSON Schema (2020-12) for documents and schemas that strangers wrote: bounded in time, memory and words.

Anyone who may create a Sensor writes a schema, anyone who may create a Rule writes a document, and the operator and the API check
one by the other in their event loops. Checks are done by jsonschema-rs. What it does not bound is bounded here, before it runs:

- what a check costs is known from the schema's structure and the document's size (:mod:`.cost`); one that could take longer
  than some 50 ms is not made;
- patterns are those of Rust's ``regex``, whose time is linear, and are counted in (:mod:`.patterns`);
- nothing is fetched: a reference that leads out of the schema is an error;
- mistakes are described one by one only where there cannot be thousands of them, since each takes the library 10 µs and
  more memory than the value that it is about.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import msgspec

from attune_contract.schemas import comparisons
from attune_contract.schemas.cost import MAX_DEPTH, Costs
from attune_contract.schemas.formats import FORMATS
from attune_contract.schemas.structure import UnusableSchemaError
from attune_contract.schemas.violations import Violation, show, violation

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
#: Largest schema, in bytes of JSON.
MAX_SCHEMA_BYTES: Final = 256 * 1024
#: Units (:mod:`.cost`) that one check may cost: some 30 ms.
BUDGET: Final = 1_000_000
# Schemas that do not refer to themselves are seldom deeper.
_USUAL_DEPTH: Final = 6
#: Mistakes that one document may have to be described one by one: some 40 ms.
MAX_MISTAKES: Final = 2000
# Bytes: each mistake has a copy of the value that it is about. Some 1.5 ms for each MiB.
_MAX_COPIED: Final = 16 * 1024 * 1024
# Bytes of a compiled pattern, and of the cache of its automaton, one for each pattern.
_PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=256 * 1024, dfa_size_limit=64 * 1024)
#: The library checks these by itself as we do, but for leap seconds and the year 0.
_FORMATS: Final = {name: check for name, check in FORMATS.items() if name not in ("date", "date-time")}
_TOO_LARGE_TO_DESCRIBE: Final = "it does not fit the schema, and is too large for its mistakes to be listed"


class CheckTooCostlyError(ValueError):
    """Checking the document takes more work than is allowed."""


class _Comparisons:
    """The keyword ``x-attune-comparisons`` for jsonschema-rs."""

    def __init__(self, _parent: dict[str, Any], value: Any, _path: list[str | int]) -> None:
        self._comparisons = comparisons.parse_comparisons(value)

    def iter_errors(self, instance: Any) -> Iterator[ValueError]:
        if not isinstance(instance, dict):
            return
        for each in self._comparisons:
            if (text := each.problem(instance)) is not None:
                place = each.place
                yield ValueError(text if place is None else f"{place}{comparisons.SEPARATOR}{text}")

    def validate(self, instance: Any) -> None:
        for error in self.iter_errors(instance):
            raise error


class JsonSchema:
    """A schema that was checked and is ready to check documents.

    Args:
        text: the schema as JSON.

    Raises:
        UnusableSchemaError: it is not a schema, or needs something that is not supported.
    """

    def __init__(self, text: bytes) -> None:
        if len(text) > MAX_SCHEMA_BYTES:
            raise UnusableSchemaError(f"it has {len(text)} bytes, and {MAX_SCHEMA_BYTES} are allowed")
        try:
            schema = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UnusableSchemaError(str(error)) from error
        if not isinstance(schema, dict | bool):
            raise UnusableSchemaError("it is neither an object nor true or false")
        if isinstance(schema, dict) and str(schema.get("$schema", DIALECT)).rstrip("#") != DIALECT:
            raise UnusableSchemaError(f"it is written in {schema['$schema']!r}; only {DIALECT} is supported")
        self._schema = schema
        self._costs = Costs(schema)
        self._validator = _validator(schema, formats=_FORMATS)
        self._strict: jsonschema_rs.Draft202012Validator | None = None
        most = self._costs.most(_USUAL_DEPTH)
        # Units for each byte of any document; None where documents may be deeper than the schema itself.
        self._ceiling = most.units + most.per_character + most.per_descendant if self._costs.complete else None

    def fits(self, text: bytes, *, value: Any = msgspec.UNSET) -> bool:
        """Whether a document fits the schema.

        Args:
            text: the document, as JSON.
            value: the same, decoded, if it is at hand.

        Raises:
            CheckTooCostlyError: the check could take more work than is allowed.
            msgspec.DecodeError: the document is not JSON.
        """
        if value is msgspec.UNSET:
            value = msgspec.json.decode(text)
        self._check_cost(text, value)
        return self._validator_for(text).is_valid(value)

    def violations(self, text: bytes, *, value: Any = msgspec.UNSET, limit: int) -> list[Violation]:
        """What is wrong with a document, at most ``limit`` things; nothing when it fits.

        Args:
            text: the document, as JSON.
            value: the same, decoded, if it is at hand.
            limit: violations at most.

        Raises:
            CheckTooCostlyError: the check could take more work than is allowed.
            msgspec.DecodeError: the document is not JSON.
        """
        if value is msgspec.UNSET:
            value = msgspec.json.decode(text)
        walked = self._check_cost(text, value)
        if self._validator_for(text).is_valid(value):
            return []
        mistakes = _values(text) * self._costs.most(_depth(text)).mistakes
        if mistakes > MAX_MISTAKES or mistakes * len(text) > _MAX_COPIED:
            _, mistakes = walked or self._costs.walk(value)
        if mistakes <= MAX_MISTAKES and mistakes * len(text) <= _MAX_COPIED:
            errors = islice(self._validator_for(text).iter_errors(value), limit)
            return [violation(error, schema=self._schema) for error in errors]
        if self._costs.has_alternatives:
            return [Violation((), _TOO_LARGE_TO_DESCRIBE)]
        try:
            self._validator_for(text).validate(value)
        except jsonschema_rs.ValidationError as error:
            return [violation(error, schema=self._schema)]
        return []

    def _validator_for(self, text: bytes) -> jsonschema_rs.Draft202012Validator:
        """The validator for a document: the library's own check of times is some times as fast as ours, and nearly the same."""
        if b":60" not in text and b"0000-" not in text:
            return self._validator
        if self._strict is None:
            self._strict = _validator(self._schema, formats=FORMATS)
        return self._strict

    def prepare(self, text: bytes) -> None:
        """Compile now what :meth:`violations` would have to compile for this document."""
        self._validator_for(text)

    def _check_cost(self, text: bytes, value: Any) -> tuple[float, float] | None:
        """Make sure that a check stays within the budget: by the document's length, by its number of values, or by a walk.

        Returns:
            What the walk has counted (:meth:`.Costs.walk`); None where there was no need for one.
        """
        if self._ceiling is not None and len(text) * self._ceiling <= BUDGET:
            return None
        most = self._costs.most(_depth(text))
        if self._costs.complete or not _may_be_deep(text):
            # There are fewer values than bytes.
            if len(text) * (most.units + most.per_character + most.per_descendant) <= BUDGET:
                return None
            if _values(text) * (most.units + most.per_descendant) + len(text) * most.per_character <= BUDGET:
                return None
        walked = self._costs.walk(value)
        if walked[0] > BUDGET:
            raise CheckTooCostlyError("the schema takes more work to check than is allowed")
        return walked


def _validator(schema: Any, *, formats: dict[str, Callable[[str], bool]]) -> jsonschema_rs.Draft202012Validator:
    try:
        return jsonschema_rs.Draft202012Validator(
            schema,
            validate_formats=True,
            formats=formats,
            keywords={comparisons.KEYWORD: _Comparisons},
            pattern_options=_PATTERNS,
            mask="",
            offline=True,
        )
    except jsonschema_rs.ValidationError as error:
        raise UnusableSchemaError(_about_schema(error)) from error
    except ValueError as error:
        raise UnusableSchemaError(str(error)[:300]) from error


def _openings(text: bytes) -> int:
    return text.count(b"{") + text.count(b"[")


def _may_be_deep(text: bytes) -> bool:
    return _openings(text) > MAX_DEPTH


def _depth(text: bytes) -> int:
    """How deep a document may be nested, at most."""
    return min(_openings(text), MAX_DEPTH)


def _values(text: bytes) -> int:
    """How many values there are in a document, at most."""
    return 1 + text.count(b",") + _openings(text)


def _about_schema(error: jsonschema_rs.ValidationError) -> str:
    """What is wrong with a schema: the library's meta-schema says so."""
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Referencing):
        return str(error.kind.error)[:300]
    found = violation(error, schema={})
    where = ".".join(str(part) for part in found.path) or "its root"
    if error.kind.name == "format":
        return (
            f"the pattern {show(error.instance)} cannot be used (at {where}): it is no regular expression, is too large, or "
            "needs look-around or back-references, which are not supported"
        )
    return f"{found.message} (at {where})"
