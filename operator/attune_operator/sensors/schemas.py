"""Whether the JSON Schemas that a Sensor declares are valid and can be used."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from attune_contract.resources import Sensor
from attune_contract.schemas.bounded import BoundedSchema, UnusableSchema
from attune_operator.resources.canonical import canonical_json
from attune_operator.resources.limits import MAX_PAYLOAD_SCHEMAS

_METASCHEMAS: Final = "https://json-schema.org/"


def _values(schema: Any, keyword: str) -> Iterator[str]:
    """Return the strings under ``keyword`` anywhere in the schema."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            if key == keyword and isinstance(value, str):
                yield value
            yield from _values(value, keyword)
    elif isinstance(schema, list):
        for item in schema:
            yield from _values(item, keyword)


@lru_cache(maxsize=1024)
def _problem(schema: bytes) -> str | None:
    try:
        BoundedSchema(schema)
    except UnusableSchema as error:
        return str(error)
    document = json.loads(schema)
    named = set(_values(document, "$id"))
    for reference in _values(document, "$ref"):
        resource = reference.partition("#")[0]
        if "://" in resource and resource not in named and not resource.startswith(_METASCHEMAS):
            return f"it refers to {reference}, which is not fetched; put the schema under $defs"
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
