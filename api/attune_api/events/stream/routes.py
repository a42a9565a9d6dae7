"""``GET /api/v1/events/stream``: events as they come."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack, aclosing
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response
from pydantic import Field

from attune_api.dependencies import CallerDep, ServicesDep, authorization_of
from attune_api.events.query.parameters import FILTERED, EventQuery, require_list
from attune_api.events.stream.feed import Feed, TooManyClientsError
from attune_api.events.stream.response import EventStream
from attune_api.services import Services
from attune_api.web.problems import ProblemError, document, documented, unavailable

router = APIRouter(prefix="/api/v1/events", tags=["events"])

#: Seconds between looks at whether a reader still may.
_RIGHTS_EVERY: Final = 30.0
#: Seconds for which a stream continues while the caller's rights cannot be determined.
_UNSURE_FOR: Final = 300.0
_NOBODY_CAN_TELL: Final = 503
_EXAMPLE: Final = 'id: 4711\ndata: {"id":"0f3c2b54-8a83-5f0e-9a9b-0c7a3a4b7d11","seq":4711,"payload":{}}\n\n'


class StreamQuery(EventQuery):
    """What to follow."""

    after_seq: Annotated[int | None, Field(ge=0, le=2**63 - 1)] = None
    """Begin behind this seq. Last-Event-ID goes before it; without both it begins with what is stored from now on."""


@router.get(
    "/stream",
    operation_id="streamEvents",
    summary="Follow events",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events, without an end",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **documented(400, 401, 403, 422, 503),
    },
    openapi_extra=FILTERED,
)
async def stream(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    query: Annotated[StreamQuery, Query()],
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", max_length=20, description="The id that was heard last: the event's seq."),
    ] = None,
) -> Response:
    """Events as they are stored, each as one server-sent event whose `id` is its `seq`, and heartbeats.

    Who reconnects with `Last-Event-ID` misses nothing and gets nothing twice, at whichever replica.
    """
    await require_list(services, caller, resource="rules", namespace=query.rule_namespace, parameter="rule_namespace")
    where = query.chosen(request)
    return await follow(
        request,
        services,
        feed=services.feed,
        where=where,
        namespace=query.rule_namespace,
        after=place_after(query.after_seq, last_event_id),
        things="events",
    )


async def follow(
    request: Request,
    services: Services,
    *,
    feed: Feed,
    where: Any,
    namespace: str | None,
    after: int | None,
    things: str,
) -> Response:
    """A stream of what a feed has, for as long as the caller may list Rules in the namespace.

    Args:
        request: whose caller is asked about again.
        services: what the API works with.
        feed: what is followed.
        where: which of it.
        namespace: of the Rules; None for all.
        after: behind which ``seq``; None for what comes from now on.
        things: what is followed, in the plural.

    Raises:
        ProblemError: 503, as many clients follow it as may.
    """
    place = await feed.start(after)
    admitted = ExitStack()
    try:
        admitted.enter_context(feed.reader())
    except TooManyClientsError:
        raise unavailable(
            f"Too many clients follow {things} here; try again later, or read pages.",
            kind="too-many-streams",
            retry_after=5,
        ) from None

    async def check() -> None:
        again = await services.access.caller(authorization_of(request))
        await require_list(services, again, resource="rules", namespace=namespace, parameter="rule_namespace")

    return EventStream(
        while_allowed(feed.follow(where, after=place), check, clock=time.monotonic),
        send_timeout=services.settings.stream_send_timeout,
        cut_off=services.metrics.stream_cut_off.inc,
        release=admitted.close,
    )


def place_after(after_seq: int | None, last_event_id: str | None) -> int | None:
    """Behind which ``seq`` a stream begins: what was heard last goes before what was asked for.

    Raises:
        ProblemError: 400, ``Last-Event-ID`` is none of ours.
    """
    if not last_event_id:
        return after_seq
    if not last_event_id.isascii() or not last_event_id.isdigit() or int(last_event_id) > 2**63 - 1:
        raise ProblemError(400, "Last-Event-ID was not issued by this API.", kind="invalid-cursor")
    return int(last_event_id)


async def while_allowed(
    frames: AsyncGenerator[bytes], check: Callable[[], Awaitable[None]], *, clock: Callable[[], float]
) -> AsyncGenerator[bytes]:
    """The frames, for as long as the reader may have them; then the problem, as the last one.

    While the rights cannot be determined, it continues for a few minutes: a restart of the API server
    should not end every stream.

    Args:
        frames: what is sent; at least the heartbeat's now and then.
        check: raises a problem when the reader may no longer.
        clock: as ``time.monotonic``.
    """
    looked = sure = clock()
    async with aclosing(frames):
        async for frame in frames:
            yield frame
            now = clock()
            if now - looked < _RIGHTS_EVERY:
                continue
            looked = now
            try:
                await check()
                sure = now
            except ProblemError as problem:
                if problem.status == _NOBODY_CAN_TELL and now - sure < _UNSURE_FOR:
                    continue
                yield b"event: problem\ndata: %s\n\n" % msgspec.json.encode(document(problem))
                return
