"""``attune runs``: what became of each action of a Rule for each event."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from attune_cli.errors import CliError, ExitCode, UsageError
from attune_cli.interrupting import interrupted_for_certain
from attune_cli.lazy import command_app
from attune_cli.output import Cell, Format, OutputOption, Tone, as_yaml, print_table, printable, say, show
from attune_cli.session import AllNamespacesOption, NamespaceOption, OptionGroup, Session, asking
from attune_cli.times import moment, rfc3339
from attune_cli.views import age, until
from attune_contract.actions import RunState

app = command_app(help="Runs: what became of the actions of Rules.")

COLUMNS: Final = ("id", "updated", "rule", "action", "state", "attempts", "next", "why")
#: Widths of the columns while following runs: the width of the next one is not known.
_WIDTHS: Final = (36, 27, 36, 20, 9, 8, 9, 0)
_PAGE: Final = 1000
_TONES: Final[dict[str, Tone]] = {"Succeeded": "good", "Failed": "bad", "Waiting": "waiting"}
#: Ids of one request.
_MOST_IDS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter(OptionGroup):
    """Which runs a command selects."""

    namespace: NamespaceOption = None
    everywhere: AllNamespacesOption = False
    rule: Annotated[str | None, typer.Option("--rule", help="Only runs of this Rule: NAME or NAMESPACE/NAME.")] = None
    action: Annotated[str | None, typer.Option("--action", help="Only runs of the action with this name.")] = None
    state: Annotated[RunState | None, typer.Option("--state", help="Only runs in this state.")] = None
    since: Annotated[
        str | None,
        typer.Option("--since", help="Only runs that changed at or after this time: 2026-11-24T06:00:00Z, or 15m ago."),
    ] = None
    until: Annotated[str | None, typer.Option("--until", help="Only runs that last changed before this time.")] = None

    def query(self, session: Session) -> dict[str, str]:
        """The query for the API.

        Raises:
            UsageError: an option cannot be understood.
        """
        now = datetime.now(UTC)
        query: dict[str, str | None] = {
            "rule_namespace": session.scope(self.namespace, everywhere=self.everywhere),
            "action": self.action,
            "state": None if self.state is None else self.state.value,
            "updated_after": rfc3339(moment(self.since, now)) if self.since else None,
            "updated_before": rfc3339(moment(self.until, now)) if self.until else None,
        }
        if self.rule is not None:
            _, slash, name = self.rule.rpartition("/")
            if slash or (query["rule_namespace"] is None and not self.everywhere):
                query["rule_namespace"], name = session.place(self.rule, self.namespace)
            query["rule_name"] = name
        return {name: value for name, value in query.items() if value is not None}


@asking(app, "list")
def list_(
    session: Session,
    wanted: RunFilter,
    event: Annotated[str | None, typer.Option("--event", help="Only runs for the event with this id.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many of the last changed; 0 for all.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with changes, until Ctrl-C.")] = False,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="With --follow: stop after this many runs.")
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List runs, the last changed at the end. `--output json` prints one run per line. Dead letters: `--state Failed`."""
    if count is not None and not follow:
        raise UsageError("--count needs --follow; use --limit to say how many runs to list.")
    if follow and wanted.until is not None:
        raise UsageError("--follow has no end in time; leave out --until.")
    query = wanted.query(session) | ({} if event is None else {"event_id": event})
    if follow:
        found = _followed(session, query, limit=limit)
        with interrupted_for_certain():
            _print_each(islice(found, count), output)
        return
    if limit:
        runs: Iterable[Mapping[str, Any]] = reversed(list(islice(_pages(session, query, order="desc"), limit)))
    else:
        runs = _pages(session, query, order="asc")
    if output is not Format.TABLE:
        _print_each(runs, output)
        return
    now = datetime.now(UTC)
    rows = [_row(run, now) for run in runs]
    if rows:
        print_table(COLUMNS, rows)
    else:
        filtered = query.keys() - {"rule_namespace"}
        where = f"in namespace {query['rule_namespace']}" if "rule_namespace" in query else "in any namespace"
        say(f"No runs {where} match." if filtered else f"There are no runs {where}.")


def _pages(session: Session, query: Mapping[str, str], *, order: str, size: int = _PAGE) -> Iterator[dict[str, Any]]:
    parameters = {**query, "order": order, "limit": str(size)}
    while True:
        page = session.api.request("GET", "/api/v1/runs", params=parameters)
        yield from page["data"]
        if page["next_cursor"] is None:
            return
        parameters["cursor"] = page["next_cursor"]


def _followed(session: Session, query: Mapping[str, str], *, limit: int) -> Iterator[dict[str, Any]]:
    """The last changed runs, then each change, with nothing missing in between."""
    from attune_cli.following import follow

    # First the stream's position, then the list: what changes in between is in the list.
    scope = {name: value for name, value in query.items() if name == "rule_namespace"}
    head = next((run["seq"] for run in _pages(session, scope, order="desc", size=1)), 0)
    for run in reversed(list(islice(_pages(session, query, order="desc"), limit))):
        head = max(head, run["seq"])
        yield run
    yield from follow(session.reach_api, query=query, after=head, on_notice=say, path="/api/v1/runs/stream")


def _print_each(runs: Iterable[Mapping[str, Any]], output: Format) -> None:
    """Print runs one by one, as they arrive."""
    begun = False
    for run in runs:
        match output:
            case Format.JSON:
                typer.echo(json.dumps(run, ensure_ascii=False, separators=(",", ":")))
            case Format.YAML:
                typer.echo(f"---\n{as_yaml(run)}", nl=False)
            case Format.TABLE:
                if not begun:
                    typer.echo(_line([name.upper() for name in COLUMNS]))
                typer.echo(_line([cell.text for cell in _row(run, datetime.now(UTC))]))
        begun = True


def _row(run: Mapping[str, Any], now: datetime) -> list[Cell]:
    why = ": ".join(filter(None, [run["reason"], run["message"]])) or "-"
    return [
        Cell(run["id"]),
        Cell(run["updated_at"]),
        Cell(f"{run['rule_namespace']}/{run['rule_name']}"),
        Cell(run["action"]),
        Cell(run["state"], _TONES.get(run["state"])),
        Cell(str(run["attempts_made"])),
        Cell(until(run["next_attempt_at"], now) if run["state"] == "Waiting" else "-"),
        Cell(why),
    ]


def _line(cells: list[str]) -> str:
    return "   ".join(printable(cell).ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


@asking(app, "show")
def show_(
    session: Session,
    run: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show one run: its attempts with the answers, and what was asked for with secrets masked."""
    found = session.api.request("GET", f"/api/v1/runs/{quote(run, safe='')}")["data"]
    page = _page(found, datetime.now(UTC))
    show(found, output, title="\n".join(printable(line) for line in page))


def _page(run: Mapping[str, Any], now: datetime) -> list[str]:
    rule = f"{run['rule_namespace']}/{run['rule_name']}"
    fields = [
        ("Run", run["id"]),
        ("Rule", f"{rule} (generation {run['rule_generation']})"),
        ("Action", f"{run['action']} ({run['kind']})"),
        ("Event", run["event_id"]),
        ("State", run["state"] + (f" ({run['reason']})" if run["reason"] else "")),
        ("Why", run["message"] or "-"),
        ("Created", f"{run['created_at']} ({age(run['created_at'], now)} ago)"),
        ("Updated", f"{run['updated_at']} ({age(run['updated_at'], now)} ago)"),
        ("Next attempt", until(run["next_attempt_at"], now) if run["state"] == "Waiting" else "-"),
        ("Request", run["request"] or "-"),
        ("Result", json.dumps(run["result"], ensure_ascii=False) if run["result"] is not None else "-"),
    ]
    lines = [f"{name + ':':14} {value}" for name, value in fields]
    lines.append(f"Attempts:      {run['attempts_made']}")
    for attempt in run["attempts"]:
        status = f", status {attempt['status']}" if attempt.get("status") is not None else ""
        outcome = attempt.get("outcome") or "succeeded"
        took = f"{attempt['seconds'] * 1000:.0f} ms"
        lines.append(f"  {attempt['number']}. {attempt['started_at']}, {took}{status}: {outcome}")
        lines += [f"     {text}" for text in (attempt.get("message"), attempt.get("answer")) if text]
    return lines


@asking(app, "retry")
def retry(
    session: Session,
    wanted: RunFilter,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Runs; or none, and a filter instead.")
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Do runs again that failed or were skipped: these, or all that a filter finds (--rule R --state Failed --since 1d)."""
    if ids:
        if wanted != RunFilter():
            raise UsageError("Give ids or a filter, not both.")
        bodies = ({"ids": ids[start : start + _MOST_IDS]} for start in range(0, len(ids), _MOST_IDS))
        answers = [session.api.request("POST", "/api/v1/runs/retry", json=body) for body in bodies]
    else:
        if wanted.rule is None and wanted.since is None:
            raise UsageError("Name runs by their ids, or choose them with --rule or --since.")
        if wanted.state not in (None, RunState.FAILED, RunState.SKIPPED):
            raise UsageError("Only runs that failed or were skipped can be done again: --state Failed or Skipped.")
        answers = list(_retried(session, wanted.query(session)))
    queued = [run for answer in answers for run in answer["queued"]]
    refused = [entry for answer in answers for entry in answer["refused"]]
    if output is Format.TABLE:
        typer.echo(f"{len(queued)} runs queued." if len(queued) != 1 else "One run queued.")
        for entry in refused:
            say(f"{entry['id']}: {entry['message']}")
    else:
        show({"queued": queued, "refused": refused}, output)
    if ids and refused:
        raise CliError(f"{len(refused)} of {len(set(ids))} runs are not done again.", code=ExitCode.REJECTED)


def _retried(session: Session, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    body: dict[str, Any] = {"state": "Failed", **query}
    while True:
        answer = session.api.request("POST", "/api/v1/runs/retry", json=body)
        yield answer
        if answer["next_cursor"] is None:
            return
        body["cursor"] = answer["next_cursor"]
