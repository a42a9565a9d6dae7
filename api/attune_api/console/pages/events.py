"""Events: found by the API's filters, and one of them by its permalink."""

import uuid
from datetime import UTC, datetime
from typing import Final

from fastapi.responses import Response

from attune_api.console.views.events import shown_event
from attune_api.console.views.search import beyond, filters_told, moment, payload_filters
from attune_api.console.visit import Visit, link
from attune_api.events.query.filters import EventFilter
from attune_api.events.query.parameters import EventQuery
from attune_api.events.query.routes import readable_event
from attune_api.events.query.service import read_page
from attune_api.runs.query import RunFilter
from attune_api.runs.query import read_page as read_runs
from attune_api.web.cursors import Cursor
from attune_api.web.problems import ProblemError

_PAGE: Final = 50
_FIELDS: Final = ("rule_name", "type", "sensor", "after", "before", "where")
_RUNS: Final = 50


async def search(visit: Visit) -> Response:
    """``GET /console/events``."""
    namespace, query = await visit.namespace(), visit.query
    await visit.require("list", namespace)
    now = datetime.now(UTC)
    with filters_told():
        wanted = EventQuery(
            rule_namespace=namespace or None,
            rule_name=query.get("rule_name"),
            trigger_type=query.get("type"),
            sensor=query.get("sensor"),
            occurred_after=moment(query.get("after", ""), now),
            occurred_before=moment(query.get("before", ""), now),
        )
    where = EventFilter(
        rule_namespace=wanted.rule_namespace,
        rule_name=wanted.rule_name,
        trigger_type=wanted.trigger_type,
        sensor_ref=wanted.sensor,
        occurred_after=wanted.occurred_after,
        occurred_before=wanted.occurred_before,
        payload=payload_filters(query.get("where", "")),
    )
    page = await read_page(
        visit.services.database, where=where, order="desc", beyond=beyond(query.get("cursor")), limit=_PAGE
    )
    kept = {"namespace": namespace, **{name: query.get(name, "") for name in _FIELDS}}
    return visit.page(
        "events.html",
        namespace=namespace,
        query=query,
        events=[shown_event(event) for event in page.events],
        following=None
        if page.more is None
        else link("/events", **kept, cursor=Cursor(seq=page.more, order="desc").encode()),
        newest=link("/events", **kept),
        begun="cursor" in query,
    )


async def show(visit: Visit, event_id: str) -> Response:
    """``GET /console/events/{event_id}``: the permalink of one event, with what became of it."""
    try:
        key = uuid.UUID(event_id)
    except ValueError:
        raise ProblemError(404, f"{event_id!r} is no event's id.", kind="event-not-found") from None
    event = await readable_event(visit.services, visit.visitor.caller, key, rule_uid=visit.query.get("rule_uid"))
    runs = await read_runs(
        visit.services.database,
        where=RunFilter(event_id=event.id, rule_uid=event.rule_uid),
        order="desc",
        beyond=None,
        limit=_RUNS,
    )
    return visit.page("event.html", shown=shown_event(event), event=event, runs=runs.runs)
