"""Whether a Rule's parameters match the schema of its trigger type, in words that help the author."""

from typing import Any, Final

from attune_contract.identity import SensorRef
from attune_contract.schemas.compiled import CompiledSchemas
from attune_contract.schemas.json_schema import CheckTooCostlyError
from attune_contract.schemas.structure import UnusableSchemaError
from attune_contract.schemas.violations import cut, describe
from attune_operator.resources.limits import MAX_STATE_BYTES
from attune_operator.rules.records import TriggerDeclaration

_MAX_ERRORS: Final = 3
_ROOT: Final = "parameters"
_SCHEMAS: Final = CompiledSchemas()


def prepare(*, parameters: bytes, trigger: TriggerDeclaration) -> None:
    """Compile what :func:`check_parameters` needs. Of a large schema this takes as long as the check itself."""
    if trigger.schema and not isinstance(compiled := _SCHEMAS.get(trigger.schema), UnusableSchemaError):
        compiled.prepare(parameters)


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
    compiled = _SCHEMAS.get(trigger.schema)
    if isinstance(compiled, UnusableSchemaError):
        return (
            f"The parametersSchema of {trigger.name} in the Sensor {sensor} cannot be used: {cut(str(compiled))}. "
            "Its author must fix it."
        )
    try:
        found = compiled.violations(parameters, value=value, limit=_MAX_ERRORS + 1)
    except CheckTooCostlyError as error:
        return f"{_ROOT}: cannot be checked, {error}."
    if not found:
        return None
    shown = [describe(each, root=_ROOT) for each in found[:_MAX_ERRORS]]
    return "; ".join([*shown, "and more"] if len(found) > _MAX_ERRORS else shown)


def too_large(size: int) -> str | None:
    """Return what is wrong with a rule's state of ``size`` bytes; None if it is allowed."""
    if size <= MAX_STATE_BYTES:
        return None
    return f"{_ROOT}: the rule has {size} bytes; at most {MAX_STATE_BYTES} can be sent to a sensor."


def actions_too_large(size: int) -> str | None:
    """Return what is wrong with actions, labels and annotations of ``size`` bytes; None if they are allowed."""
    if size <= MAX_STATE_BYTES:
        return None
    return (
        f"spec: the rule's actions, data, labels and annotations have {size} bytes; at most {MAX_STATE_BYTES} can be sent to "
        "attune-actions."
    )
