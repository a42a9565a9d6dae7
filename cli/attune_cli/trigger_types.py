"""Trigger types as people look them up: who offers one, what it takes, and an example. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from attune_cli.views import parameter_lines

Schema = Mapping[str, Any]
#: Values that stand for a type where a schema gives nothing better.
_STAND_INS: Final[Mapping[str, Any]] = {
    "integer": 1, "number": 1, "boolean": True, "array": [], "object": {}, "null": None, "string": "text",
}  # fmt: skip
_FORMATS: Final = {
    "date-time": "2027-01-01T09:00:00Z", "date": "2027-01-01", "cron": "0 9 * * MON-FRI", "timezone": "Europe/Berlin",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerType:
    """One trigger type as its Sensor declares it. ``sensor`` is ``namespace/name``."""

    name: str
    aliases: tuple[str, ...]
    sensor: str
    parameters: Schema
    payload: Schema

    @property
    def example(self) -> dict[str, Any]:
        """Parameters to begin with: the schema's own example, else what it requires."""
        for example in self.parameters.get("examples") or ():
            if isinstance(example, Mapping):
                return dict(example)
        found = _value(self.parameters)
        return found if isinstance(found, dict) else {}

    def plain(self) -> dict[str, Any]:
        """For JSON and YAML."""
        return {
            "name": self.name, "aliases": list(self.aliases), "sensor": self.sensor,
            "parametersSchema": dict(self.parameters), "payloadSchema": dict(self.payload), "example": self.example,
        }  # fmt: skip


def offered(sensors: Iterable[Mapping[str, Any]]) -> list[TriggerType]:
    """What Sensors declare, in their order. Of a type that two declare the first is given."""
    found: dict[str, TriggerType] = {}
    for sensor in sensors:
        metadata = sensor["metadata"]
        for declared in sensor["spec"].get("triggerTypes") or ():
            made = TriggerType(
                name=declared["name"],
                aliases=tuple(declared.get("aliases") or ()),
                sensor=f"{metadata.get('namespace', 'default')}/{metadata['name']}",
                parameters=declared.get("parametersSchema") or {},
                payload=declared.get("payloadSchema") or {},
            )
            found.setdefault(made.name, made)
    return list(found.values())


def named(types: Iterable[TriggerType], name: str) -> TriggerType | None:
    """The type of this name or alias; None when there is none."""
    return next((each for each in types if name == each.name or name in each.aliases), None)


def required(schema: Schema) -> list[str]:
    """The parameters that must be given, in the schema's order."""
    wanted = schema.get("required") or ()
    properties = schema.get("properties") or {}
    return [*(name for name in properties if name in wanted), *(name for name in wanted if name not in properties)]


def _value(schema: Schema) -> Any:
    """Something that a schema allows, as far as that can be told from it alone."""
    if schema.get("examples"):
        return schema["examples"][0]
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or (kind is None and "properties" in schema):
        properties = schema.get("properties") or {}
        return {name: _value(properties.get(name) or {}) for name in required(schema)}
    if kind == "array":
        return [_value(schema["items"])] if schema.get("minItems") and isinstance(schema.get("items"), Mapping) else []
    if kind in ("integer", "number"):
        least = schema.get("minimum", schema.get("exclusiveMinimum"))
        return max(1, least + (1 if "exclusiveMinimum" in schema else 0)) if isinstance(least, int) else 1
    if kind == "string" and schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    return _STAND_INS.get(str(kind), "text")


def rule(
    *, name: str, trigger_type: str, parameters: Mapping[str, Any], namespace: str | None = None
) -> dict[str, Any]:
    """A Rule's manifest."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    trigger = {"type": trigger_type, **({"parameters": dict(parameters)} if parameters else {})}
    return {"apiVersion": "attune.dev/v1alpha1", "kind": "Rule", "metadata": metadata, "spec": {"trigger": trigger}}


def page(found: TriggerType) -> Iterator[str]:
    """All about one trigger type, line by line."""
    aliases = f" (also {', '.join(found.aliases)})" if found.aliases else ""
    yield f"{found.name}{aliases}, offered by the Sensor {found.sensor}"
    for title, schema in (("Parameters", found.parameters), ("Payload of its events", found.payload)):
        lines = list(parameter_lines(schema))
        yield ""
        yield f"{title}:" if lines else f"{title}: {'any' if not schema else 'no fields are declared'}"
        yield from (f"  {line}" for line in lines)
