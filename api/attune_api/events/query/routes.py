"""``GET /api/v1/events``, ``/counts`` and ``/{id}``: what readers call."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from msgspec import Meta
from pydantic import Field

from attune_api.dependencies import CALLER_ONLY, CallerDep, ServicesDep
from attune_api.events.query.counts import INTERVALS, MAX_INTERVALS, RuleCounts, TooManyCountsError, count_events
from attune_api.events.query.parameters import FILTERED, EventQuery, Text, require_list
from attune_api.events.query.service import Page, read_page
from attune_api.events.query.sql import MAX_SHARING_ID, get_events
from attune_api.events.table import rfc3339
from attune_api.identity.callers import Caller
from attune_api.identity.cluster import Right
from attune_api.services import Services
from attune_api.web.answers import json_answer
from attune_api.web.cursors import Cursor, InvalidCursorError
from attune_api.web.documents import answer
from attune_api.web.problems import ProblemError, documented
from attune_contract.events import Event

router = APIRouter(prefix="/api/v1/events", tags=["events"])


class EventAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One event."""

    data: Event


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of events."""

    data: Sequence[Event]
    next_cursor: Annotated[
        str | None,
        Meta(
            description="Give it as cursor for the next page; null on the last one, and only there: a page may be short, even "
            "empty."
        ),
    ]
    resume_cursor: Annotated[
        str | None,
        Meta(
            description="With order=asc: give it as cursor, now or later, for what comes after this page. So a follower polls."
        ),
    ]


class CountsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Counts by rule, those with the most events first."""

    data: list[RuleCounts]
    rules_left_off: Annotated[int, Meta(description="Rules that had events too, and are beyond limit.")]
    interval_seconds: int
    occurred_after: Annotated[str, Meta(description="What was counted from, inclusive.")]
    occurred_before: Annotated[str, Meta(description="What was counted to, exclusive.")]


class PageQuery(EventQuery):
    """Which page of events."""

    order: Literal["asc", "desc"] = "desc"
    """By seq; asc for the oldest first."""
    after_seq: Annotated[int | None, Field(ge=0, le=2**63 - 1)] = None
    """Only events with a higher seq; with order=asc and without cursor."""
    cursor: Annotated[str | None, Field(max_length=200)] = None
    """What an answer gave as next_cursor or resume_cursor, with the same order and filters."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    """Events on a page at most."""


@router.get(
    "",
    operation_id="listEvents",
    summary="List events",
    response_class=Response,
    responses={200: answer(EventPage, "A page"), **documented(400, 401, 403, 422, 503)},
    openapi_extra=FILTERED,
)
async def list_(
    request: Request, services: ServicesDep, caller: CallerDep, query: Annotated[PageQuery, Query()]
) -> Response:
    """Events, page by page, in the order in which they were stored.

    A page may have fewer events than `limit`, even none, and a `next_cursor` all the same: when what is asked for is rare
    and has no index (a field of the payload, say), each request looks at a part of the events. Go on until it is null.

    To follow what comes: `order=asc`, and each time `cursor` = the last answer's `resume_cursor`. Nothing is skipped, since
    an event never appears before one that was listed already. `/api/v1/events/stream` does it without asking again.
    """
    # Rights first: what may not be read is not looked at.
    await require_list(services, caller, resource="rules", namespace=query.rule_namespace, parameter="rule_namespace")
    where = query.chosen(request)
    if query.after_seq is not None and (query.order != "asc" or query.cursor is not None):
        raise ProblemError(400, "after_seq goes with order=asc and without cursor.", kind="invalid-request")
    beyond = query.after_seq
    if query.cursor is not None:
        try:
            beyond = Cursor.decode(query.cursor, order=query.order).seq
        except InvalidCursorError as error:
            raise ProblemError(400, str(error), kind="invalid-cursor") from None
    page = await read_page(services.database, where=where, order=query.order, beyond=beyond, limit=query.limit)
    return json_answer(_answer(page, order=query.order))


def _answer(page: Page, *, order: Literal["asc", "desc"]) -> EventPage:
    return EventPage(
        data=page.events,
        next_cursor=None if page.more is None else Cursor(seq=page.more, order=order).encode(),
        resume_cursor=Cursor(seq=page.seen, order=order).encode() if order == "asc" else None,
    )


class CountQuery(EventQuery):
    """Which counts."""

    interval: Literal["1m", "5m", "15m", "1h", "6h", "1d"] = "1h"
    """How long the intervals are. They begin at whole multiples since 1970, UTC: hours on the hour, days at midnight."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    """Rules at most: those with the most events."""


@router.get(
    "/counts",
    operation_id="countEvents",
    summary="Count events",
    response_class=Response,
    responses={
        200: answer(CountsAnswer, "Counts by rule, those with the most events first"),
        **documented(401, 403, 422, 503),
    },
    openapi_extra=FILTERED,
)
async def counts(
    request: Request, services: ServicesDep, caller: CallerDep, query: Annotated[CountQuery, Query()]
) -> Response:
    """How many events each rule had in each interval, by when they occurred: what a chart shows.

    Without `occurred_before` it is until now, without `occurred_after` a day before that; 1,500 intervals are the most.
    """
    await require_list(services, caller, resource="rules", namespace=query.rule_namespace, parameter="rule_namespace")
    seconds = INTERVALS[query.interval]
    before = query.occurred_before or datetime.now(UTC)
    after = query.occurred_after or max(before, _EARLIEST + _DAY) - _DAY
    if after >= before:
        raise ProblemError(422, "occurred_after must be earlier than occurred_before.", kind="invalid-request")
    if (before - after).total_seconds() > seconds * MAX_INTERVALS:
        raise ProblemError(
            422,
            f"There are more than {MAX_INTERVALS} intervals of {query.interval} in this time; ask for a longer interval, or "
            "a shorter time.",
            kind="invalid-request",
        )
    bounded = query.model_copy(update={"occurred_after": after, "occurred_before": before})
    where = bounded.chosen(request)
    try:
        found = await services.database.read(lambda connection: count_events(connection, where=where, interval=seconds))
    except TooManyCountsError as error:
        raise ProblemError(422, str(error), kind="too-many-counts") from None
    return json_answer(
        CountsAnswer(
            data=found[: query.limit],
            rules_left_off=max(0, len(found) - query.limit),
            interval_seconds=seconds,
            occurred_after=rfc3339(after.astimezone(UTC)),
            occurred_before=rfc3339(before.astimezone(UTC)),
        )
    )


_DAY = timedelta(days=1)
_EARLIEST = datetime(2, 1, 1, tzinfo=UTC)


@router.get(
    "/{event_id}",
    operation_id="getEvent",
    summary="Get an event",
    response_class=Response,
    responses={200: answer(EventAnswer, "The event"), **documented(401, 404, 409, 422, 503)},
    openapi_extra=CALLER_ONLY,
)
async def get(
    event_id: uuid.UUID,
    services: ServicesDep,
    caller: CallerDep,
    rule_uid: Annotated[
        Text | None, Query(description="The event of this rule. Needed when several rules have an event with this id.")
    ] = None,
) -> Response:
    """One event. One in a namespace whose rules the caller may not get is not found, as if it were not there.

    An id is unique within its rule. Where several rules that the caller may get have an event with this id, the answer is
    409 `event-id-ambiguous`, and names them.
    """
    return json_answer(EventAnswer(data=await readable_event(services, caller, event_id, rule_uid=rule_uid)))


async def readable_event(services: Services, caller: Caller, event_id: uuid.UUID, *, rule_uid: str | None) -> Event:
    """An event that the caller may read.

    Raises:
        ProblemError: 404 there is none, 409 several rules have it.
    """
    found = await services.database.read(
        lambda connection: get_events(connection, event_id=event_id, rule_uid=rule_uid)
    )
    readable = [event for event in found[:MAX_SHARING_ID] if await _may_get(services, caller, event)]
    if len(readable) == 1 and len(found) <= MAX_SHARING_ID:
        return readable[0]
    if readable or len(found) > MAX_SHARING_ID:
        raise ProblemError(
            409,
            f"Several rules have an event {event_id}; name the rule with the parameter rule_uid.",
            kind="event-id-ambiguous",
            members={"rule_uids": [event.rule_uid for event in readable]},
        )
    raise ProblemError(404, f"There is no event {event_id} that you may read.", kind="event-not-found")


async def _may_get(services: Services, caller: Caller, event: Event) -> bool:
    right = Right(verb="get", resource="rules", namespace=event.rule_namespace, name=event.rule_name)
    return await services.access.allows(caller, right)
