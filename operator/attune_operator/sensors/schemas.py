"""Whether the JSON Schemas that a Sensor declares are valid and can be used."""

import json
from collections.abc import Mapping
from functools import lru_cache

from attune_contract.resources import Sensor
from attune_contract.schemas.json_schema import JsonSchema
from attune_contract.schemas.structure import UnusableSchemaError
from attune_operator.resources.canonical import canonical_json
from attune_operator.resources.limits import MAX_PAYLOAD_SCHEMAS


@lru_cache(maxsize=1024)
def _problem(schema: bytes) -> str | None:
    try:
        JsonSchema(schema)
    except UnusableSchemaError as error:
        return str(error)
    return None


def payload_schemas(sensor: Sensor) -> dict[str, str]:
    """Return the usable payload schemas as JSON, by trigger type; the API checks payloads by them.

    A schema that cannot be used, or is too large to be published, shows in the Sensor's conditions. Events are then accepted
    unchecked (docs/decisions/0042).
    """
    found = {
        declared.name: schema.decode()
        for declared in sensor.spec.trigger_types
        if declared.payload_schema is not None and _problem(schema := canonical_json(declared.payload_schema)) is None
    }
    return found if _size(found) <= MAX_PAYLOAD_SCHEMAS else {}


def _size(schemas: Mapping[str, str]) -> int:
    # As in the message: JSON in a JSON string, with escaped quotes.
    return len(json.dumps(schemas))


def problem(sensor: Sensor) -> tuple[str, str] | None:
    """Return the first schema that cannot be used, as (reason of the condition, sentence); None if all can."""
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
    declared_schemas = {
        declared.name: canonical_json(declared.payload_schema).decode()
        for declared in sensor.spec.trigger_types
        if declared.payload_schema is not None
    }
    if (size := _size(declared_schemas)) > MAX_PAYLOAD_SCHEMAS:
        return "InvalidPayloadSchema", (
            f"The payloadSchemas in spec.triggerTypes have {size} bytes together; at most {MAX_PAYLOAD_SCHEMAS} can be "
            "published. Payloads are not checked until they are smaller."
        )
    return None
