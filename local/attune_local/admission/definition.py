"""One CustomResourceDefinition as an API server applies it: defaults, unknown fields, the schema, and CEL rules.

Source: Kubernetes' documentation, "Extend the Kubernetes API with CustomResourceDefinitions"; the order is the API server's: what
the schema does not allow is said first, and CEL rules see only what is well-formed.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, Protocol, cast

import jsonschema
import jsonschema.validators

from attune_contract import crds
from attune_local.admission import structural
from attune_local.admission.metadata import shortened
from attune_local.admission.violation import FieldPath, Violation

_KEPT: Final = frozenset({"apiVersion", "kind", "metadata"})
#: Not judged by the schema: the metadata has rules of its own, and the status is dropped.
_NOT_JUDGED: Final = frozenset({"metadata", "status"})
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
        self.api_version = f"{body['spec']['group']}/{version['name']}"
        self.schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
        # The status is the operator's: an API server drops it from what a user creates.
        properties = {key: value for key, value in self.schema["properties"].items() if key not in _NOT_JUDGED}
        self._validator = _Validator(_as_json_schema({**self.schema, "properties": properties}))

    def prune_unknown(self, body: dict[str, Any]) -> list[Violation]:
        """Remove the fields that the kind does not have; returns each."""
        rest = {key: value for key, value in body.items() if key not in _KEPT}
        found = list(structural.prune_unknown(self.schema, rest))
        for key in set(body) - set(rest) - _KEPT:
            del body[key]
        return found

    def admit(self, body: dict[str, Any], *, with_rules: bool = True) -> list[Violation]:
        """Drop nulls and the status, fill in defaults, and say what is then wrong with the object.

        Args:
            body: the object, without unknown fields; it is changed.
            with_rules: whether CEL rules are evaluated. They see only what the schema allows.
        """
        structural.prune_nulls(self.schema, body)
        body.pop("status", None)
        properties = {key: value for key, value in self.schema["properties"].items() if key not in _NOT_JUDGED}
        structural.fill_defaults({"properties": properties}, body)
        found = [violation for error in self._validator.iter_errors(body) for violation in _violations_of(error)]
        found.sort(key=lambda violation: [str(part) for part in violation.path])
        if not found:
            found = list(_repeated(self.schema, body, ()))
        if not found and with_rules:
            found = list(_broken_rules(self.schema, body, ()))
        return found


@cache
def definitions() -> dict[str, Definition]:
    """Ours by kind: built from the same models as deploy/crds (``make lint`` keeps the two the same)."""
    return {body["spec"]["names"]["kind"]: Definition(body) for body in crds.definitions().values()}


#: Whole numbers as Kubernetes has them: JSON has been read by then, and a number that does not fit 64 bits is none.
_CHECKER: Final = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
    "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
)


def _matches(_: Any, pattern: str, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    # In Go, as in JSON Schema, $ is the end of the text; in Python it may stand before a line break, too.
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


_Validator: Final[Any] = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator, {"pattern": _matches}, type_checker=_CHECKER
)


def _as_json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema as JSON Schema."""
    result = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-") and key != "default"}
    if "properties" in schema:
        result["properties"] = {key: _as_json_schema(value) for key, value in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), Mapping):
        result["additionalProperties"] = _as_json_schema(schema["additionalProperties"])
    if "items" in schema:
        result["items"] = _as_json_schema(schema["items"])
    if result.pop("nullable", False) and isinstance(result.get("type"), str):
        result["type"] = [result["type"], "null"]
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    return result


def _violations_of(error: Any) -> Iterator[Violation]:
    path: FieldPath = tuple(error.absolute_path)
    value, wanted = error.instance, error.validator_value
    match error.validator:
        case "required":
            missing = error.message.split("'")[1]
            yield Violation((*path, missing), "is required")
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
        case "minProperties":
            yield Violation(path, f"must have at least {wanted} fields")
        case "maxProperties":
            yield Violation(path, f"must have at most {wanted} fields")
        case "maxLength":
            yield Violation(path, f"must have at most {wanted} characters")
        case "not" if pairs := [option["required"] for option in wanted.get("anyOf", ()) if "required" in option]:
            both = next((pair for pair in pairs if all(key in value for key in pair)), pairs[0])
            yield Violation(path, f"{' and '.join(both)} exclude each other")
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
        except Exception as error:
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
