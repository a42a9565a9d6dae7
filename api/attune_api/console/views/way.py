"""A Rule's way, part by part: what each part says, and whether it lets through what comes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from attune_api.console.rows import Tone, rule_tone, sensor_tone
from attune_contract.names import ActionsReason
from attune_contract.telling import Object, age, condition, enabled, sensor_problem, sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One part of the way.

    Attributes:
        part: what it is: trigger, sensor, events, actions, runs.
        title: its heading.
        value: what it is here.
        says: what it says of itself, in a few words.
        tone: how it is.
        path: where there is more about it, below the console; empty if nowhere.
    """

    part: str
    title: str
    value: str
    says: str
    tone: Tone
    path: str = ""


def way(
    rule: Object,
    *,
    sensor: Object | None,
    newest: str | None,
    rate: str,
    runs: Mapping[str, Any] | None,
    now: datetime,
) -> list[Step]:
    """The way of a Rule's occurrences.

    Args:
        rule: the Rule.
        sensor: the Sensor that serves it; None if it may not be read, or there is none.
        newest: when its newest event occurred; None if there is none.
        rate: how often events come, in words; empty if that cannot be said.
        runs: the summary of its runs; None if there are none.
        now: the present time.
    """
    actions = rule["spec"].get("actions") or []
    return [
        _trigger(rule),
        _sensor(rule, sensor),
        _events(rule, newest, rate, now),
        _actions(rule, actions),
        _runs(actions, runs, now),
    ]


def _trigger(rule: Object) -> Step:
    accepted = condition(rule, "Accepted")
    kind = str(rule["spec"]["trigger"]["type"])
    if accepted.get("status") == "False":
        return Step(part="trigger", title="Trigger", value=kind, says=sentence(accepted), tone="bad")
    says = short_parameters(rule["spec"]["trigger"].get("parameters") or {}) or "no parameters"
    return Step(part="trigger", title="Trigger", value=kind, says=says, tone="good" if accepted else "wait")


def short_parameters(parameters: Mapping[str, Any], *, most: int = 80) -> str:
    """Parameters in one line, cut where it gets long."""
    text = ", ".join(f"{name}: {_short(value)}" for name, value in parameters.items())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{…}" if value else "{}"
    if isinstance(value, list):
        return f"[{len(value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sensor(rule: Object, sensor: Object | None) -> Step:
    served = str((rule.get("status") or {}).get("sensor") or "")
    if not served:
        return Step(part="sensor", title="Sensor", value="none", says="No Sensor serves this Rule.", tone="bad")
    if sensor is None:
        return Step(part="sensor", title="Sensor", value=served, says="You may not read it, or it is gone.", tone="off")
    tone, word = sensor_tone(sensor)
    says = sensor_problem(sensor) or word
    rule_side = condition(rule, "Active")
    if tone == "good" and rule_side.get("status") == "True":
        says = "It runs the Rule."
    elif tone == "good" and rule_side:
        tone, says = ("off" if not enabled(rule) else rule_tone(rule)[0]), sentence(rule_side)
    return Step(part="sensor", title="Sensor", value=served, says=says, tone=tone, path=f"/sensors/{served}")


def _events(rule: Object, newest: str | None, rate: str, now: datetime) -> Step:
    last = newest or (rule.get("status") or {}).get("lastEventTime")
    if last is None:
        tone: Tone = "wait" if enabled(rule) else "off"
        return Step(part="events", title="Events", value="none yet", says="Nothing has occurred.", tone=tone)
    return Step(part="events", title="Events", value=f"last {age(last, now)} ago", says=rate, tone="good")


def _actions(rule: Object, actions: list[Any]) -> Step:
    if not actions:
        return Step(
            part="actions", title="Actions", value="none", says="Events are stored, and that is all.", tone="off"
        )
    names = ", ".join(str(each.get("name") or "") for each in actions)
    healthy = condition(rule, "ActionsHealthy")
    value = f"{len(actions)} action{'s' if len(actions) != 1 else ''}"
    if healthy.get("status") == "False":
        of_runs = healthy.get("reason") != ActionsReason.INVALID_EXPRESSION
        says = f"{names}: the last run failed" if of_runs else sentence(healthy)
        return Step(part="actions", title="Actions", value=value, says=says, tone="bad")
    return Step(part="actions", title="Actions", value=value, says=names, tone="good" if healthy else "wait")


def _runs(actions: list[Any], runs: Mapping[str, Any] | None, now: datetime) -> Step:
    if runs is None:
        says = "Nothing was done yet." if actions else "There is nothing to do."
        return Step(part="runs", title="Runs", value="none", says=says, tone="wait" if actions else "off")
    failed, waiting = int(runs["failed"]), int(runs["waiting"])
    done = int(runs["succeeded"])
    failure, success = runs.get("last_failure_at"), runs.get("last_success_at")
    failing = failure is not None and (success is None or failure > success)
    parts = [
        f"{done:,} succeeded",
        *([f"{failed:,} failed"] if failed else []),
        *([f"{waiting:,} wait"] if waiting else []),
    ]
    if failing:
        why = str(runs.get("last_failure_message") or runs.get("last_failure_reason") or "")
        says = f"The last one failed {age(_text(failure), now)} ago: {why}" if why else "The last one failed."
        return Step(part="runs", title="Runs", value=", ".join(parts), says=says, tone="bad")
    last = runs.get("last_run_at")
    says = f"The last one {age(_text(last), now)} ago." if last is not None else ""
    return Step(part="runs", title="Runs", value=", ".join(parts), says=says, tone="good")


def _text(time: Any) -> str:
    return str(time.isoformat()) if isinstance(time, datetime) else str(time)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldCondition:
    """A condition of an object, as Kubernetes has it; ``since`` is when it last changed."""

    type: str
    status: str
    reason: str
    message: str
    since: str


def told_conditions(body: Object) -> list[ToldCondition]:
    """All conditions of an object."""
    found = (body.get("status") or {}).get("conditions") or ()
    return [
        ToldCondition(
            type=str(entry.get("type") or ""),
            status=str(entry.get("status") or ""),
            reason=str(entry.get("reason") or ""),
            message=str(entry.get("message") or ""),
            since=str(entry.get("lastTransitionTime") or ""),
        )
        for entry in found
    ]
