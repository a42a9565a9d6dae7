"""Sensors and Rules as text: table cells, and pages about one of them. Pure; ``now`` is passed in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from attune_cli.output import Cell, as_yaml
from attune_contract.messages import PARTLY_REFUSED, PLAIN_ACTIVE
from attune_contract.names import ActiveReason, HealthReason

Object = Mapping[str, Any]
_NONE = "-"


def age(time: str | None, now: datetime) -> str:
    """How long ago, as kubectl writes it: ``5s``, ``3m``, ``4h``, ``12d``."""
    if not time:
        return _NONE
    return span(now - datetime.fromisoformat(time))


def span(length: timedelta) -> str:
    """A duration in the largest unit that gives at least 2, or in seconds."""
    seconds = max(0, int(length.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def until(time: str | None, now: datetime) -> str:
    """How long from now."""
    if not time:
        return _NONE
    left = datetime.fromisoformat(time) - now
    return f"in {span(left)}" if left > timedelta() else f"{span(-left)} ago"


def ref(body: Object) -> str:
    """``namespace/name``."""
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"


def condition(body: Object, kind: str) -> Mapping[str, Any]:
    """The condition of that type; an empty one when there is none yet."""
    for found in (body.get("status") or {}).get("conditions") or ():
        if found.get("type") == kind:
            return dict(found)
    return {}


def is_current(body: Object, found: Mapping[str, Any]) -> bool:
    """Whether a condition is about the object's present generation."""
    generation = body["metadata"].get("generation", 0)
    return bool(found) and found.get("observedGeneration", generation) == generation


def bare(body: Object) -> dict[str, Any]:
    """The object without ``managedFields``, as kubectl prints it."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


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
#: A rule that does not fire for one of these reasons is not broken.
AT_REST = (ActiveReason.DISABLED, ActiveReason.COMPLETED, ActiveReason.SENSOR_PAUSED)


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


def enabled(body: Object) -> bool:
    """Whether a Rule is enabled."""
    return bool(body["spec"].get("enabled", True))


def rule_problem(body: Object) -> str | None:
    """Why a Rule that should fire does not, or not always, as a sentence; None if it fires, or should not."""
    accepted, active = condition(body, "Accepted"), condition(body, "Active")
    if accepted.get("status") == "False":
        return _sentence(accepted)
    if not enabled(body) or active.get("reason") in AT_REST:
        return None
    if not active:
        return "the operator has not reconciled it yet; is the operator running?"
    if active.get("status") != "True":
        return _sentence(active)
    if not is_current(body, active):
        return "its last change has not reached the sensor yet"
    ready = condition(body, "Ready")
    if ready.get("status") == "False" or PARTLY_REFUSED in str(active.get("message")):
        return _sentence(ready or active)
    return None


def rule_note(body: Object) -> str | None:
    """What is worth knowing of a Rule that has no problem, as a sentence: that it does not fire now, as it was asked to, or
    what its sensor remarks; None if nothing is.
    """
    active = condition(body, "Active")
    if active.get("status") != "True":
        return _sentence(active) if active else None
    said = str(active.get("message") or "")
    return said if said.partition(PLAIN_ACTIVE)[2].strip() else None


def sensor_note(body: Object) -> str | None:
    """That a Sensor without a problem does nothing now, as it was asked to; None if it does."""
    return _sentence(condition(body, "Ready")) if body["spec"].get("paused") else None


def trouble_since(body: Object) -> str:
    """When the object became what it is: the latest transition of its conditions, for sorting."""
    found = (body.get("status") or {}).get("conditions") or ()
    times = [str(entry.get("lastTransitionTime") or "") for entry in found]
    return max(times, default="") or str(body["metadata"].get("creationTimestamp") or "")


def sensor_problem(body: Object) -> str | None:
    """What is wrong with a Sensor, as a sentence; None if nothing is, or it is paused."""
    if body["spec"].get("paused"):
        return None
    if not (body.get("status") or {}).get("conditions"):
        return "the operator has not reconciled it yet; is the operator running?"
    for kind in ("Ready", "CredentialsValid", "RulesSynced", "Healthy"):
        found = condition(body, kind)
        if found.get("reason") == HealthReason.NOT_REPORTED:
            continue  # sensors need not report their health
        if found and found.get("status") != "True":
            return f"{kind}: {_sentence(found)}"
    if (found := condition(body, "Contested")).get("status") == "True":
        return _sentence(found)
    return None


def _sentence(found: Mapping[str, Any]) -> str:
    return str(found.get("message") or found.get("reason") or "no reason given")


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
