"""``GET /api/v1/runs/stream``: runs as they change."""

from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from pydantic import Field

from attune_api.dependencies import CALLER_ONLY, CallerDep, ServicesDep
from attune_api.events.query.parameters import check_known, require_list
from attune_api.events.stream.routes import follow, place_after
from attune_api.runs.parameters import RunQuery
from attune_api.web.problems import documented

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
    return await follow(
        request,
        services,
        feed=services.run_feed,
        where=query.chosen(),
        namespace=query.rule_namespace,
        after=place_after(query.after_seq, last_event_id),
        things="runs",
    )
