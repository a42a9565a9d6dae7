"""One CustomResourceDefinition as an API server applies it: defaults, unknown fields, the schema, and CEL rules.

Source: Kubernetes' documentation, "Extend the Kubernetes API with CustomResourceDefinitions"; the order is the API server's: what
the schema does not allow is said first, and CEL rules see only what is well-formed.
"""

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, Protocol, cast

import jsonschema

from attune_contract import crds
from attune_local.admission.metadata import shortened
from attune_local.admission.violation import FieldPath, Violation

_KEPT: Final = frozenset({"apiVersion", "kind", "metadata"})
_WORDS: Final = {
    "object": "an object",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


class _Program(Protocol):
    def execute(self, context: Mapping[str, Any]) -> Any: ...


@cache
def _program(rule: str) -> _Program:
    import cel  # here: not everybody who reads manifests has rules to evaluate

    return cast("_Program", cel.compile(rule))


class Definition:
    """The schema of one kind."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        [version] = body["spec"]["versions"]
        self.schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
        # The status is the operator's: an API server drops it from what a user applies.
        properties = {key: value for key, value in self.schema["properties"].items() if key != "status"}
        self.schema = {**self.schema, "properties": properties}
        self._validator = jsonschema.Draft202012Validator(_closed(self.schema))

    def admit(self, body: Mapping[str, Any]) -> tuple[dict[str, Any], list[Violation]]:
        """The object with defaults filled in and without status, and what is wrong with it."""
        admitted = copy.deepcopy({key: value for key, value in body.items() if key != "status"})
        _fill(self.schema, admitted)
        violations = [violation for error in self._validator.iter_errors(admitted) for violation in _said(error)]
        violations.sort(key=lambda violation: [str(part) for part in violation.path])
        if not violations:
            violations = list(_repeated(self.schema, admitted, ())) + list(_broken_rules(self.schema, admitted, ()))
        return admitted, violations


@cache
def definitions() -> dict[str, Definition]:
    """Ours by kind: built from the same models as deploy/crds (``make lint`` holds the two together)."""
    return {body["spec"]["names"]["kind"]: Definition(body) for body in crds.definitions().values()}


def _is_open(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("x-kubernetes-preserve-unknown-fields")) or "properties" not in schema


def _closed(schema: Mapping[str, Any], *, root: bool = True) -> dict[str, Any]:
    """The schema as JSON Schema, with unknown fields forbidden where an API server would not know them."""
    closed = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-") and key != "default"}
    if "properties" in schema:
        closed["properties"] = {
            key: dict(value) if root and key in _KEPT else _closed(value, root=False)
            for key, value in schema["properties"].items()
        }
        if not _is_open(schema):
            closed["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), Mapping):
        closed["additionalProperties"] = _closed(schema["additionalProperties"], root=False)
    if "items" in schema:
        closed["items"] = _closed(schema["items"], root=False)
    if closed.pop("nullable", False) and isinstance(closed.get("type"), str):
        closed["type"] = [closed["type"], "null"]
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
        closed["type"] = ["integer", "string"]
    return closed


def _fill(schema: Mapping[str, Any], value: Any) -> None:
    """Fill defaults in. A null where there is a default (or may be none) counts as left out."""
    if isinstance(value, dict):
        for key, field in schema.get("properties", {}).items():
            if value.get(key) is None and not field.get("nullable") and "default" in field:
                value[key] = copy.deepcopy(field["default"])
            if key in value:
                _fill(field, value[key])
        extra = schema.get("additionalProperties")
        if isinstance(extra, Mapping) and "properties" not in schema:
            for item in value.values():
                _fill(extra, item)
    elif isinstance(value, list) and "items" in schema:
        for item in value:
            _fill(schema["items"], item)


def _said(error: Any) -> Iterator[Violation]:
    path: FieldPath = tuple(error.absolute_path)
    value, wanted = error.instance, error.validator_value
    match error.validator:
        case "required":
            missing = error.message.split("'")[1]
            yield Violation((*path, missing), "is required")
        case "additionalProperties":
            known = sorted(error.schema["properties"])
            for key in value:
                if key not in error.schema["properties"]:
                    yield Violation((*path, key), f"unknown field; expected one of: {', '.join(known)}")
        case "type":
            names = [_WORDS.get(name, name) for name in ([wanted] if isinstance(wanted, str) else wanted)]
            yield Violation(path, f"must be {' or '.join(names)}, not {shortened(value)}")
        case "enum":
            yield Violation(path, f"must be one of {', '.join(map(str, wanted))}, not {shortened(value)}")
        case "pattern":
            yield Violation(path, f"{shortened(value)} does not match {wanted}")
        case "minimum" | "exclusiveMinimum":
            yield Violation(path, f"must be {'more than' if 'exclusive' in error.validator else 'at least'} {wanted}")
        case "maximum" | "exclusiveMaximum":
            yield Violation(path, f"must be {'less than' if 'exclusive' in error.validator else 'at most'} {wanted}")
        case "minItems":
            yield Violation(path, f"must have at least {wanted} items")
        case "maxItems":
            yield Violation(path, f"must have at most {wanted} items")
        case "minLength":
            yield Violation(path, f"must have at least {wanted} characters")
        case "maxLength":
            yield Violation(path, f"must have at most {wanted} characters")
        case _:
            yield Violation(path, error.message[:300])


def _repeated(schema: Mapping[str, Any], value: Any, path: FieldPath) -> Iterator[Violation]:
    """Items of lists that are maps (or sets) by another name."""
    if isinstance(value, dict):
        for key, field in schema.get("properties", {}).items():
            if key in value:
                yield from _repeated(field, value[key], (*path, key))
    elif isinstance(value, list):
        kind = schema.get("x-kubernetes-list-type")
        keys = schema.get("x-kubernetes-list-map-keys", ())
        seen: list[Any] = []
        for index, item in enumerate(value):
            identity = [item.get(key) for key in keys] if kind == "map" else item
            if kind in ("map", "set") and identity in seen:
                yield Violation(
                    (*path, index), f"{shortened(identity[0] if kind == 'map' else identity)} is there twice"
                )
            seen.append(identity)
            if "items" in schema:
                yield from _repeated(schema["items"], item, (*path, index))


def _broken_rules(schema: Mapping[str, Any], value: Any, path: FieldPath) -> Iterator[Violation]:
    for validation in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in validation["rule"]:
            continue  # about a change, and a file is none
        try:
            holds = _program(validation["rule"]).execute({"self": value})
        except (ValueError, TypeError, RuntimeError) as error:
            yield Violation(path, f"cannot be judged by the rule {validation['rule']!r}: {error}")
            continue
        if holds is not True:
            yield Violation(path, str(validation.get("message") or f"failed rule: {validation['rule']}"))
    if isinstance(value, dict):
        for key, field in schema.get("properties", {}).items():
            if key in value:
                yield from _broken_rules(field, value[key], (*path, key))
    elif isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from _broken_rules(schema["items"], item, (*path, index))
