"""The live view: sensors, rules, the last events, and what somebody should know."""

import asyncio
from collections import Counter, deque
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from attune_local.display.base import Event, Started, event_line, where_line
from attune_local.objects.store import ObjectStore
from attune_operator.public.objects import RULE, SENSOR, Object

_PERIOD: Final = 0.25
_MOST_NOTICES: Final = 5


def condition(body: Object, kind: str) -> dict[str, Any]:
    """A condition of an object; empty when there is none."""
    conditions = (body.get("status") or {}).get("conditions") or ()
    return next((found for found in conditions if found.get("type") == kind), {})


def since(text: str | None, now: datetime) -> str:
    """How long ago that was, roughly."""
    if not text:
        return "-"
    seconds = max(0, int((now - datetime.fromisoformat(text)).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


class LiveView:
    """A view on a terminal that is drawn four times a second."""

    def __init__(self, store: ObjectStore, *, console: Console | None = None) -> None:
        self._store = store
        self._console = console or Console()
        self._events: deque[Event] = deque(maxlen=100)
        self._notices: deque[str] = deque(maxlen=_MOST_NOTICES)
        self._last: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._where = "Starting …"
        self._program = "attune"
        self._live = Live(console=self._console, auto_refresh=False, screen=False, transient=False)

    async def run(self) -> None:
        """Draw until cancelled."""
        self._live.start()
        while True:
            self._draw()
            await asyncio.sleep(_PERIOD)

    def _draw(self) -> None:
        self._live.update(self.render(datetime.now(UTC)), refresh=True)

    async def events(self, events: list[Event]) -> None:
        """Remember events."""
        for event in events:
            self._events.append(event)
            self._last[event["rule_uid"]] = event["occurred_at"]
            self._counts[event["rule_uid"]] += 1

    def started(self, started: Started) -> None:
        """Say where everything is."""
        self._where = where_line(started)
        self._program = started.program

    def notice(self, text: str) -> None:
        """Show it among the last few."""
        self._notices.append(text)

    def output(self, sensor: str, line: str) -> None:
        """Is in the log files; here it would leave no room for anything else."""

    def close(self) -> None:
        """Leave the last picture there."""
        if self._live.is_started:
            self._draw()
            self._live.stop()

    def render(self, now: datetime) -> Group:
        """The picture, at most as high as the terminal."""
        height = self._console.size.height
        sensors, rules = self._store.list_objects(SENSOR), self._store.list_objects(RULE)
        room = max(6, height - 9 - min(len(self._notices), _MOST_NOTICES) - min(len(sensors), 6))
        shown_rules = min(len(rules), room // 2)
        shown_events = max(3, room - shown_rules)
        parts: list[Any] = [Text(self._where, style="dim", overflow="ellipsis", no_wrap=True)]
        parts += [self._sensors(sensors[:6]), self._rules(rules, shown_rules, now)]
        events = list(self._events)[-shown_events:]
        title = Text("EVENTS", style="bold")
        lines = [Text(event_line(event), overflow="ellipsis", no_wrap=True) for event in events]
        parts += [title, *(lines or [Text("none yet", style="dim")])]
        parts += [Text(f"! {notice}", style="yellow") for notice in self._notices]
        attune = self._program
        elsewhere = (
            f"In another terminal here: {attune} status, {attune} rules list, {attune} explain, {attune} new rule."
        )
        parts.append(Text(f"{elsewhere} Ctrl-C ends everything.", style="dim"))
        return Group(*parts)

    @staticmethod
    def _sensors(sensors: list[Object]) -> Table:
        table = Table("SENSOR", "READY", "REASON", "RULES", "ACTIVE", box=None, pad_edge=False, header_style="bold")
        for body in sensors:
            ready, counted = condition(body, "Ready"), (body.get("status") or {}).get("rules") or {}
            table.add_row(
                escape(f"{body['metadata']['namespace']}/{body['metadata']['name']}"),
                _coloured(ready.get("status", "-")),
                escape(ready.get("reason", "")),
                str(counted.get("bound", "-")),
                str(counted.get("active", "-")),
            )
        return table

    def _rules(self, rules: list[Object], shown: int, now: datetime) -> Table:
        columns = ("RULE", "TYPE", "ACTIVE", "REASON", "LAST EVENT", "EVENTS")
        table = Table(*columns, box=None, pad_edge=False, header_style="bold")
        # What is wrong is what somebody looks for.
        ordered = sorted(rules, key=lambda body: condition(body, "Active").get("status") == "True")
        for body in ordered[:shown]:
            active, uid = condition(body, "Active"), body["metadata"]["uid"]
            last = self._last.get(uid) or (body.get("status") or {}).get("lastEventTime")
            table.add_row(
                escape(f"{body['metadata']['namespace']}/{body['metadata']['name']}"),
                escape(body["spec"]["trigger"]["type"]),
                _coloured(active.get("status", "-")),
                escape(active.get("reason", "")),
                since(last, now),
                str(self._counts[uid]),
            )
        if len(rules) > shown:
            active_count = sum(condition(body, "Active").get("status") == "True" for body in rules)
            table.add_row(f"… {len(rules) - shown} more; {active_count} of {len(rules)} are active", "", "", "", "", "")
        return table


def _coloured(status: str) -> Text:
    return Text(status, style={"True": "green", "False": "red"}.get(status, "yellow"))
