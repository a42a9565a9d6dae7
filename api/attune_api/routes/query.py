"""``GET /api/v1/events`` and ``/api/v1/events/{id}``: what readers call."""

import uuid
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import AfterValidator, AwareDatetime

from attune_api.dependencies import CALLER_ONLY, CallerDep, ServicesDep
from attune_api.events.pages import Cursor, InvalidCursor
from attune_api.events.store import EventFilter, StoredEvent, get_event, list_events
from attune_api.identity.cluster import Right
from attune_api.problems import Problem, documented
from attune_api.routes.answers import json_answer
from attune_api.routes.schemas import EventAnswer, EventPage

router = APIRouter(prefix="/api/v1/events", tags=["events"])


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


def _in_range(time: datetime) -> datetime:
    # Years at the calendar's ends leave it when they are moved to UTC.
    if not 2 <= time.year <= 9998:
        raise ValueError("must be in a year from 2 to 9998")
    return time


_Text = Annotated[str, Query(max_length=320), AfterValidator(_storable)]
_Time = Annotated[AwareDatetime, AfterValidator(_in_range)]


@router.get(
    "",
    operation_id="listEvents",
    summary="List events",
    response_class=Response,
    responses={200: {"model": EventPage}, **documented(400, 401, 403, 422, 503)},
    openapi_extra=CALLER_ONLY,
)
async def list_(
    services: ServicesDep,
    caller: CallerDep,
    rule_uid: _Text | None = None,
    rule_namespace: Annotated[_Text | None, Query(description="Namespace of the rule.")] = None,
    rule_name: Annotated[_Text | None, Query(description="Name of the rule; best with rule_namespace.")] = None,
    trigger_type: _Text | None = None,
    sensor: Annotated[_Text | None, Query(description="The sensor, namespace/name.")] = None,
    occurred_after: Annotated[_Time | None, Query(description="Inclusive; RFC 3339 with a zone.")] = None,
    occurred_before: Annotated[_Time | None, Query(description="Exclusive; RFC 3339 with a zone.")] = None,
    order: Annotated[Literal["asc", "desc"], Query(description="By seq; asc for the oldest first.")] = "desc",
    after_seq: Annotated[
        int | None, Query(ge=0, le=2**63 - 1, description="Only events with a higher seq; with order=asc.")
    ] = None,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Events, page by page, in the order in which they were stored.

    To follow what comes: `order=asc`, and each time `cursor` = the last answer's `resume_cursor`. Nothing is skipped, since
    an event never appears before one that was listed already.
    """
    # Rights first: what may not be read is not looked at.
    await services.access.require(
        caller,
        Right(verb="list", resource="rules", namespace=rule_namespace or ""),
        hint="" if rule_namespace else "Ask for one namespace with rule_namespace.",
    )
    if after_seq is not None and (order != "asc" or cursor is not None):
        raise Problem(400, "after_seq goes with order=asc and without cursor.", kind="invalid-request")
    beyond = after_seq
    if cursor is not None:
        try:
            beyond = Cursor.decode(cursor, order=order).seq
        except InvalidCursor as error:
            raise Problem(400, str(error), kind="invalid-cursor") from None
    where = EventFilter(
        rule_uid=rule_uid,
        rule_namespace=rule_namespace,
        rule_name=rule_name,
        trigger_type=trigger_type,
        sensor_ref=sensor,
        occurred_after=occurred_after,
        occurred_before=occurred_before,
    )
    events = await services.database.read(
        lambda connection: list_events(connection, where=where, order=order, beyond=beyond, limit=limit + 1)
    )
    return json_answer(_page(events, limit=limit, order=order, beyond=beyond))


def _page(
    events: list[StoredEvent], *, limit: int, order: Literal["asc", "desc"], beyond: int | None
) -> dict[str, object]:
    """A page, from one event more than fits if there is more."""
    shown = events[:limit]
    last = Cursor(seq=shown[-1].seq if shown else beyond or 0, order=order).encode()
    return {
        "data": shown,
        "next_cursor": last if len(events) > limit else None,
        "resume_cursor": last if order == "asc" else None,
    }


@router.get(
    "/{event_id}",
    operation_id="getEvent",
    summary="Get an event",
    response_class=Response,
    responses={200: {"model": EventAnswer}, **documented(401, 404, 422, 503)},
    openapi_extra=CALLER_ONLY,
)
async def get(event_id: uuid.UUID, services: ServicesDep, caller: CallerDep) -> Response:
    """One event. One in a namespace whose rules the caller may not get is not found, as if it were not there."""
    event = await services.database.read(lambda connection: get_event(connection, event_id=event_id))
    if event is None or not await services.access.allows(
        caller, Right(verb="get", resource="rules", namespace=event.rule_namespace, name=event.rule_name)
    ):
        raise Problem(404, f"There is no event {event_id} that you may read.", kind="event-not-found")
    return json_answer({"data": event})
