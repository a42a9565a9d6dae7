"""Whether the JSON Schemas that a Sensor declares are valid and can be used."""

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from attune_contract.resources import Sensor
from attune_contract.schemas.json_schema import JsonSchema
from attune_contract.schemas.structure import UnusableSchemaError
from attune_operator.resources.canonical import canonical_json
from attune_operator.resources.limits import MAX_PAYLOAD_SCHEMAS

#: What was found of schemas, by their digests: the schemas themselves would be hundreds of MiB.
_FOUND: Final[OrderedDict[bytes, str | None]] = OrderedDict()
_MOST_FOUND: Final = 4096
#: Seconds after which other tasks have their turn.
_LONG: Final = 0.005


def _problem(schema: bytes) -> str | None:
    key = hashlib.sha256(schema).digest()
    if key in _FOUND:
        _FOUND.move_to_end(key)
        return _FOUND[key]
    try:
        JsonSchema(schema)
        found = None
    except UnusableSchemaError as error:
        found = str(error)
    _FOUND[key] = found
    if len(_FOUND) > _MOST_FOUND:
        _FOUND.popitem(last=False)
    return found


async def look_at(sensor: Sensor) -> None:
    """Check each schema in a step of its own. All together may take seconds; :func:`problem` then only looks them up."""
    for declared in sensor.spec.trigger_types:
        for schema in (declared.parameters_schema, declared.payload_schema):
            if schema is None:
                continue
            began = time.perf_counter()
            _problem(canonical_json(schema))
            if time.perf_counter() - began > _LONG:
                await asyncio.sleep(0)


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
