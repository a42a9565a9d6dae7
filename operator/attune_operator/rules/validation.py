"""Whether a Rule's parameters match the schema of its trigger type, in words that help the author."""

from functools import lru_cache
from typing import Any, Final

import msgspec
from jsonschema import ValidationError

from attune_contract.identity import SensorRef
from attune_contract.schemas.bounded import MAX_SCHEMA_BYTES, BoundedSchema, TooCostly, UnusableSchema, cut, describe
from attune_contract.schemas.quick import Check, compile_plain
from attune_operator.resources.limits import MAX_STATE_BYTES
from attune_operator.rules.records import TriggerDeclaration

_MAX_ERRORS: Final = 3
_ROOT: Final = "parameters"
#: Results for parameters up to this size are cached: thousands of Rules often have the same parameters.
_CACHED_BYTES: Final = 4096


def check_parameters(*, parameters: bytes, value: Any, trigger: TriggerDeclaration, sensor: SensorRef) -> str | None:
    """Check a Rule's parameters against the schema of its trigger type.

    Args:
        parameters: the parameters as JSON.
        value: the parameters, decoded.
        trigger: the trigger type.
        sensor: the Sensor that declares it, for messages.

    Returns:
        None if they match; else a sentence for the condition Accepted, reason InvalidParameters.
    """
    if not trigger.schema:
        return None
    fast_path = _fast_path(trigger.schema)
    if fast_path is not None and fast_path(value):
        return None
    verdict = _cached if len(parameters) <= _CACHED_BYTES else _verdict
    problem = verdict(trigger.schema, parameters)
    if problem is None:
        return None
    blames_schema, text = problem
    if blames_schema:
        return (
            f"The parametersSchema of {trigger.name} in the Sensor {sensor} cannot be used: {text}. Its author must fix "
            "it."
        )
    return text


def too_large(size: int) -> str | None:
    """Return what is wrong with a rule's state of ``size`` bytes; None if it is allowed."""
    if size <= MAX_STATE_BYTES:
        return None
    return f"{_ROOT}: the rule has {size} bytes; at most {MAX_STATE_BYTES} can be sent to a sensor."


def _verdict(schema: bytes, parameters: bytes) -> tuple[bool, str] | None:
    try:
        errors = _compiled(schema).errors(parameters, limit=_MAX_ERRORS + 1)
    except UnusableSchema as error:
        return True, cut(str(error))
    except TooCostly as error:
        return False, f"{_ROOT}: cannot be checked, {error}."
    if not errors:
        return None
    shown = [describe(error, root=_ROOT) for error in errors[:_MAX_ERRORS]]
    if len(errors) > _MAX_ERRORS:
        shown.append("and more")
    return False, "; ".join(shown)


_cached = lru_cache(maxsize=2048)(_verdict)


class _Broken:
    """A schema that cannot be used, cached like one that can."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def errors(self, document: bytes, *, limit: int) -> list[ValidationError]:
        raise UnusableSchema(self._reason)


@lru_cache(maxsize=1024)
def _fast_path(schema: bytes) -> Check | None:
    if len(schema) > MAX_SCHEMA_BYTES:
        return None
    try:
        return compile_plain(msgspec.json.decode(schema))
    except msgspec.DecodeError:
        return None


@lru_cache(maxsize=1024)
def _compiled(schema: bytes) -> BoundedSchema | _Broken:
    try:
        return BoundedSchema(schema)
    except UnusableSchema as error:
        return _Broken(str(error))
