"""``GET /api/v1/runs``, ``/counts``, ``/summaries`` and ``/{id}``: what became of actions."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from msgspec import Meta
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, RowMapping

from attune_api.dependencies import CALLER_ONLY, CallerDep, ServicesDep
from attune_api.events.query.parameters import Text, check_known, require_list
from attune_api.events.table import rfc3339
from attune_api.identity.cluster import Right
from attune_api.runs.parameters import RunQuery
from attune_api.runs.query import count_runs, read_page, read_summaries
from attune_api.runs.table import get_run, newest_seq, view
from attune_api.runs.views import FailureView, RunHead, RunView, SummaryView
from attune_api.web.answers import json_answer
from attune_api.web.cursors import Cursor, InvalidCursorError
from attune_api.web.documents import answer
from attune_api.web.problems import ProblemError, documented
from attune_contract.actions import RunReason, RunState

router = APIRouter(prefix="/api/v1/runs", tags=["runs"])

_DAY = timedelta(days=1)
#: Rules that can be named in one question about summaries.
MOST_RULES = 100


class RunAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    data: RunView


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of runs."""

    data: list[RunHead]
    next_cursor: Annotated[
        str | None,
        Meta(
            description="Give it as cursor for the next page; null on the last one, and only there: a page may be short, even "
            "empty."
        ),
    ]
    resume_cursor: Annotated[
        str | None,
        Meta(description="With order=asc: give it as cursor, now or later, for what changes after this page."),
    ]


class RunCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many runs of an action are in a state."""

    rule_uid: Annotated[str, Meta(description="The rule.", examples=["7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10"])]
    rule_namespace: Annotated[str, Meta(description="Its namespace.", examples=["default"])]
    rule_name: Annotated[str, Meta(description="Its name.", examples=["retry-failed-import"])]
    action: Annotated[str, Meta(description="The action.", examples=["tell"])]
    state: Annotated[RunState, Meta(description="Where they stand.", examples=["Failed"])]
    reason: Annotated[RunReason, Meta(description="Why.", examples=["TargetRefused"])]
    count: Annotated[int, Meta(description="How many.", examples=[2])]


class RunCountsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, the highest first."""

    data: list[RunCount]
    more: Annotated[bool, Meta(description="Whether there are counts beyond limit.")]
    updated_after: Annotated[str, Meta(description="What was counted from, inclusive.")]
    updated_before: Annotated[str | None, Meta(description="What was counted to, exclusive; null for until now.")]


class SummaryPage(msgspec.Struct, frozen=True, kw_only=True):
    """What became of rules' runs, those that changed first first."""

    data: list[SummaryView]
    next_cursor: Annotated[str | None, Meta(description="Give it as cursor for the next page; null on the last one.")]
    resume_cursor: Annotated[
        str, Meta(description="Give it as cursor, now or later, for the rules whose runs change after this page.")
    ]


class RunPageQuery(RunQuery):
    """Which page of runs."""

    order: Literal["asc", "desc"] = "desc"
    """By the last change; asc for those that changed first."""
    cursor: Annotated[str | None, Field(max_length=200)] = None
    """What an answer gave as next_cursor or resume_cursor, with the same order and filters."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    """Runs on a page at most."""


def place(cursor: str | None, *, order: Literal["asc", "desc"]) -> int | None:
    """Where a page begins.

    Raises:
        ProblemError: 400, the cursor is none of ours.
    """
    if cursor is None:
        return None
    try:
        return Cursor.decode(cursor, order=order).seq
    except InvalidCursorError as error:
        raise ProblemError(400, str(error), kind="invalid-cursor") from None


@router.get(
    "",
    operation_id="listRuns",
    summary="List runs",
    response_class=Response,
    responses={200: answer(RunPage, "A page"), **documented(400, 401, 403, 422, 503)},
    openapi_extra=CALLER_ONLY,
)
async def list_(
    request: Request, services: ServicesDep, caller: CallerDep, query: Annotated[RunPageQuery, Query()]
) -> Response:
    """Runs, page by page, in the order of their last changes.

    A run that changes moves to the end of that order. So with `order=desc`, one that changes while you read pages is not on a
    later page; `order=asc` and `resume_cursor` give it with its new state. A page may be short, even empty, and have a
    `next_cursor` all the same: go on until it is null.
    """
    await require_list(services, caller, resource="rules", namespace=query.rule_namespace, parameter="rule_namespace")
    check_known(request, known=RunPageQuery.model_fields)
    beyond = place(query.cursor, order=query.order)
    page = await read_page(services.database, where=query.chosen(), order=query.order, beyond=beyond, limit=query.limit)
    return json_answer(
        RunPage(
            data=page.runs,
            next_cursor=None if page.more is None else Cursor(seq=page.more, order=query.order).encode(),
            resume_cursor=Cursor(seq=page.seen, order="asc").encode() if query.order == "asc" else None,
        )
    )


class RunCountQuery(RunQuery):
    """Which counts."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    """Counts at most."""


@router.get(
    "/counts",
    operation_id="countRuns",
    summary="Count runs",
    response_class=Response,
    responses={200: answer(RunCountsAnswer, "Counts, the highest first"), **documented(401, 403, 422, 503)},
    openapi_extra=CALLER_ONLY,
)
async def counts(
    request: Request, services: ServicesDep, caller: CallerDep, query: Annotated[RunCountQuery, Query()]
) -> Response:
    """How many runs of each rule and action are in each state. Without `updated_after`, of the last day."""
    await require_list(services, caller, resource="rules", namespace=query.rule_namespace, parameter="rule_namespace")
    check_known(request, known=RunCountQuery.model_fields)
    after = query.updated_after or max(query.updated_before or datetime.now(UTC), _EARLIEST + _DAY) - _DAY
    if query.updated_before is not None and after >= query.updated_before:
        raise ProblemError(422, "updated_after must be earlier than updated_before.", kind="invalid-request")
    where = query.model_copy(update={"updated_after": after}).chosen()
    rows = await services.database.read(lambda connection: count_runs(connection, where=where, limit=query.limit + 1))
    before = query.updated_before
    return json_answer(
        RunCountsAnswer(
            data=[RunCount(**row) for row in rows[: query.limit]],
            more=len(rows) > query.limit,
            updated_after=rfc3339(after.astimezone(UTC)),
            updated_before=None if before is None else rfc3339(before.astimezone(UTC)),
        )
    )


_EARLIEST = datetime(2, 1, 1, tzinfo=UTC)


class SummaryQuery(BaseModel):
    """Which rules."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    rule_namespace: Text | None = None
    """Only rules of this namespace. Required for callers that may not list rules in all namespaces."""
    rule_uid: Text | None = None
    """Only this rule; several separated by commas, 100 at most."""
    cursor: Annotated[str | None, Field(max_length=200)] = None
    """What an answer gave as next_cursor or resume_cursor, with the same filters."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    """Rules on a page, about."""


@router.get(
    "/summaries",
    operation_id="summarizeRuns",
    summary="What became of each rule's runs",
    response_class=Response,
    responses={200: answer(SummaryPage, "A page"), **documented(400, 401, 403, 422, 503)},
    openapi_extra=CALLER_ONLY,
)
async def summaries(
    request: Request, services: ServicesDep, caller: CallerDep, query: Annotated[SummaryQuery, Query()]
) -> Response:
    """The numbers of each rule's runs, and how its last ones went. Cheap: they are kept, not counted.

    Who keeps `resume_cursor` gets only the rules whose runs have changed since.
    """
    await require_list(services, caller, resource="rules", namespace=query.rule_namespace, parameter="rule_namespace")
    check_known(request, known=SummaryQuery.model_fields)
    uids = [uid for uid in (query.rule_uid or "").split(",") if uid]
    if len(uids) > MOST_RULES:
        raise ProblemError(422, f"query.rule_uid: more than {MOST_RULES} rules.", kind="invalid-request")
    beyond = place(query.cursor, order="asc") or 0

    def read(connection: Connection) -> tuple[int, list[RowMapping]]:
        newest = newest_seq(connection)
        rows = read_summaries(
            connection, beyond=beyond, limit=query.limit, namespace=query.rule_namespace, rule_uids=uids
        )
        return newest, rows

    newest, rows = await services.database.read(read)
    if beyond > newest:
        # Numbers begin again in a database that was restored or replaced: what changed there would never be answered.
        raise ProblemError(
            400, "cursor is of another database than this one; leave it out to start again.", kind="invalid-cursor"
        )
    more = len(rows) >= query.limit
    reached = rows[-1]["seq"] if more else max(newest, beyond)
    cursor = Cursor(seq=reached, order="asc").encode()
    return json_answer(
        SummaryPage(data=[_summary(row) for row in rows], next_cursor=cursor if more else None, resume_cursor=cursor)
    )


def _summary(row: RowMapping) -> SummaryView:
    def time(name: str) -> str | None:
        return None if row[name] is None else rfc3339(row[name].astimezone(UTC))

    at = time("last_failure_at")
    return SummaryView(
        rule_uid=row["rule_uid"],
        rule_namespace=row["rule_namespace"],
        rule_name=row["rule_name"],
        succeeded=row["succeeded"],
        failed=row["failed"],
        skipped=row["skipped"],
        waiting=row["waiting"],
        last_run_at=time("last_run_at"),
        last_success_at=time("last_success_at"),
        last_failure=None
        if at is None
        else FailureView(
            at=at,
            run_id=row["last_failure_run"],
            action=row["last_failure_action"],
            state=row["last_failure_state"],
            reason=row["last_failure_reason"],
            message=row["last_failure_message"],
        ),
    )


@router.get(
    "/{run_id}",
    operation_id="getRun",
    summary="Get a run",
    response_class=Response,
    responses={200: answer(RunAnswer, "The run"), **documented(401, 404, 422, 503)},
    openapi_extra=CALLER_ONLY,
)
async def get(run_id: uuid.UUID, services: ServicesDep, caller: CallerDep) -> Response:
    """One run, with its last attempts. One in a namespace whose rules the caller may not get is not found."""
    row = await services.database.read(lambda connection: get_run(connection, run_id=run_id))
    if row is not None:
        right = Right(verb="get", resource="rules", namespace=row["rule_namespace"], name=row["rule_name"])
        if await services.access.allows(caller, right):
            return json_answer(RunAnswer(data=view(row)))
    raise ProblemError(404, f"There is no run {run_id} that you may read.", kind="run-not-found")
