"""StackStorm: rules with their trigger, criteria and action."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from attune_cli.convert.expressions import (
    UntranslatableError,
    action_name,
    from_mustache,
    literal,
    name,
    select,
    split_path,
    there,
)
from attune_cli.convert.source import Section

#: Fields of a cron timer from the finest on, each with what it is where a finer one is given and it is not.
_FIELDS: Final = (("second", "0"), ("minute", "0"), ("hour", "0"), ("day", "*"), ("month", "*"), ("day_of_week", "*"))
_DAYS: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_IMAGE: Final = "busybox:1.37"


def is_rule(value: Any) -> bool:
    """Whether a document is a rule of StackStorm."""
    return isinstance(value, dict) and "trigger" in value and "apiVersion" not in value


def convert(sections: Sequence[Section]) -> Iterator[dict[str, Any]]:
    """Rules of the rules among ``sections``."""
    for section in sections:
        found = _rule(section)
        if found is not None:
            yield found


def _rule(section: Section) -> dict[str, Any] | None:
    label, pack = str(section.take("name") or "converted"), str(section.take("pack") or "")
    description, enabled = section.take("description"), section.take("enabled", True)
    for ignored in ("ref", "uid", "id", "metadata_file"):
        section.take(ignored)
    trigger = section.section("trigger")
    if trigger is None:
        return None
    spec: dict[str, Any] = {}
    if description:
        spec["description"] = str(description)[:1024]
    if not enabled:
        spec["enabled"] = False
    made, place = _trigger(trigger)
    spec["trigger"] = made
    conditions = [text for text in _criteria(section, place) if text]
    if conditions:
        spec["when"] = " && ".join(conditions)
    action = section.section("action")
    if action is not None:
        translated = _action(action, place, label)
        if translated is not None:
            spec["actions"] = [translated]
            if "job" in translated:
                spec["serviceAccountName"] = "default"
    section.close()
    metadata = {"name": name(pack, label)}
    return {"apiVersion": "attune.dev/v1alpha1", "kind": "Rule", "metadata": metadata, "spec": spec}


Place = Callable[[str], tuple[str, list[str]]]


def _trigger(section: Section) -> tuple[dict[str, Any], Place]:
    kind = str(section.take("type") or "")
    parameters = section.section("parameters")
    values = dict(parameters.value) if parameters is not None else {}
    section.take("ref")
    match kind:
        case "core.st2.IntervalTimer":
            made = {"interval": values.pop("delta", 1), "unit": str(values.pop("unit", "seconds"))}
            values.pop("timezone", None)
            return _close(section, values, "core.intervaltimer", made), _timer_place
        case "core.st2.CronTimer":
            return _close(section, values, "core.crontimer", _cron(values, section)), _timer_place
        case "core.st2.DateTimer":
            made = {"at": _moment(str(values.pop("date", "")), str(values.pop("timezone", "UTC")), section)}
            return _close(section, values, "core.datetimetimer", made), _timer_place
        case "core.st2.webhook":
            path = "/" + str(values.pop("url", "")).strip("/")
            secret = "attune-webhooks/" + (name(path) or "st2")
            auth = {"type": "header", "header": "St2-Api-Key", "secrets": [secret]}
            section.note(f"keys of st2 are not known here: put the senders' key into the Secret as {secret}", "type")
            return _close(section, values, "core.webhook", {"path": path, "auth": auth}), _webhook_place
    section.note(f"a Sensor must offer the trigger type {kind.lower()}: one of your own, or runner: Stdio", "type")
    section.close()
    return {"type": kind.lower(), **({"parameters": values} if values else {})}, _any_place


def _close(section: Section, rest: dict[str, Any], kind: str, parameters: dict[str, Any]) -> dict[str, Any]:
    for key in rest:
        section.note("is not translated", "parameters", key)
    section.close()
    return {"type": kind, "parameters": parameters}


def _cron(values: dict[str, Any], section: Section) -> dict[str, Any]:
    given = {key: values.pop(key) for key, _ in _FIELDS if key in values}
    # As there: a field that is not given is * beside a finer one that is given, and its least value otherwise.
    finest = next((index for index, (key, _) in enumerate(_FIELDS) if key in given), len(_FIELDS))
    texts: list[str] = []
    for index, (key, least) in enumerate(_FIELDS):
        default = "*" if index > finest else least
        if key == "day" and index < finest:
            default = "1" if "month" in given and "day_of_week" not in given else "*"
        text = str(given.get(key, default))
        texts.append(_day_of_week(text) if key == "day_of_week" else text)
    made: dict[str, Any] = {"cron": " ".join(texts[1:] if texts[0] == "0" else texts)}
    if "day" in given and "day_of_week" in given:
        made["dayMatch"] = "All"
    if zone := values.pop("timezone", None):
        made["timezone"] = zone
    return made


def _day_of_week(text: str) -> str:
    """There the week begins on Monday with 0; names are the same everywhere."""
    return re.sub(r"(?<![/\w])[0-6](?!\w)", lambda match: _DAYS[int(match[0])], text).upper()


def _moment(date: str, zone: str, section: Section) -> str:
    text = date.strip().replace(" ", "T")
    if re.search(r"(Z|[+-][0-9]{2}:?[0-9]{2})$", text):
        return text
    if zone.upper() not in ("", "UTC"):
        section.note(f"the time is local to {zone}: write it with its distance to UTC", "parameters", "date")
    return f"{text}Z"


def _timer_place(path: str) -> tuple[str, list[str]]:
    if path == "executed_at":
        return "event.payload.fired_at", []
    raise UntranslatableError(f"our timers' events have no {path!r}")


def _webhook_place(path: str) -> tuple[str, list[str]]:
    first, *rest = split_path(path)
    if first == "body":
        return "event.payload.body", rest
    raise UntranslatableError(f"our webhooks' events have no {first!r} in this form")


def _any_place(path: str) -> tuple[str, list[str]]:
    return "event.payload", split_path(path)


# -- criteria ------------------------------------------------------------------------------------------------------------


def _criteria(section: Section, place: Place) -> Iterator[str]:
    for key, criterion in section.named("criteria"):
        try:
            yield _criterion(key, criterion, place)
        except UntranslatableError as error:
            criterion.note(f"is not translated: {error}")
            criterion.take("pattern")
        criterion.close()


def _criterion(key: str, section: Section, place: Place) -> str:
    kind = str(section.take("type") or "").lower()
    pattern = section.take("pattern")
    if isinstance(pattern, str) and "{{" in pattern:
        raise UntranslatableError("the pattern is a template")
    if not key.startswith("trigger."):
        raise UntranslatableError("the criterion is not about trigger")
    # "a.b#2" tells two criteria about a.b apart.
    base, path = place(re.sub(r"#.*$", "", key.removeprefix("trigger.")))
    field, text = select(base, path), literal(str(pattern))
    lower = literal(str(pattern).lower())
    has = f"({there(base, path)})"
    simple: dict[str, str] = {
        "equals": f"{field} == {literal(pattern)}",
        "nequals": f"{field} != {literal(pattern)}",
        "iequals": f"string({field}).lowerAscii() == {lower}",
        "regex": f"string({field}).matches({text})",
        "iregex": f"string({field}).matches({literal(f'(?i){pattern}')})",
        "matchregex": f"string({field}).matches({literal(f'^(?:{pattern})')})",
        "startswith": f"string({field}).startsWith({text})",
        "istartswith": f"string({field}).lowerAscii().startsWith({lower})",
        "endswith": f"string({field}).endsWith({text})",
        "iendswith": f"string({field}).lowerAscii().endsWith({lower})",
        "contains": f"(type({field}) == string ? string({field}).contains({text}) : {literal(pattern)} in {field})",
        "icontains": f"string({field}).lowerAscii().contains({lower})",
        "ncontains": f"!(type({field}) == string ? string({field}).contains({text}) : {literal(pattern)} in {field})",
        "incontains": f"!string({field}).lowerAscii().contains({lower})",
        "exists": has,
        "nexists": f"!{has}",
        "inside": f"{field} in {literal(pattern)}",
        "ninside": f"!({field} in {literal(pattern)})",
    }
    if kind in ("inside", "in", "ninside", "nin") and not isinstance(pattern, list):
        raise UntranslatableError("its pattern is not a list")
    signs = {"greaterthan": ">", "gt": ">", "lessthan": "<", "lt": "<"}
    if kind in signs:
        try:
            return f"double({field}) {signs[kind]} {float(pattern)}"
        except (TypeError, ValueError):
            raise UntranslatableError("its pattern is not a number") from None
    kind = {"eq": "equals", "neq": "nequals", "ieq": "iequals", "in": "inside", "nin": "ninside"}.get(kind, kind)
    if kind not in simple:
        raise UntranslatableError(f"there is no equal of the type {kind!r}")
    return simple[kind]


# -- the action ----------------------------------------------------------------------------------------------------------


def _action(section: Section, place: Place, label: str) -> dict[str, Any] | None:
    reference = str(section.take("ref") or "")
    parameters = section.section("parameters")
    values = dict(parameters.value) if parameters is not None else {}
    made: dict[str, Any] | None = None
    try:
        match reference:
            case "core.http":
                made = {"http": _http(values, place)}
            case "core.local" | "core.local_sudo":
                command = _template(values.pop("cmd", ""), place)
                section.note(f"runs in a container of {_IMAGE}: choose an image that has what the command needs", "ref")
                made = {"job": {"template": {"spec": _job(command)}}}
            case "core.inject_trigger":
                made = {"emit": _emit(values, place)}
                taken = f"type: core.event, parameters: {{name: {made['emit']['name']}}}"
                section.note(f"rules that take this trigger need: {taken}", "ref")
            case "core.noop" | "core.pause":
                section.close()
                return None
            case _:
                section.note(f"there is no equal of the action {reference}: write an http, job or object action", "ref")
                section.close()
                return None
    except UntranslatableError as error:
        section.note(f"the action is not translated: {error}")
        return None
    for key in values:
        section.note("is not translated", "parameters", key)
    section.close()
    return {"name": action_name(reference.rpartition(".")[2] or label), **made}


def _http(values: dict[str, Any], place: Place) -> dict[str, Any]:
    body = values.pop("body", None)
    made: dict[str, Any] = {
        "url": _template(values.pop("url", ""), place),
        "method": str(values.pop("method", "GET")).upper(),
    }
    headers = values.pop("headers", None) or {}
    if isinstance(headers, dict) and headers:
        made["headers"] = [{"name": key, "value": _template(str(value), place)} for key, value in headers.items()]
    query = values.pop("params", None) or {}
    if isinstance(query, dict) and query:
        made["query"] = {key: _template(str(value), place) for key, value in query.items()}
    if isinstance(body, str):
        made["text"] = _template(body, place)
    elif body is not None:
        made["body"] = _templates(body, place)
    return made


def _emit(values: dict[str, Any], place: Place) -> dict[str, Any]:
    # They replaced the parameter trigger by trigger_name.
    wanted = values.pop("trigger_name", None) or values.pop("trigger", "")
    values.pop("trace_tag", None)
    return {"name": _template(wanted, place), "payload": _templates(values.pop("payload", None) or {}, place)}


def _job(command: str) -> dict[str, Any]:
    container = {"name": "command", "image": _IMAGE, "command": ["sh", "-c", command]}
    return {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}


def _templates(value: Any, place: Place) -> Any:
    if isinstance(value, str):
        return _template(value, place)
    if isinstance(value, dict):
        return {key: _templates(inner, place) for key, inner in value.items()}
    return [_templates(inner, place) for inner in value] if isinstance(value, list) else value


def _template(text: Any, place: Place) -> str:
    def expression(inner: str) -> str:
        if not re.fullmatch(r"trigger\.[\w.\-]+", inner):
            raise UntranslatableError(f"{{{{ {inner} }}}} is more than a field of trigger")
        return select(*place(inner.removeprefix("trigger.")))

    return from_mustache(str(text), expression)
