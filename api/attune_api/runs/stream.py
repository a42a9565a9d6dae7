"""``GET /api/v1/runs/stream``: runs as they change."""

import time
from contextlib import ExitStack
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from pydantic import Field

from attune_api.dependencies import CALLER_ONLY, CallerDep, ServicesDep, authorization_of
from attune_api.events.query.parameters import check_known, require_list
from attune_api.events.stream.feed import TooManyClientsError
from attune_api.events.stream.response import EventStream
from attune_api.events.stream.routes import place_after, while_allowed
from attune_api.runs.parameters import RunQuery
from attune_api.web.problems import documented, unavailable

router = APIRouter(prefix="/api/v1/runs", tags=["runs"])

_EXAMPLE: Final = 'id: 42\ndata: {"id":"1c9f2f0e-37e9-5d5e-9d2f-3f1b8f8f9a10","seq":42,"state":"Failed"}\n\n'


class StreamQuery(RunQuery):
    """What to follow."""

    after_seq: Annotated[int | None, Field(ge=0, le=2**63 - 1)] = None
    """Begin behind this seq. Last-Event-ID goes before it; without both it begins with what changes from now on."""


@router.get(
    "/stream",
    operation_id="streamRuns",
    summary="Follow runs",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events, without an end",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **documented(400, 401, 403, 422, 503),
    },
    openapi_extra=CALLER_ONLY,
)
async def stream(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    query: Annotated[StreamQuery, Query()],
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", max_length=20, description="The id that was heard last: the run's seq."),
    ] = None,
) -> Response:
    """Runs as they change, each change as one server-sent event whose `id` is its `seq`, and heartbeats.

    Who reconnects with `Last-Event-ID` misses no run's newest state. States in between may be left out for one who is behind.
    """
    await require_list(services, caller, resource="rules", namespace=query.rule_namespace, parameter="rule_namespace")
    check_known(request, known=StreamQuery.model_fields)
    where = query.chosen()
    place = await services.run_feed.start(place_after(query.after_seq, last_event_id))
    admitted = ExitStack()
    try:
        admitted.enter_context(services.run_feed.reader())
    except TooManyClientsError:
        raise unavailable(
            "Too many clients follow runs here; try again later, or read pages.", kind="too-many-streams", retry_after=5
        ) from None

    async def check() -> None:
        again = await services.access.caller(authorization_of(request))
        await require_list(
            services, again, resource="rules", namespace=query.rule_namespace, parameter="rule_namespace"
        )

    return EventStream(
        while_allowed(services.run_feed.follow(where, after=place), check, clock=time.monotonic),
        send_timeout=services.settings.stream_send_timeout,
        cut_off=services.metrics.stream_cut_off.inc,
        release=admitted.close,
    )
