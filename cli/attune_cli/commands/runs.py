"""``attune runs``: what became of each action of a Rule for each event."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from attune_cli.errors import CliError, ExitCode, NotFoundError, UsageError
from attune_cli.lazy import command_app
from attune_cli.listing import Listing
from attune_cli.output import Cell, Format, OutputOption, Tone, printable, say, show
from attune_cli.session import AllNamespacesOption, NamespaceOption, OptionGroup, Session, asking
from attune_cli.times import moment, rfc3339
from attune_contract.actions import RunState
from attune_contract.telling import age, until
from attune_contract.tracing import trace_id_of

app = command_app(help="Runs: what became of the actions of Rules.")

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
    LISTING.show(
        session,
        lambda: wanted.query(session) | ({} if event is None else {"event_id": event}),
        limit=limit,
        follow=follow,
        count=count,
        ended=wanted.until is not None,
        output=output,
    )


def _row(run: Mapping[str, Any]) -> list[Cell]:
    why = ": ".join(filter(None, [run["reason"], run["message"]])) or "-"
    return [
        Cell(run["id"]),
        Cell(run["updated_at"]),
        Cell(f"{run['rule_namespace']}/{run['rule_name']}"),
        Cell(run["action"]),
        Cell(run["state"], _TONES.get(run["state"])),
        Cell(str(run["attempts_made"])),
        Cell(until(run["next_attempt_at"], datetime.now(UTC)) if run["state"] == "Waiting" else "-"),
        Cell(why),
    ]


LISTING: Final = Listing(
    things="runs",
    path="/api/v1/runs",
    columns=("id", "updated", "rule", "action", "state", "attempts", "next", "why"),
    widths=(36, 27, 36, 20, 9, 8, 9, 0),
    row=_row,
)


@asking(app, "show")
def show_(
    session: Session,
    run: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show one run: its attempts with the answers, and what was asked for with secrets masked."""
    found = session.api.request("GET", f"/api/v1/runs/{quote(run, safe='')}")["data"]
    page = _page(found, datetime.now(UTC), trace_id=_trace_id(session, found) if output is Format.TABLE else "")
    show(found, output, title="\n".join(printable(line) for line in page))


def _trace_id(session: Session, run: Mapping[str, Any]) -> str:
    """The trace that the run's event belongs to; empty without one, and when the event is no longer kept."""
    try:
        event = session.api.request("GET", f"/api/v1/events/{run['event_id']}", params={"rule_uid": run["rule_uid"]})[
            "data"
        ]
    except NotFoundError:
        return ""
    return trace_id_of(event.get("traceparent", ""))


def _page(run: Mapping[str, Any], now: datetime, *, trace_id: str) -> list[str]:
    rule = f"{run['rule_namespace']}/{run['rule_name']}"
    fields = [
        ("Run", run["id"]),
        ("Rule", f"{rule} (generation {run['rule_generation']})"),
        ("Action", f"{run['action']} ({run['kind']})"),
        ("Event", run["event_id"]),
        ("Trace", trace_id or "-"),
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
