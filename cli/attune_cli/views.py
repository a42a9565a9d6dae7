"""Sensors and Rules as text: table cells, and pages about one of them. Pure; ``now`` is passed in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from attune_cli.output import Cell, as_yaml
from attune_contract.names import ActiveReason
from attune_contract.telling import AT_REST, Object, age, bare, condition, enabled, is_current, ref, until

_NONE = "-"


def as_list(bodies: Iterable[Object]) -> dict[str, Any]:
    """Several objects as one, as kubectl prints them."""
    return {"apiVersion": "v1", "kind": "List", "items": [bare(body) for body in bodies]}


def _truth(found: Mapping[str, Any], *, waiting: Iterable[str] = ()) -> Cell:
    status = str(found.get("status", "Unknown"))
    if status == "True":
        return Cell(status, "good")
    return Cell(status, "waiting" if not found or found.get("reason") in set(waiting) else "bad")


SENSOR_COLUMNS = ("namespace", "name", "ready", "reason", "rules", "active", "last event", "token expires", "age")


def sensor_row(body: Object, now: datetime) -> Sequence[str | Cell]:
    """A Sensor's cells."""
    status = body.get("status") or {}
    ready = condition(body, "Ready")
    counts = status.get("rules") or {}
    return (
        body["metadata"]["namespace"],
        body["metadata"]["name"],
        _truth(ready, waiting=("Paused", "Progressing")),
        str(ready.get("reason") or _NONE),
        str(counts.get("bound", 0)),
        str(counts.get("active", 0)),
        age(status.get("lastEventTime"), now),
        until((status.get("token") or {}).get("expiresAt"), now),
        age(body["metadata"].get("creationTimestamp"), now),
    )


RULE_COLUMNS = ("namespace", "name", "type", "sensor", "enabled", "active", "reason", "last event", "next", "age")


def rule_row(body: Object, now: datetime) -> Sequence[str | Cell]:
    """A Rule's cells."""
    status = body.get("status") or {}
    active = condition(body, "Active")
    return (
        body["metadata"]["namespace"],
        body["metadata"]["name"],
        body["spec"]["trigger"]["type"],
        str(status.get("sensor") or _NONE),
        "true" if enabled(body) else "false",
        _truth(active, waiting=(*AT_REST, ActiveReason.AWAITING_SENSOR)),
        str(condition(body, "Ready").get("reason") or active.get("reason") or _NONE),
        age(status.get("lastEventTime"), now),
        str(status.get("nextTime") or _NONE),
        age(body["metadata"].get("creationTimestamp"), now),
    )


def _fields(pairs: Iterable[tuple[str, str]]) -> str:
    pairs = list(pairs)
    wide = max(len(name) for name, _ in pairs) + 2
    return "\n".join(f"{name + ':':{wide}} {value}" for name, value in pairs)


def _conditions(body: Object, now: datetime) -> Iterator[str]:
    found = (body.get("status") or {}).get("conditions") or ()
    yield "Conditions:" if found else "Conditions:  none yet"
    for entry in found:
        stale = "" if is_current(body, entry) else " (of an earlier generation)"
        since = age(entry.get("lastTransitionTime"), now)
        yield f"  {entry['type']}={entry['status']} ({entry.get('reason', '')}) for {since}{stale}"
        if entry.get("message"):
            yield f"    {entry['message']}"


def _indented(value: Any) -> str:
    return "\n".join(f"  {line}" for line in as_yaml(value).splitlines())


def sensor_page(body: Object, now: datetime) -> str:
    """The page about one Sensor."""
    spec, status = body["spec"], body.get("status") or {}
    token, counts = status.get("token") or {}, status.get("rules") or {}
    source = ((spec.get("rules") or {}).get("namespaces") or {}).get("from", "Same")
    lines = [
        _fields(
            [
                ("Sensor", ref(body)),
                ("Image", str(spec.get("image", _NONE))),
                ("Runner", str(spec.get("runner", "Standalone"))),
                ("Paused", str(bool(spec.get("paused"))).lower()),
                ("Replicas", str(spec.get("replicas", 1))),
                (
                    "Admits rules from",
                    {"Same": "its own namespace", "All": "all namespaces"}.get(source, "selected namespaces"),
                ),
                (
                    "Rules",
                    f"{counts.get('bound', 0)} bound, {counts.get('active', 0)} active, "
                    f"{counts.get('rejected', 0)} rejected",
                ),
                (
                    "Token",
                    f"key {token.get('keyId', _NONE)}, renewed {until(token.get('rotatesAt'), now)}, "
                    f"expires {until(token.get('expiresAt'), now)}",
                ),
                ("Last event", f"{status.get('lastEventTime') or _NONE}"),
            ]
        ),
        *_conditions(body, now),
        "Trigger types:",
    ]
    for declared in spec.get("triggerTypes") or ():
        aliases = f" (also {', '.join(declared['aliases'])})" if declared.get("aliases") else ""
        lines.append(f"  {declared['name']}{aliases}")
        lines += [f"    {line}" for line in parameter_lines(declared.get("parametersSchema") or {})]
    return "\n".join(lines)


def parameter_lines(schema: Mapping[str, Any]) -> Iterator[str]:
    """A trigger type's parameters, one per line."""
    required = set(schema.get("required") or ())
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return
    for name, field in properties.items():
        field = field if isinstance(field, Mapping) else {}
        kind = field.get("type", "any")
        notes = [
            *(["required"] if name in required else []),
            *([f"one of {', '.join(map(str, field['enum']))}"] if field.get("enum") else []),
            *([f"default {field['default']}"] if "default" in field else []),
        ]
        text = " ".join(str(field.get("description", "")).split())
        about = f": {text}" if text else ""
        yield f"{name} ({', '.join([str(kind if isinstance(kind, str) else '/'.join(kind)), *notes])}){about}"


def _next(time: str | None, now: datetime) -> str:
    return f"{time} ({until(time, now)})" if time else _NONE


def rule_page(body: Object, now: datetime) -> str:
    """The page about one Rule."""
    status = body.get("status") or {}
    parameters = body["spec"]["trigger"].get("parameters") or {}
    lines = [
        _fields(
            [
                ("Rule", ref(body)),
                ("Uid", str(body["metadata"].get("uid", _NONE))),
                ("Enabled", str(enabled(body)).lower()),
                ("Type", body["spec"]["trigger"]["type"]),
                ("Sensor", str(status.get("sensor") or _NONE)),
                ("Last event", str(status.get("lastEventTime") or _NONE)),
                ("Next", _next(status.get("nextTime"), now)),
            ]
        ),
        "Parameters:" if parameters else "Parameters:  none",
        *([_indented(parameters)] if parameters else []),
        *_conditions(body, now),
    ]
    return "\n".join(lines)


def trial_page(answer: Mapping[str, Any]) -> Iterator[str]:
    """What a Rule would do, by event."""
    if not answer["enabled"]:
        yield "The Rule is disabled: it would do nothing until it is enabled."
    if not answer["data"]:
        yield "No stored event to try it on."
    for trial in answer["data"]:
        stored = f"seq {trial['event_seq']}" if trial["event_seq"] else "not stored"
        yield f"Event {trial['event_id']} ({stored}) of {trial['occurred_at']}"
        if not trial["steps"]:
            yield "  no actions"
        for step in trial["steps"]:
            why = ": ".join(filter(None, [step["reason"], step["message"]]))
            yield f"  {step['action']} ({step['kind']}): {step['fate']}{f', {why}' if why else ''}"
            if step["request"] is not None:
                yield from (f"    {line}" for line in as_yaml(step["request"]).splitlines())
