"""What bodies and answers look like, for OpenAPI: shown from the msgspec structures by which they are read and written.

Descriptions and examples are in the structures' own fields (``msgspec.Meta``), so nothing is described twice.
"""

from typing import Any, Final

import msgspec

_REFERENCE: Final = "#/components/schemas/{name}"
_shown: Final[dict[str, type[msgspec.Struct]]] = {}


def reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    """A reference to a structure, which is then among :func:`components`."""
    _shown[kind.__name__] = kind
    return {"$ref": _REFERENCE.format(name=kind.__name__)}


def answer(kind: type[msgspec.Struct], description: str) -> dict[str, Any]:
    """What ``responses=`` says of one status: JSON of this structure."""
    return {"description": description, "content": {"application/json": {"schema": reference(kind)}}}


def body(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """What ``openapi_extra=`` says of a body that the route reads itself: JSON of this structure."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference(kind)}}}}


def components() -> dict[str, Any]:
    """The schemas of all structures that are referred to, by name."""
    _, found = msgspec.json.schema_components(_shown.values(), ref_template=_REFERENCE)
    for schema in found.values():
        properties = schema.get("properties", {})
        for property_ in properties.values():
            for part in (property_, *property_.get("anyOf", ())):
                if "pattern" in part:
                    part["pattern"] = part["pattern"].replace("\\Z", "$")  # as ECMA 262 has it
        if properties and all("examples" in each for each in properties.values()):
            schema["examples"] = [{name: each["examples"][0] for name, each in properties.items()}]
    return found
