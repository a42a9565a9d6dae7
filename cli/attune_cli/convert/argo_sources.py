"""Argo's calendar, webhook and resource event sources as our trigger types."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from attune_cli.convert.expressions import UntranslatableError, literal, select, split_path
from attune_cli.convert.kinds import kind_of
from attune_cli.convert.source import Section

_DURATION: Final = re.compile(r"(?:([0-9.]+)h)?(?:([0-9.]+)m(?!s))?(?:([0-9.]+)s)?(?:([0-9.]+)ms)?")
_CHANGES: Final = {"ADD": "added", "UPDATE": "modified", "DELETE": "deleted"}


@dataclass(slots=True)
class Trigger:
    """A trigger of ours, and what stands for the data of the source."""

    kind: str
    type: str
    parameters: dict[str, Any]
    section: Section
    headers: set[str] = field(default_factory=set)

    def place(self, path: Sequence[str]) -> tuple[str, list[str]]:
        """Where a field of the source's data is in our events: a CEL expression, and the names inside of it.

        Raises:
            UntranslatableError: nowhere.
        """
        if not path:
            return "event.payload", []
        first, rest = path[0], list(path[1:])
        match self.kind, first:
            case "webhook", "body":
                return "event.payload.body", rest
            case "webhook", "header" if rest:
                self.headers.add(rest[0].lower())
                return f"event.payload.headers[{literal(rest[0].lower())}]", [each for each in rest[1:] if each != "0"]
            case "calendar", "eventTime":
                return "event.payload.scheduled_at", rest
            case "calendar", "userPayload":
                return "event.payload.data", rest
            case "resource", "body":
                return "event.payload.object", rest
        raise UntranslatableError(f"our events have nothing that is {'.'.join(path)!r} there")

    def with_headers(self) -> dict[str, Any]:
        """The parameters, with the headers that are asked for."""
        return {**self.parameters, "headers": sorted(self.headers)} if self.headers else dict(self.parameters)


def source_trigger(kind: str, section: Section) -> Trigger | None:
    """The trigger of one event of a source; None when it is not translated, which is noted."""
    made = {"calendar": _calendar, "webhook": _webhook, "resource": _resource}[kind](section)
    section.take("metadata")
    section.close()
    return made


def _calendar(section: Section) -> Trigger | None:
    interval, schedule = section.take("interval"), section.take("schedule")
    parameters: dict[str, Any]
    if interval:
        seconds = _seconds(str(interval))
        if seconds is None:
            section.note("is not a duration", "interval")
            return None
        parameters, kind = {"interval": seconds, "unit": "seconds"}, "core.intervaltimer"
    elif schedule:
        parameters, kind = {"cron": str(schedule)}, "core.crontimer"
        if zone := section.take("timezone"):
            parameters["timezone"] = zone
    else:
        section.note("has neither interval nor schedule")
        return None
    if persistence := section.section("persistence"):
        catch_up = persistence.section("catchup")
        if catch_up is not None and catch_up.take("enabled"):
            parameters["missed"] = "all"
        if catch_up is not None:
            catch_up.close(why="is not translated: missed occurrences are bounded by number (maxMissed)")
        persistence.take("configMap")  # ours are kept by the API
        persistence.close()
    return Trigger("calendar", kind, parameters, section)


def _seconds(text: str) -> float | None:
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        return None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    return int(total) if total == int(total) else total


def _webhook(section: Section) -> Trigger:
    parameters: dict[str, Any] = {
        "path": str(section.take("endpoint") or "/"),
        "methods": [str(section.take("method") or "POST").upper()],
    }
    secret = section.take("authSecret")
    if isinstance(secret, dict):
        key = f"{secret.get('name')}/{secret.get('key')}"
        parameters["auth"] = {"type": "bearer", "secrets": [key]}
        section.note(f"the Sensor core.webhook must list the Secret {secret.get('name')} (spec.secrets)", "authSecret")
    else:
        parameters["auth"] = {"type": "none"}
        section.note("everyone who can reach it may send, as there; docs/webhook.md has better ways (auth)")
    if (most := section.take("maxPayloadSize")) is not None:
        parameters["maxBodyBytes"] = min(int(most), 716_800)
    for ignored in ("port", "url"):  # of the Sensor core.webhook
        section.take(ignored)
    return Trigger("webhook", "core.webhook", parameters, section)


def _resource(section: Section) -> Trigger:
    group, version = str(section.take("group") or ""), str(section.take("version") or "v1")
    plural = str(section.take("resource") or "")
    kind, guessed = kind_of(plural)
    if guessed:
        section.note(f"the kind of {plural} is guessed to be {kind}", "resource")
    parameters: dict[str, Any] = {"apiVersion": f"{group}/{version}" if group else version, "kind": kind}
    if namespace := section.take("namespace"):
        parameters["namespaces"] = [namespace]
    changes = [_CHANGES[each] for each in section.take("eventTypes") or () if each in _CHANGES]
    if changes:
        parameters["events"] = changes
    if (filters := section.section("filter")) is not None:
        _resource_filter(filters, parameters)
    return Trigger("resource", "core.kubernetes", parameters, section)


def _resource_filter(section: Section, parameters: dict[str, Any]) -> None:
    conditions: list[str] = []
    if prefix := section.take("prefix"):
        conditions.append(f"object.metadata.name.startsWith({literal(prefix)})")
    selectors: list[str] = []
    for each in section.sections("labels"):
        key, sign, value = each.take("key"), str(each.take("operation") or "=="), each.take("value")
        if sign in ("==", "=", "!="):
            selectors.append(f"{key}{'!=' if sign == '!=' else '='}{value}")
        elif sign in ("in", "notin"):
            selectors.append(f"{key} {sign} ({value})")
        else:
            each.note(f"the operation {sign!r} is not translated", "operation")
        each.close()
    if selectors:
        parameters["labelSelector"] = ",".join(selectors)
    for index, each in enumerate(section.sections("fields")):
        key, sign, value = str(each.take("key") or ""), str(each.take("operation") or "=="), each.take("value")
        try:
            if sign not in ("==", "=", "!="):
                raise UntranslatableError(f"there is no operation {sign!r}")
            equal = "!=" if sign == "!=" else "=="
            conditions.append(f"{select('object', split_path(key))} {equal} {literal(value)}")
        except UntranslatableError as error:
            section.note(f"is not translated: {error}", "fields", index)
        each.close()
    section.take("afterStart")  # a Rule is about what changes after it was made
    section.close(why="is not translated; write it as filter, in CEL")
    if conditions:
        parameters["filter"] = " && ".join(conditions)
