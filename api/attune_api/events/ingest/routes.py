"""``POST /api/v1/events`` and ``/api/v1/events/batch``: what sensors call.

These two are by far the busiest calls, so they are answered without FastAPI's machinery around them (:data:`FAST_PATH`, which
``app`` looks at first). Their routes are there for the documentation, and answer the same.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope

from attune_api.dependencies import SENSOR_ONLY, services_of
from attune_api.events.ingest.service import BatchAnswer, EventBatch, StoredAnswer, answer_batch, answer_event
from attune_api.services import Services
from attune_api.web.documents import answer, body
from attune_api.web.problems import documented
from attune_contract.events import EventReport

#: Answers a request (ASGI).
Answer = Callable[[Services, Scope, Receive], Awaitable[Response]]

router = APIRouter(prefix="/api/v1/events", tags=["events"])


@router.post(
    "",
    operation_id="reportEvent",
    summary="Report an event",
    status_code=201,
    response_class=Response,
    responses={
        201: answer(StoredAnswer, "Stored"),
        200: answer(StoredAnswer, "Stored before"),
        **documented(400, 401, 403, 408, 409, 413, 415, 422, 429, 503),
    },
    openapi_extra={**body(EventReport), **SENSOR_ONLY},
)
async def report_event(request: Request) -> Response:
    """Store an event, once. When the answer is 201 or 200 the event is on disk."""
    return await answer_event(await services_of(request), request.scope, request.receive)


_DEFER: Final[Mapping[str, Any]] = {
    "name": "defer",
    "in": "query",
    "required": False,
    "schema": {"type": "boolean", "default": False},
    "description": "The sender knows the status deferred: if a namespace is over its quota, its events get that, and the other "
    "events of the batch are stored. Otherwise such a batch is answered with 429 as a whole.",
}


@router.post(
    "/batch",
    operation_id="reportEvents",
    summary="Report several events",
    response_class=Response,
    responses={
        200: answer(BatchAnswer, "What became of each"),
        **documented(400, 401, 408, 413, 415, 422, 429, 503),
    },
    openapi_extra={**body(EventBatch), **SENSOR_ONLY, "parameters": [_DEFER]},
)
async def report_events(request: Request) -> Response:
    """Store up to 1,000 events in one transaction, each once. One that is refused does not hold up the others."""
    return await answer_batch(await services_of(request), request.scope, request.receive)


#: The busiest calls, by path.
FAST_PATH: Final[Mapping[str, Answer]] = {"/api/v1/events": answer_event, "/api/v1/events/batch": answer_batch}
