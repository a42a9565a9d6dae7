"""``attune rules``: which Rules exist, whether they are active, since when, or why not."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from attune_cli.errors import CliError, ExitCode, UsageError
from attune_cli.lazy import command_app
from attune_cli.output import Format, OutputOption, printable, say, show
from attune_cli.session import AllNamespacesOption, NamespaceOption, Session, asking
from attune_cli.times import moment, rfc3339
from attune_cli.views import RULE_COLUMNS, as_list, rule_page, rule_row, trial_page
from attune_contract.names import RULES
from attune_contract.telling import bare, condition, enabled, is_current, ref, rule_problem

app = command_app(help="Rules: which occurrences matter, and whether their sensor runs them.")

SelectorOption = Annotated[str, typer.Option("--selector", "-l", help="Label selector, as in kubectl.")]
RuleArgument = Annotated[str, typer.Argument(metavar="RULE", help="NAME or NAMESPACE/NAME.")]
RulesArgument = Annotated[list[str], typer.Argument(metavar="RULE...", help="NAME or NAMESPACE/NAME.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until the sensor has confirmed it.")]
TimeoutOption = Annotated[float, typer.Option(min=0, help="How many seconds --wait waits.")]
_POLL: Final = 0.2


@asking(app, "list")
def list_(
    session: Session,
    namespace: NamespaceOption = None,
    everywhere: AllNamespacesOption = False,
    selector: SelectorOption = "",
    sensor: Annotated[str | None, typer.Option(help="Only Rules of this Sensor, NAMESPACE/NAME.")] = None,
    trigger_type: Annotated[str | None, typer.Option("--type", help="Only Rules with this trigger type.")] = None,
    problems: Annotated[bool, typer.Option("--problems", help="Only Rules that should be active and are not.")] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """List Rules: which Sensor serves them, whether they are active, and why not."""
    scope = session.scope(namespace, everywhere=everywhere)
    found = [
        body
        for body in session.kube.list(RULES, scope, selector=selector)
        if (sensor is None or (body.get("status") or {}).get("sensor") == sensor)
        and (trigger_type is None or body["spec"]["trigger"]["type"] == trigger_type)
        and (not problems or rule_problem(body) is not None)
    ]
    if not found and output is Format.TABLE:
        which = "Rules with a problem" if problems else "such Rules" if sensor or trigger_type or selector else "Rules"
        say(f"There are no {which} in {f'namespace {scope} (-A shows all)' if scope else 'any namespace'}.")
        return
    now = datetime.now(UTC)
    show(as_list(found), output, columns=RULE_COLUMNS, rows=[rule_row(body, now) for body in found])


@asking(app, "show")
def show_(
    session: Session, rule: RuleArgument, namespace: NamespaceOption = None, output: OutputOption = Format.TABLE
) -> None:
    """Show one Rule: its parameters, the Sensor that serves it, and its conditions with their reasons."""
    body = session.read(RULES, rule, namespace)
    text = "\n".join(printable(line) for line in rule_page(body, datetime.now(UTC)).splitlines())
    show(bare(body), output, title=text)


@asking(app, "enable")
def enable(
    session: Session,
    rules: RulesArgument,
    namespace: NamespaceOption = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = 30.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Enable Rules."""
    _set_enabled(session, rules, namespace, on=True, patience=timeout if wait else None, output=output)


@asking(app, "disable")
def disable(
    session: Session,
    rules: RulesArgument,
    namespace: NamespaceOption = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = 30.0,
    output: OutputOption = Format.TABLE,
) -> None:
    """Disable Rules. They keep their parameters and their history."""
    _set_enabled(session, rules, namespace, on=False, patience=timeout if wait else None, output=output)


def _set_enabled(
    session: Session, rules: list[str], namespace: str | None, *, on: bool, patience: float | None, output: Format
) -> None:
    word = "enabled" if on else "disabled"
    changed: list[Mapping[str, Any]] = []
    for place in [session.place(rule, namespace) for rule in rules]:
        before = session.kube.get(RULES, *place)
        if enabled(before) == on:
            changed.append(before)
            _report(f"Rule {ref(before)} is already {word}.", output)
            continue
        after = session.kube.patch(RULES, *place, {"spec": {"enabled": on}})
        changed.append(after)
        _report(f"Rule {ref(after)} {word}.", output)
    if patience is not None:
        deadline = time.monotonic() + patience
        changed = [_await(session, body, on=on, deadline=deadline, output=output) for body in changed]
    if output is not Format.TABLE:
        show(as_list(changed), output)


def _report(text: str, output: Format) -> None:
    if output is Format.TABLE:
        typer.echo(text)
    else:
        say(text)


def _await(
    session: Session, body: Mapping[str, Any], *, on: bool, deadline: float, output: Format
) -> Mapping[str, Any]:
    """Wait until the Rule's condition Active has the wanted status for this generation."""
    place = body["metadata"]["namespace"], body["metadata"]["name"]
    while True:
        active = condition(body, "Active")
        if is_current(body, active):
            if (active.get("status") == "True") == on:
                _report(f"Rule {ref(body)} is {'active' if on else 'stopped'}.", output)
                return body
            if active.get("reason") in ("NotAccepted", "Rejected", "SensorPaused", "Completed", "NeverFires") and on:
                raise CliError(f"Rule {ref(body)} is enabled, but not active: {active.get('message')}")
        if time.monotonic() >= deadline:
            said = active.get("message") or "the operator has not reconciled it; is the operator running?"
            raise CliError(f"Rule {ref(body)}: its sensor did not confirm it in time: {said}")
        time.sleep(_POLL)
        body = session.kube.get(RULES, *place)


HISTORY_COLUMNS = ("at", "event", "generation", "enabled", "sensor", "changed by", "reason", "uid")


@asking(app, "history")
def history(
    session: Session,
    rule: RuleArgument,
    namespace: NamespaceOption = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest entries.")] = 20,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show the history of a Rule, the newest entry last: who created, changed, enabled, disabled or deleted it, and when."""
    place = "/".join(quote(part, safe="") for part in session.place(rule, namespace))
    answer = session.api.request("GET", f"/api/v1/rules/{place}/history", params={"limit": str(limit)})
    entries = answer["data"][::-1]
    show({"data": entries}, output, columns=HISTORY_COLUMNS, rows=[_history_row(entry) for entry in entries])


def _history_row(entry: Mapping[str, Any]) -> list[str]:
    return [
        entry["at"],
        entry["type"],
        str(entry["generation"]),
        str(entry["enabled"]).lower(),
        entry["sensor_ref"] or "-",
        entry["changed_by"] or "-",
        entry["reason"] or "-",
        entry["rule_uid"],
    ]


@asking(app, "test")
def try_(
    session: Session,
    rule: Annotated[
        str | None, typer.Argument(metavar="[RULE]", help="NAME or NAMESPACE/NAME; with --file, needed for several.")
    ] = None,
    event: Annotated[str | None, typer.Option("--event", help="Try it on the stored event with this id.")] = None,
    payload: Annotated[
        Path | None,
        typer.Option("--payload", help="Try it on an event with the payload in this JSON file; - for stdin."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Try it on its stored events from this time on: 1h, or a time.")
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", help="Take the Rule from this manifest, and ask no system. Needs --payload."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="With --since: how many events.")] = 20,
    namespace: NamespaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what a Rule would do for an event: its conditions, and its actions with the results of expressions. Does nothing.

    The exit status is 1 when an action would fail before it begins.
    """
    if (event is not None) + (payload is not None) + (since is not None) != 1:
        raise UsageError("Give one of --event, --payload and --since.")
    if file:
        from attune_cli.trying import read_payload, read_rule, try_rule

        if payload is None:
            raise UsageError("With --file there are no stored events to try it on: give --payload.")
        body = read_rule(file, name=rule, namespace=namespace or "default")
        answer = try_rule(body, read_payload(payload))
    else:
        if rule is None:
            raise UsageError("Name a Rule, or a file with --file.")
        asked: dict[str, Any] = {}
        if event is not None:
            asked["event_id"] = event
        elif payload is not None:
            from attune_cli.trying import read_payload

            asked["payload"] = read_payload(payload)
        else:
            asked |= {"occurred_after": rfc3339(moment(str(since), datetime.now(UTC))), "limit": limit}
        place = "/".join(quote(part, safe="") for part in session.place(rule, namespace))
        answer = session.api.request("POST", f"/api/v1/rules/{place}/test", json=asked)
    text = "\n".join(printable(line) for line in trial_page(answer))
    show(answer, output, title=text)
    if any(step["fate"] == "fail" for trial in answer["data"] for step in trial["steps"]):
        raise typer.Exit(ExitCode.PROBLEM)
