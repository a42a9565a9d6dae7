"""Whether the JSON Schemas that a Sensor declares are schemas, and can be used to check Rules."""

from functools import lru_cache

from attune_contract.resources import Sensor
from attune_operator.rules.bounded_schema import BoundedSchema, UnusableSchema
from attune_operator.rules.records import canonical_json


@lru_cache(maxsize=1024)
def _problem(schema: bytes) -> str | None:
    try:
        BoundedSchema(schema)
    except UnusableSchema as error:
        return str(error)
    return None


def problem(sensor: Sensor) -> tuple[str, str] | None:
    """The first schema that cannot be used, as (reason of the condition, sentence); None when all can."""
    for index, declared in enumerate(sensor.spec.trigger_types):
        for field, reason, schema in (
            ("parametersSchema", "InvalidParametersSchema", declared.parameters_schema),
            ("payloadSchema", "InvalidPayloadSchema", declared.payload_schema),
        ):
            if schema is None:
                continue
            if (found := _problem(canonical_json(schema))) is not None:
                where = f"spec.triggerTypes[{index}].{field} (of {declared.name})"
                return reason, f"{where} cannot be used: {found}"
    return None
