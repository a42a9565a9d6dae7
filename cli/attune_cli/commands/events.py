"""``attune events``: the events that sensors reported."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple

import typer

from attune_cli.errors import UsageError
from attune_cli.lazy import command_app
from attune_cli.listing import Listing
from attune_cli.output import Format, OutputOption, say, show
from attune_cli.session import AllNamespacesOption, NamespaceOption, OptionGroup, Session, asking
from attune_cli.times import moment, rfc3339

app = command_app(help="Events: what sensors reported.")


RuleUidOption = Annotated[
    str | None, typer.Option("--rule-uid", help="Only events of the Rule with this uid (if several had the same name).")
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since", help="Only events that occurred at or after this time: 2026-11-24T06:00:00Z, or 15m or 7d ago."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter(OptionGroup):
    """Which events a command selects."""

    namespace: NamespaceOption = None
    everywhere: AllNamespacesOption = False
    rule: Annotated[str | None, typer.Option("--rule", help="Only events of this Rule: NAME or NAMESPACE/NAME.")] = None
    rule_uid: RuleUidOption = None
    trigger_type: Annotated[str | None, typer.Option("--type", help="Only events of this trigger type.")] = None
    sensor: Annotated[str | None, typer.Option("--sensor", help="Only events of this Sensor, NAMESPACE/NAME.")] = None
    since: SinceOption = None
    until: Annotated[str | None, typer.Option("--until", help="Only events that occurred before this time.")] = None
    payload: Annotated[
        list[str] | None,
        typer.Option(
            "--payload",
            metavar="PATH=VALUE",
            help="Only events with this value in the payload: user.name=ann. Repeatable.",
        ),
    ] = None

    def query(self, session: Session) -> dict[str, str]:
        """The query for the API.

        Raises:
            UsageError: an option cannot be understood.
        """
        now = datetime.now(UTC)
        query: dict[str, str | None] = {
            "rule_namespace": session.scope(self.namespace, everywhere=self.everywhere),
            "rule_uid": self.rule_uid,
            "trigger_type": self.trigger_type,
            "sensor": self.sensor,
            "occurred_after": rfc3339(moment(self.since, now)) if self.since else None,
            "occurred_before": rfc3339(moment(self.until, now)) if self.until else None,
        }
        if self.rule is not None:
            _, slash, name = self.rule.rpartition("/")
            if slash:
                query["rule_namespace"], name = session.place(self.rule, self.namespace)
            query["rule_name"] = name
        for wanted in self.payload or ():
            path, equals, value = wanted.partition("=")
            if not equals or not path:
                raise UsageError(f"{wanted!r} is not a filter; write --payload PATH=VALUE, like user.name=ann.")
            query[f"payload.{path}"] = value
        return {name: value for name, value in query.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class CountFilter(EventFilter):
    """Which events are counted; those of the last day by default."""

    since: SinceOption = "24h"


@asking(app, "list")
def list_(
    session: Session,
    wanted: EventFilter,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many of the newest events; 0 for all.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue with new events, until Ctrl-C.")] = False,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="With --follow: stop after this many events.")
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List events, the newest last. `--output json` prints one event per line."""
    LISTING.show(
        session,
        lambda: wanted.query(session),
        limit=limit,
        follow=follow,
        count=count,
        ended=wanted.until is not None,
        output=output,
    )


def _row(event: Mapping[str, Any]) -> list[str]:
    return [
        str(event["seq"]),
        event["occurred_at"],
        event["trigger_type"],
        f"{event['rule_namespace']}/{event['rule_name']}",
        json.dumps(event["payload"], ensure_ascii=False, separators=(",", ":")),
    ]


LISTING: Final = Listing(
    things="events",
    path="/api/v1/events",
    columns=("seq", "occurred", "type", "rule", "payload"),
    widths=(8, 27, 24, 36, 0),
    row=_row,
)


@asking(app, "show")
def show_(
    session: Session,
    event: Annotated[str, typer.Argument(metavar="ID", help="The event's id.")],
    rule_uid: RuleUidOption = None,
    output: OutputOption = Format.YAML,
) -> None:
    """Show one event. Name its rule with --rule-uid if several rules have an event with this id."""
    from urllib.parse import quote

    query = {} if rule_uid is None else {"rule_uid": rule_uid}
    found = session.api.request("GET", f"/api/v1/events/{quote(event, safe='')}", params=query)["data"]
    show(found, Format.YAML if output is Format.TABLE else output)


@asking(app, "count")
def count_(
    session: Session,
    wanted: CountFilter,
    interval: Annotated[str, typer.Option(help="1m, 5m, 15m, 1h, 6h or 1d.")] = "1h",
    output: OutputOption = Format.TABLE,
) -> None:
    """Count events per rule and interval."""
    query = wanted.query(session)
    answer = session.api.request("GET", "/api/v1/events/counts", params={**query, "interval": interval})
    rows = [
        [f"{rule['rule_namespace']}/{rule['rule_name']}", str(rule["total"]), entry["at"], str(entry["count"])]
        for rule in answer["data"]
        for entry in rule["counts"]
    ]
    show(answer, output, columns=("rule", "total", "from", "events"), rows=rows)
    if answer["rules_left_off"]:
        say(f"{answer['rules_left_off']} more rules had events; choose one with --rule.")


class Replayed(NamedTuple):
    """What a replay came to."""

    events: int
    queued: list[str]
    already_run: int
    refused: list[dict[str, Any]]


@asking(app, "replay")
def replay(
    session: Session,
    rule: Annotated[str, typer.Option("--rule", help="The Rule: NAME or NAMESPACE/NAME.")],
    since: Annotated[
        str, typer.Option("--since", help="Events that occurred at or after this time, or 15m or 7d ago.")
    ],
    until: Annotated[str | None, typer.Option("--until", help="Events that occurred before this time.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="Only this action.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also actions that were run for the event already.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Really do it.")] = False,
    namespace: NamespaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Run the actions of a Rule, as it is now, for its stored events. An action that was run for an event is left alone."""
    place, name = session.place(rule, namespace)
    now = datetime.now(UTC)
    query: dict[str, Any] = {
        "rule_namespace": place,
        "rule_name": name,
        "occurred_after": rfc3339(moment(since, now)),
        "occurred_before": rfc3339(moment(until, now) if until else now),
    }
    if not yes:
        times = {key: query[key] for key in ("occurred_after", "occurred_before")}
        scope = {"rule_namespace": place, "rule_name": name, **times}
        counts = session.api.request("GET", "/api/v1/events/counts", params={**scope, "interval": "1d"})["data"]
        many = sum(entry["total"] for entry in counts)
        raise UsageError(
            f"This would look at {many} events of Rule {place}/{name} and run its actions. Add --yes to do it."
        )
    done = Replayed(0, [], 0, [])
    body = {**query, "again": again, **({"action": action} if action is not None else {})}
    cursor: str | None = None
    while True:
        page = {**body, **({"cursor": cursor} if cursor is not None else {})}
        answer = session.api.request("POST", "/api/v1/events/replay", json=page)
        done = Replayed(
            done.events + answer["events"],
            [*done.queued, *answer["queued"]],
            done.already_run + answer["already_run"],
            [*done.refused, *answer["refused"]],
        )
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    if output is not Format.TABLE:
        show(done._asdict(), output)
        return
    typer.echo(f"{done.events} events: {len(done.queued)} runs queued, {done.already_run} were run already.")
    for entry in done.refused:
        say(f"{entry['id']}: {entry['message']}")
