"""Knative: PingSources and ApiServerSources become Rules that send what the source would send, to the Triggers' subscribers."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from attune_cli.convert.expressions import action_name, escaped, literal, name
from attune_cli.convert.source import Section

GROUPS: Final = ("sources.knative.dev/", "eventing.knative.dev/", "serving.knative.dev/", "messaging.knative.dev/")
KINDS: Final = ("PingSource", "ApiServerSource", "Trigger", "Broker")
_PING: Final = "dev.knative.sources.ping"
_CHANGES: Final = {"add": "added", "update": "modified", "delete": "deleted"}
_ADDRESS: Final = (
    "the address is a Service's: the chart refuses those unless its values allow them (docs/actions-security.md)"
)


class _Subscriber:
    """Somebody that events go to: an address, and the events' types that it wants."""

    def __init__(self, label: str, url: str, types: tuple[str, ...] = ()) -> None:
        self.label = label
        self.url = url
        self.types = types


def convert(sections: Sequence[Section]) -> Iterator[dict[str, Any]]:
    """Rules of the sources among ``sections``."""
    triggers = [section for section in sections if section.value.get("kind") == "Trigger"]
    used: set[int] = set()
    for section in sections:
        kind = section.value.get("kind")
        if kind == "PingSource":
            yield from _ping(section, triggers, used)
        elif kind == "ApiServerSource":
            yield from _api_server(section, triggers, used)
        elif kind == "Broker":
            section.note("needs no equal: events are stored, and each Rule has its own")
    for index, section in enumerate(triggers):
        if index not in used:
            section.note("no PingSource or ApiServerSource in these files sends to its Broker")


def _metadata(section: Section) -> tuple[str, str]:
    metadata = section.take("metadata") or {}
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def _ping(section: Section, triggers: Sequence[Section], used: set[int]) -> Iterator[dict[str, Any]]:
    namespace, source = _metadata(section)
    spec = section.section("spec")
    if spec is None:
        return
    parameters: dict[str, Any] = {"cron": str(spec.take("schedule") or "* * * * *")}
    if zone := spec.take("timezone"):
        parameters["timezone"] = zone
    data, kind = spec.take("data"), str(spec.take("contentType") or "application/json")
    if spec.take("dataBase64") is not None:
        spec.note("is not translated: the runner sends text", "dataBase64")
    body: dict[str, Any] = {}
    if data is not None:
        try:
            body = {"body": escaped(json.loads(data))}
        except ValueError:
            body = {"text": escaped(str(data))}
    attributes = {
        "type": _PING,
        "source": f"/apis/v1/namespaces/{namespace or 'default'}/pingsources/{source}",
    }
    subscribers = _subscribers(spec, namespace, attributes, triggers, used)
    actions = [
        {
            "name": action_name(each.label),
            "http": {"url": each.url, "headers": _headers(attributes, kind), **body},
        }
        for each in subscribers
    ]
    spec.close()
    yield _rule(namespace, source, {"type": "core.crontimer", "parameters": parameters}, actions)


def _headers(attributes: dict[str, str], kind: str) -> list[dict[str, str]]:
    """A CloudEvent in binary mode, with the attributes that the source would give it."""
    return [
        {"name": "Ce-Specversion", "value": "1.0"},
        {"name": "Ce-Id", "value": "${event.id}"},
        {"name": "Ce-Time", "value": "${event.occurredAt}"},
        *({"name": f"Ce-{key.capitalize()}", "value": value} for key, value in attributes.items()),
        {"name": "Content-Type", "value": kind},
    ]


def _api_server(section: Section, triggers: Sequence[Section], used: set[int]) -> Iterator[dict[str, Any]]:
    namespace, source = _metadata(section)
    spec = section.section("spec")
    if spec is None:
        return
    mode = str(spec.take("mode") or "Reference")
    middle = "resource" if mode == "Resource" else "ref"
    change = 'event.payload.change == "added" ? "add" : event.payload.change == "deleted" ? "delete" : "update"'
    attributes = {"source": "/apis", "type": f"dev.knative.apiserver.{middle}.${{{change}}}"}
    subscribers = _subscribers(
        spec, namespace, {"type": f"dev.knative.apiserver.{middle}.*", "source": "*"}, triggers, used
    )
    spec.take("serviceAccountName")
    if spec.value.get("serviceAccountName"):
        spec.note("who may watch is the ServiceAccount of the Sensor core.kubernetes", "serviceAccountName")
    for each in spec.sections("resources"):
        parameters: dict[str, Any] = {
            "apiVersion": str(each.take("apiVersion") or "v1"),
            "kind": str(each.take("kind") or ""),
        }
        selector = each.section("selector")
        if selector is not None:
            labels = selector.take("matchLabels") or {}
            parameters["labelSelector"] = ",".join(f"{key}={value}" for key, value in labels.items())
            selector.close(why="is not translated; write it as labelSelector")
        each.close()
        if mode != "Resource":
            parameters["payload"] = "metadata"
        actions: list[dict[str, Any]] = []
        wanted: set[str] = set()
        for subscriber in subscribers:
            changes = [_CHANGES[name_] for name_ in (_last(type_) for type_ in subscriber.types) if name_ in _CHANGES]
            wanted |= set(changes or _CHANGES.values())
            when = {"when": f"event.payload.change in {literal(changes)}"} if changes else {}
            actions.append(
                {
                    "name": action_name(subscriber.label),
                    **when,
                    "http": {
                        "url": subscriber.url,
                        "headers": [
                            *_headers(attributes, "application/json"),
                            {"name": "Ce-Subject", "value": "${event.payload.namespace}/${event.payload.name}"},
                        ],
                        "body": _resource_body(mode),
                    },
                }
            )
        if wanted and wanted != set(_CHANGES.values()):
            parameters["events"] = sorted(wanted)
        trigger = {"type": "core.kubernetes", "parameters": parameters}
        yield _rule(namespace, name(source, parameters["kind"]), trigger, actions)
    spec.close()


def _resource_body(mode: str) -> Any:
    if mode == "Resource":
        return "${event.payload.object}"
    fields = ("apiVersion", "kind", "namespace", "name")
    return {each: f"${{event.payload.{each}}}" for each in fields}


def _last(type_: str) -> str:
    return type_.rpartition(".")[2]


def _subscribers(
    spec: Section,
    namespace: str,
    attributes: dict[str, str],
    triggers: Sequence[Section],
    used: set[int],
) -> list[_Subscriber]:
    overrides = spec.section("ceOverrides")
    if overrides is not None:
        overrides.close(why="is not translated; add headers Ce-… to the action")
    sink = spec.section("sink")
    if sink is None:
        spec.note("has no sink")
        return []
    reference = sink.value.get("ref") or {}
    if str(reference.get("kind")) != "Broker":
        url = _address(sink, namespace)
        return [] if url is None else [_Subscriber(_label(sink), url)]
    sink.take("ref")
    broker = (str(reference.get("namespace") or namespace), str(reference.get("name") or "default"))
    found: list[_Subscriber] = []
    for index, trigger in enumerate(triggers):
        place, label = _metadata(trigger)
        its = trigger.value.get("spec") or {}
        if (place, str(its.get("broker") or "default")) != broker:
            continue
        first = index not in used
        used.add(index)
        subscriber = _trigger(trigger, label, place, attributes, first=first)
        if subscriber is not None:
            found.append(subscriber)
    if not found:
        sink.note("no Trigger of this Broker in these files takes these events", "ref")
    return found


def _trigger(
    section: Section, label: str, namespace: str, attributes: dict[str, str], *, first: bool
) -> _Subscriber | None:
    spec = section.section("spec")
    if spec is None:
        return None
    spec.take("broker")
    types: tuple[str, ...] = ()
    fitting = True
    wanted = dict((spec.take("filter") or {}).get("attributes") or {})
    for index, each in enumerate(spec.take("filters") or ()):
        exact = each.get("exact") if isinstance(each, dict) and len(each) == 1 else None
        if exact is None and first:
            spec.note("only exact is translated; write it as the action's when, in CEL", "filters", index)
        wanted |= exact or {}
    for key, value in wanted.items():
        given = attributes.get(key)
        if given is None:
            if first:
                spec.note(f"our events have no attribute {key!r} to filter by", "filter")
        elif given.endswith("*"):
            fitting = fitting and str(value).startswith(given[:-1])
            types = (*types, str(value)) if key == "type" else types
        else:
            fitting = fitting and value == given
    subscriber = spec.section("subscriber")
    if not fitting or subscriber is None:
        return None
    url = _address(subscriber, namespace, first=first)
    if first:
        spec.close(why="is not translated; an action has retry of its own")
    return None if url is None else _Subscriber(label, url, types)


def _label(sink: Section) -> str:
    reference = sink.value.get("ref") or {}
    return str(reference.get("name") or "send")


def _address(section: Section, namespace: str, *, first: bool = True) -> str | None:
    """The URL of a destination: ``ref`` and ``uri``."""
    reference, uri = section.section("ref"), section.take("uri")
    for ignored in ("CACerts", "audience"):
        if section.take(ignored) is not None and first:
            section.note("is not translated", ignored)
    if reference is None:
        return None if uri is None else str(escaped(str(uri)))
    kind, label = str(reference.take("kind") or ""), str(reference.take("name") or "")
    place = str(reference.take("namespace") or namespace or "default")
    reference.take("apiVersion")
    if kind not in ("Service", "Channel", "InMemoryChannel"):
        if first:
            section.note(f"the address of a {kind} is not known; write its url", "ref")
        return None
    host = label if kind == "Service" else f"{label}-kn-channel"
    if first:
        section.note(_ADDRESS, "ref")
    return f"http://{host}.{place}.svc.cluster.local{uri or '/'}"


def _rule(namespace: str, rule: str, trigger: dict[str, Any], actions: list[dict[str, Any]]) -> dict[str, Any]:
    metadata = {"name": name(rule), **({"namespace": namespace} if namespace else {})}
    spec = {"trigger": trigger, **({"actions": actions} if actions else {})}
    return {"apiVersion": "attune.dev/v1alpha1", "kind": "Rule", "metadata": metadata, "spec": spec}
