"""Argo Events: an EventSource and a Sensor become Rules, one for each trigger and dependency."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from attune_cli.convert.argo_sources import Trigger, source_trigger
from attune_cli.convert.argo_together import names_of, parameters_of, reads_events
from attune_cli.convert.expressions import (
    UntranslatableError,
    action_name,
    escaped,
    from_mustache,
    get,
    literal,
    name,
    optional,
    put,
    select,
    split_path,
)
from attune_cli.convert.source import Section

GROUP: Final = "argoproj.io/"
KINDS: Final = ("EventSource", "Sensor")
_COMPARATORS: Final = {"": "==", "=": "==", "!=": "!=", ">=": ">=", ">": ">", "<=": "<=", "<": "<"}
_CONTEXT: Final = {"id": "event.id", "time": "event.occurredAt", "type": "event.type"}
_UNITS: Final = {"Second": 1, "Minute": 60, "Hour": 3600}
_WORKFLOW: Final = ("", "submit")


@dataclass(slots=True)
class _Dependency:
    """One of a Sensor's dependencies: the trigger, and what its filters ask for."""

    name: str
    trigger: Trigger
    conditions: list[str] = field(default_factory=list)
    alone: bool = False  #: there is a Rule for it that core.all is about

    def expression(self, path: str, default: Any = None) -> str:
        """What a path into the event's data means for us.

        Raises:
            UntranslatableError: nothing.
        """
        base, rest = self.trigger.place(split_path(path))
        return select(base, rest) if default is None else optional(base, rest, default)


def convert(sections: Sequence[Section]) -> Iterator[dict[str, Any]]:
    """Rules of the EventSources and Sensors among ``sections``."""
    sources: dict[tuple[str, str, str], Trigger] = {}
    used: set[tuple[str, str, str]] = set()
    for section in sections:
        if section.value.get("kind") == "EventSource":
            place = _metadata(section)
            for event, trigger in _source(section):
                sources[(*place, event)] = trigger
    for section in sections:
        if section.value.get("kind") == "Sensor":
            yield from _sensor(section, sources, used)
    for key, trigger in sources.items():
        if key not in used:
            trigger.section.note("no Sensor in these files uses it: its Rule has no actions, and only stores events")
            yield _rule(key[0], name(key[1], key[2]), trigger, when=[], account=None, actions=[])


def _metadata(section: Section) -> tuple[str, str]:
    metadata = section.take("metadata") or {}
    section.take("apiVersion")
    section.take("kind")
    section.take("status")
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def _source(section: Section) -> Iterator[tuple[str, Trigger]]:
    spec = section.section("spec")
    if spec is None:
        return
    for kind in ("calendar", "webhook", "resource"):
        for event, inside in spec.named(kind):
            trigger = source_trigger(kind, inside)
            if trigger is not None:
                yield event, trigger
    spec.take("service")  # our Sensor has its own Service
    spec.take("eventBusName")
    spec.take("template")
    spec.close(why="this kind of source is not translated; a Sensor of your own can report such events")


def _sensor(
    section: Section, sources: dict[tuple[str, str, str], Trigger], used: set[tuple[str, str, str]]
) -> Iterator[dict[str, Any]]:
    namespace, sensor = _metadata(section)
    spec = section.section("spec")
    if spec is None:
        return
    dependencies: dict[str, _Dependency] = {}
    for each in spec.sections("dependencies"):
        key = (namespace, str(each.take("eventSourceName") or ""), str(each.take("eventName") or ""))
        label = str(each.take("name") or "")
        found = sources.get(key)
        if found is None:
            each.note(f"EventSource {key[1]} with event {key[2]} is not in these files, or is not translated")
            continue
        used.add(key)
        dependency = _Dependency(label, copy.deepcopy(found))
        _filters(each, dependency)
        each.close()
        dependencies[label] = dependency
    account = _account(spec)
    for each in spec.sections("triggers"):
        yield from _triggers(each, namespace, sensor, dependencies, account)
    for ignored in ("eventBusName", "replicas", "revisionHistoryLimit", "loggingFields"):
        spec.take(ignored)
    spec.close()


def _account(spec: Section) -> str | None:
    template = spec.section("template")
    account = None if template is None else template.take("serviceAccountName")
    if template is not None:
        template.close(why="is not translated: the runner of actions is one program for all Rules")
    return account


def _filters(section: Section, dependency: _Dependency) -> None:
    filters = section.section("filters")
    if filters is None:
        return
    conditions: list[str] = []
    for index, each in enumerate(filters.sections("data")):
        try:
            conditions.append(_data_filter(each, dependency))
        except UntranslatableError as error:
            filters.note(f"is not translated: {error}", "data", index)
        each.close()
    joined = filters.take("dataLogicalOperator") or "and"
    if conditions:
        parts = [f"({each})" if " || " in each else each for each in conditions]
        dependency.conditions.append((" || " if joined == "or" else " && ").join(parts))
    filters.close(why="is not translated; write it as the Rule's when, in CEL")


def _data_filter(section: Section, dependency: _Dependency) -> str:
    path, kind = str(section.take("path") or ""), str(section.take("type") or "string")
    sign = str(section.take("comparator") or "")
    values = section.take("value") or []
    if sign not in _COMPARATORS:
        raise UntranslatableError(f"there is no comparator {sign!r}")
    field_ = dependency.expression(path)
    ways: list[str] = []
    for value in values:
        if kind == "number":
            ways.append(f"double({field_}) {_COMPARATORS[sign]} {float(value)}")
        elif kind == "bool":
            ways.append(f"{field_} {_COMPARATORS[sign]} {str(value).lower()}")
        elif kind == "string" and _COMPARATORS[sign] in ("==", "!="):
            # There a text is a regular expression that may match anywhere.
            text = f"string({field_}).matches({literal(str(value))})"
            ways.append(text if _COMPARATORS[sign] == "==" else f"!{text}")
        else:
            raise UntranslatableError(f"texts cannot be compared by {sign!r}")
    if not ways:
        raise UntranslatableError("it has no value")
    return " || ".join(ways)


def _triggers(
    section: Section, namespace: str, sensor: str, dependencies: dict[str, _Dependency], account: str | None
) -> Iterator[dict[str, Any]]:
    template = section.section("template")
    if template is None:
        section.close()
        return
    conditions = str(template.take("conditions") or "").strip()
    if (together := names_of(conditions, list(dependencies))) is not None:
        yield from _together(
            section, template, namespace, sensor, [dependencies.get(each) for each in together], account
        )
        return
    label = str(template.take("name") or "")
    names = [each.strip() for each in conditions.split("||")] if conditions else list(dependencies)
    if any(sign in conditions for sign in ("&&", "!", "(")) or (not conditions and len(dependencies) > 1):
        template.note(
            "is not translated; a Rule is about one event, or with core.all about several that must all have come",
            "conditions",
        )
        return
    rest = _settings(section, template)
    for each in names:
        dependency = dependencies.get(each)
        if dependency is None:
            if conditions:
                template.note(f"there is no dependency {each!r} that is translated", "conditions")
            continue
        action = _action(template, section, dependency)
        actions = [] if action is None else [{"name": action_name(label), **action, **rest}]
        rule = name(sensor, label, each if len(names) > 1 else "")
        yield _rule(namespace, rule, dependency.trigger, when=dependency.conditions, account=account, actions=actions)
    for kind in ("http", "k8s", "argoWorkflow", "nats", "log"):
        template.take(kind)
    template.close(why="this kind of trigger is not translated")
    section.close()


def _together(
    section: Section,
    template: Section,
    namespace: str,
    sensor: str,
    dependencies: Sequence[_Dependency | None],
    account: str | None,
) -> Iterator[dict[str, Any]]:
    """A Rule for each dependency, unless it is there already, and one about all of them."""
    label = str(template.take("name") or "")
    found = [each for each in dependencies if each is not None]
    if len(found) < len(dependencies):
        template.note("names a dependency that is not there, or is not translated", "conditions")
        return
    action = _action(template, section, found[0])
    if reads_events(action):
        template.note("actions with data of several events are not translated; see event.payload.events", "conditions")
        return
    actions = [] if action is None else [{"name": action_name(label), **action, **_settings(section, template)}]
    rules = {name(sensor, each.name): each for each in found}
    for rule, each in rules.items():
        if not each.alone:
            each.alone = True
            yield _rule(namespace, rule, each.trigger, when=[], account=None, actions=[])
    parameters = parameters_of({rule: each.conditions for rule, each in rules.items()})
    both = Trigger(kind="", type="core.all", parameters=parameters, section=section)
    own = name(sensor, label)
    yield _rule(namespace, own if own not in rules else f"{own}-all", both, when=[], account=account, actions=actions)
    for kind in ("http", "k8s", "argoWorkflow", "nats", "log"):
        template.take(kind)
    template.close(why="this kind of trigger is not translated")
    section.close()


def _settings(section: Section, template: Section) -> dict[str, Any]:
    """Retries, rate limit and what counts as success."""
    rest: dict[str, Any] = {}
    retry = section.section("retryStrategy")
    if retry is not None:
        steps, duration = retry.take("steps"), retry.take("duration")
        rest["retry"] = {
            **({"attempts": min(100, int(steps))} if steps else {}),
            **({"backoff": duration} if isinstance(duration, str) else {}),
        }
        retry.close(why="is not translated: waits double and are spread by chance")
    limit = section.section("rateLimit")
    if limit is not None:
        unit = str(limit.take("unit") or "Second")
        rest["rateLimit"] = {"perSecond": (limit.take("requestsPerUnit") or 1) / _UNITS.get(unit, 1)}
        limit.close()
    policy = section.section("policy")
    status = None if policy is None else policy.section("status")
    if status is not None and isinstance(template.value.get("http"), dict):
        rest["success"] = f"response.status in {literal(status.take('allow') or [200])}"
    if policy is not None:
        policy.close(why="is not translated; write it as await, in CEL")
    return rest


def _action(template: Section, section: Section, dependency: _Dependency) -> dict[str, Any] | None:
    action: dict[str, Any] | None = None
    try:
        if (inside := template.section("http")) is not None:
            action = {"http": _http(inside, dependency)}
        elif (inside := template.section("k8s")) is not None:
            action = {"object": _object(inside, dependency)}
        elif (inside := template.section("argoWorkflow")) is not None:
            action = {"object": _workflow(inside, dependency)}
        elif (inside := template.section("nats")) is not None:
            action = {"nats": _nats(inside, dependency)}
        elif template.value.get("log") is not None:
            template.note("needs no action: events and runs are stored and listed", "log")
    except UntranslatableError as error:
        template.note(f"the trigger is not translated: {error}")
        return None
    section.take("parameters")
    if section.value.get("parameters"):
        section.note("is not translated: parameters of the whole trigger; set the fields by ${…}", "parameters")
    return action


def _parameter(section: Section, dependency: _Dependency) -> tuple[list[str], str, str]:
    """Where a parameter goes, its text with ``${…}``, and how it is put there.

    Raises:
        UntranslatableError: it has no equal.
    """
    source = section.section("src")
    if source is None:
        raise UntranslatableError("a parameter has no src")
    source.take("dependencyName")
    key, template = source.take("dataKey"), source.take("dataTemplate")
    context, default, raw = source.take("contextKey"), source.take("value"), source.take("useRawData")
    source.close()
    if template:
        text = from_mustache(str(template), lambda inner: dependency.expression(_go(inner)))
    elif context:
        if context not in _CONTEXT:
            raise UntranslatableError(f"there is no context {context!r} in our events")
        text = f"${{{_CONTEXT[context]}}}"
    elif key or default is None:
        found = dependency.expression(str(key or ""), default)
        text = f"${{{found}}}" if raw or not key else f"${{string({found})}}"
    else:
        text = str(escaped(str(default)))
    destination = split_path(str(section.take("dest") or ""))
    return destination, text, str(section.take("operation") or "overwrite")


def _go(inner: str) -> str:
    if not inner.startswith(".Input."):
        raise UntranslatableError(f"the template {{{{ {inner} }}}} is more than a field of .Input")
    path = inner.removeprefix(".Input.")
    if " " in path or "|" in path:
        raise UntranslatableError(f"the template {{{{ {inner} }}}} calls functions")
    return path


def _fill(section: Section, key: str, target: Any, dependency: _Dependency) -> None:
    for index, each in enumerate(section.sections(key)):
        try:
            path, text, operation = _parameter(each, dependency)
            before = get(target, path)
            if operation == "append" and before is not None:
                text = f"{before}{text}"
            elif operation == "prepend" and before is not None:
                text = f"{text}{before}"
            put(target, path, text)
        except UntranslatableError as error:
            section.note(f"is not translated: {error}", key, index)
        each.close()


def _http(section: Section, dependency: _Dependency) -> dict[str, Any]:
    made: dict[str, Any] = {"url": escaped(section.take("url") or ""), "method": str(section.take("method") or "POST")}
    headers: list[dict[str, Any]] = [
        {"name": key, "value": escaped(str(value))} for key, value in (section.take("headers") or {}).items()
    ]
    for each in section.sections("secureHeaders"):
        source = (each.take("valueFrom") or {}).get("secretKeyRef")
        if source is None:
            each.note("only secretKeyRef is translated", "valueFrom")
            continue
        reference = {"name": source.get("name"), "key": source.get("key")}
        headers.append({"name": each.take("name"), "valueFrom": {"secretKeyRef": reference}})
        each.close()
    if headers:
        made["headers"] = headers
    body: dict[str, Any] = {}
    _fill(section, "payload", body, dependency)
    if body:
        made["body"] = body
    _fill(section, "parameters", made, dependency)
    section.close()
    return made


def _resource(section: Section) -> dict[str, Any]:
    source = section.section("source")
    resource = None if source is None else source.take("resource")
    if source is not None:
        source.close(why="is not translated: write the manifest into the Rule")
    if not isinstance(resource, dict):
        raise UntranslatableError("its source is not a resource")
    return dict(escaped(copy.deepcopy(resource)))


def _object(section: Section, dependency: _Dependency) -> dict[str, Any]:
    operation = str(section.take("operation") or "create")
    manifest = _resource(section)
    _fill(section, "parameters", manifest, dependency)
    strategy = str(section.take("patchStrategy") or "")
    section.close()
    metadata = manifest.get("metadata") or {}
    metadata.pop("namespace", None)
    if operation in ("create", "update"):
        if metadata.pop("generateName", None) is not None:
            section.note("generateName is not kept: the object is named after the run, so that it is made once")
        if operation == "update":
            section.note("becomes server-side apply, which keeps what others set", "operation")
        return {"operation": "Create" if operation == "create" else "Apply", "manifest": manifest}
    if operation not in ("patch", "delete"):
        raise UntranslatableError(f"there is no operation {operation!r}")
    place = {
        "apiVersion": manifest.pop("apiVersion", ""),
        "kind": manifest.pop("kind", ""),
        "name": metadata.pop("name", ""),
    }
    if operation == "delete":
        return {"operation": "Delete", **place}
    if not metadata:
        manifest.pop("metadata", None)
    kind = "Strategic" if "strategic" in strategy else "Merge"
    if strategy and "strategic" not in strategy and "merge" not in strategy:
        raise UntranslatableError(f"the patch strategy {strategy} has no equal")
    return {"operation": "Patch", **place, "patch": manifest, "patchType": kind}


def _workflow(section: Section, dependency: _Dependency) -> dict[str, Any]:
    operation = str(section.take("operation") or "")
    if operation not in _WORKFLOW:
        raise UntranslatableError(f"the operation {operation} of Workflows has no equal; patch the Workflow instead")
    manifest = _resource(section)
    _fill(section, "parameters", manifest, dependency)
    section.close()
    metadata = manifest.setdefault("metadata", {})
    metadata.pop("namespace", None)
    if metadata.pop("generateName", None) is not None:
        section.note("generateName is not kept: the Workflow is named after the run, so that it is made once")
    return {"operation": "Create", "manifest": manifest}


def _nats(section: Section, dependency: _Dependency) -> dict[str, Any]:
    url = str(section.take("url") or "")
    made: dict[str, Any] = {
        "connection": {"url": url if "://" in url else f"nats://{url}"},
        "subject": escaped(str(section.take("subject") or "")),
    }
    body: dict[str, Any] = {}
    _fill(section, "payload", body, dependency)
    if body:
        made["body"] = body
    _fill(section, "parameters", made, dependency)
    section.close()
    return made


def _rule(
    namespace: str,
    rule: str,
    trigger: Trigger,
    *,
    when: Sequence[str],
    account: str | None,
    actions: list[dict[str, Any]],
) -> dict[str, Any]:
    spec: dict[str, Any] = {"trigger": {"type": trigger.type, "parameters": trigger.with_headers()}}
    if when:
        spec["when"] = " && ".join(f"({each})" if " || " in each and len(when) > 1 else each for each in when)
    needs = any("object" in each or _has_secret(each) for each in actions)
    if account or needs:
        spec["serviceAccountName"] = account or "default"
    if actions:
        spec["actions"] = actions
    metadata = {"name": rule, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "attune.dev/v1alpha1", "kind": "Rule", "metadata": metadata, "spec": spec}


def _has_secret(action: dict[str, Any]) -> bool:
    return any("valueFrom" in header for header in action.get("http", {}).get("headers", ()))
