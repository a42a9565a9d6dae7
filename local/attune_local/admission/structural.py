"""What an API server does to a custom resource before it judges it: unknown fields, nulls and defaults. Pure.

Source: Kubernetes 1.35, ``k8s.io/apiextensions-apiserver/pkg/apiserver/schema/{pruning,defaulting}``. The values are changed in
place, as there.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from attune_local.admission.violation import FieldPath, Violation

Schema = Mapping[str, Any]


def field_schema(schema: Schema, key: str) -> Schema | None:
    """The schema of an object's field; None for a field that it does not know."""
    found = schema.get("properties", {}).get(key)
    if found is None and isinstance(schema.get("additionalProperties"), Mapping):
        found = schema["additionalProperties"]
    return found  # type: ignore[no-any-return]


def prune_unknown(schema: Schema, value: Any, path: FieldPath = ()) -> Iterator[Violation]:
    """Remove the fields that the schema does not know; yields each."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    if isinstance(value, dict):
        for key in list(value):
            inner = field_schema(schema, key)
            if inner is not None:
                yield from prune_unknown(inner, value[key], (*path, key))
            elif not isinstance(schema.get("additionalProperties"), bool):
                del value[key]
                known = ", ".join(sorted(schema.get("properties", ())))
                yield Violation((*path, key), f"unknown field; expected one of: {known}" if known else "unknown field")
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from prune_unknown(schema["items"], item, (*path, index))


def prune_nulls(schema: Schema | None, value: Any) -> None:
    """Remove fields whose value is null, unless they may be null or have a default."""
    if isinstance(value, dict):
        for key in list(value):
            inner = field_schema(schema, key) if schema is not None else None
            if value[key] is None and inner is not None and not inner.get("nullable") and "default" not in inner:
                del value[key]
            else:
                prune_nulls(inner, value[key])
    elif isinstance(value, list):
        for item in value:
            prune_nulls(schema.get("items") if schema is not None else None, item)


def fill_defaults(schema: Schema | None, value: Any) -> None:
    """Fill in defaults where a field is missing, or null and may not be null."""
    if schema is None:
        return
    if isinstance(value, dict):
        for key, inner in schema.get("properties", {}).items():
            if "default" in inner and (key not in value or (value[key] is None and not inner.get("nullable"))):
                value[key] = copy.deepcopy(inner["default"])
        for key in value:
            fill_defaults(field_schema(schema, key), value[key])
    elif isinstance(value, list):
        for item in value:
            fill_defaults(schema.get("items"), item)
