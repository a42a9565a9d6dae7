"""``POST /api/v1/runs/retry`` and ``POST /api/v1/events/replay``: runs that somebody asks for."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import nats.errors
import structlog
from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy import Connection, RowMapping, select

from attune_api.dependencies import CALLER_ONLY, CallerDep, ServicesDep
from attune_api.events.query.filters import EventFilter
from attune_api.events.query.service import read_page as read_events
from attune_api.identity.callers import Caller
from attune_api.identity.cluster import Right
from attune_api.rules.cache import RuleCache
from attune_api.runs.asking import (
    AGAIN,
    Asked,
    NotQueuedError,
    again,
    events_of,
    first,
    fits,
    queue,
    read_actions,
)
from attune_api.runs.query import RunFilter, read_page
from attune_api.runs.requests import (
    NotRetried,
    ReplayAnswer,
    ReplayRequest,
    RetryAnswer,
    RetryRequest,
    bounded,
    read_request,
)
from attune_api.runs.routes import place
from attune_api.runs.sql import store_runs
from attune_api.runs.table import RUNS, run_of
from attune_api.services import Services
from attune_api.web.answers import json_answer
from attune_api.web.cursors import Cursor
from attune_api.web.documents import answer, body
from attune_api.web.problems import ProblemError, documented, unavailable
from attune_contract.actions import RuleActions, Run, RunState, run_id
from attune_kit.nats.connection import NatsConnection

log = structlog.get_logger(__name__)

router = APIRouter(tags=["runs"])

#: Seconds to wait for a connection to NATS.
_CONNECTION: Final = 2.0
_REFUSALS: Final = documented(400, 401, 403, 404, 408, 413, 415, 422, 503)


@router.post(
    "/api/v1/runs/retry",
    operation_id="retryRuns",
    summary="Do runs again",
    response_class=Response,
    responses={200: answer(RetryAnswer, "What is queued, and what is not"), **_REFUSALS},
    openapi_extra={**body(RetryRequest), **CALLER_ONLY},
)
async def retry(http_request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Queue failed or skipped runs to be done again by their rules as they are now. Needs the right to `update` the Rules.

    With a filter, runs are looked at from the newest on, `limit` at a time: go on with `next_cursor`. One that fails again
    meanwhile is not found a second time.
    """
    wanted = read_request(await services.bodies.read_small(http_request), RetryRequest)
    return json_answer(await retry_runs(services, caller, wanted))


async def retry_runs(services: Services, caller: Caller, wanted: RetryRequest) -> RetryAnswer:
    """Queue runs to be done again, as far as the caller may.

    Raises:
        ProblemError: 403, 422 or 503.
    """
    filtered = RetryRequest(ids=wanted.ids, limit=wanted.limit) != wanted
    if wanted.ids and filtered:
        raise ProblemError(422, "Give ids or a filter, not both.", kind="invalid-request")
    if not wanted.ids and not filtered:
        raise ProblemError(422, "Give ids, or a filter with at least one member.", kind="invalid-request")
    if wanted.ids:
        rows, refused = await _named(services, caller, wanted.ids)
        more = None
    else:
        rows, more = await _found(services, caller, wanted)
        refused = []
    queued, not_queued = await _ask_again(services, caller, [run_of(row) for row in rows])
    return RetryAnswer(queued=queued, refused=[*refused, *not_queued], next_cursor=more)


async def _named(
    services: Services, caller: Caller, ids: Sequence[uuid.UUID]
) -> tuple[list[RowMapping], list[NotRetried]]:
    rows = {row["id"]: row for row in await services.database.read(lambda connection: _rows(connection, ids))}
    allowed: list[RowMapping] = []
    refused: list[NotRetried] = []
    for run_key in dict.fromkeys(ids):
        row = rows.get(run_key)
        if row is None or not await _may(services, caller, "get", row):
            refused.append(NotRetried(id=run_key, reason="NotFound", message="There is no such run that you may read."))
        elif not await _may(services, caller, "update", row):
            rule = f"{row['rule_namespace']}/{row['rule_name']}"
            refused.append(NotRetried(id=run_key, reason="Forbidden", message=f"You may not update Rule {rule}."))
        else:
            allowed.append(row)
    return allowed, refused


async def _may(services: Services, caller: Caller, verb: str, row: RowMapping) -> bool:
    right = Right(verb=verb, resource="rules", namespace=row["rule_namespace"], name=row["rule_name"])
    return await services.access.allows(caller, right)


async def _found(services: Services, caller: Caller, wanted: RetryRequest) -> tuple[list[RowMapping], str | None]:
    if wanted.rule_name is not None and wanted.rule_namespace is None:
        raise ProblemError(422, "rule_name needs rule_namespace.", kind="invalid-request")
    await services.access.require(
        caller,
        Right(verb="update", resource="rules", namespace=wanted.rule_namespace or "", name=wanted.rule_name or ""),
        hint="" if wanted.rule_namespace else "Name a namespace with rule_namespace.",
    )
    where = RunFilter(
        rule_namespace=wanted.rule_namespace,
        rule_name=wanted.rule_name,
        action=wanted.action,
        state=wanted.state or "Failed",
        reason=wanted.reason,
        updated_after=bounded(wanted.updated_after),
        updated_before=bounded(wanted.updated_before),
    )
    # From the newest on: what is done again moves up, out of the way.
    beyond = place(wanted.cursor, order="desc")
    page = await read_page(services.database, where=where, order="desc", beyond=beyond, limit=wanted.limit)
    ids = [entry.id for entry in page.runs]
    rows = await services.database.read(lambda connection: _rows(connection, ids))
    return rows, None if page.more is None else Cursor(seq=page.more, order="desc").encode()


def _rows(connection: Connection, ids: Sequence[uuid.UUID]) -> list[RowMapping]:
    found: list[RowMapping] = []
    for start in range(0, len(ids), 500):
        statement = select(RUNS).where(RUNS.c.id.in_(ids[start : start + 500]))
        found += connection.execute(statement).mappings()
    return found


_NOT_ENDED: Final = "It has not ended."
_SUCCEEDED: Final = "It succeeded; `attune events replay --again` does it again."
_GONE: Final = "Its event is no longer stored."
_TOO_LARGE: Final = "Its event is larger than a message of NATS may be."


async def _ask_again(
    services: Services, caller: Caller, runs: Sequence[Run]
) -> tuple[list[uuid.UUID], list[NotRetried]]:
    refused: list[NotRetried] = []
    ended: list[Run] = []
    for run in runs:
        if run.state in AGAIN:
            ended.append(run)
        elif run.state is RunState.SUCCEEDED:
            refused.append(NotRetried(id=run.id, reason="Succeeded", message=_SUCCEEDED))
        else:
            refused.append(NotRetried(id=run.id, reason="NotEnded", message=_NOT_ENDED))
    events = await services.database.read(lambda connection: events_of(connection, ended))
    now = datetime.now(UTC)
    asked: list[Asked] = []
    for run in ended:
        event = events.get((run.rule_uid, run.event_id))
        if event is None:
            refused.append(NotRetried(id=run.id, reason="EventGone", message=_GONE))
        else:
            asked.append(Asked(run=again(run, by=caller.login, now=now), event=event))
    queued, too_large = await _queue(services, caller, asked, why="retry")
    return queued, [*refused, *too_large]


async def _queue(
    services: Services, caller: Caller, asked: Sequence[Asked], *, why: str
) -> tuple[list[uuid.UUID], list[NotRetried]]:
    """Queue what can be queued, and keep that it waits."""
    if not asked:
        return [], []
    connection = await _connected(services)
    largest = connection.client.max_payload
    fitting = [one for one in asked if fits(one, largest=largest)]
    refused = [
        NotRetried(id=one.run.id, reason="EventTooLarge", message=_TOO_LARGE) for one in asked if one not in fitting
    ]
    try:
        await queue(connection.jetstream, fitting, by=caller.login)
    except NotQueuedError as error:
        log.warning("runs_not_queued", by=caller.login, reason=str(error))
        raise unavailable(str(error), kind="runs-not-queued", retry_after=5) from None
    now = datetime.now(UTC)
    runs = [one.run for one in fitting]
    await services.database.write(lambda opened: store_runs(opened, runs=runs, now=now))
    services.run_feed.stored.set()
    services.metrics.runs_queued.labels(why).inc(len(fitting))
    log.info("runs_asked_for", by=caller.login, why=why, runs=len(fitting))
    return [run.id for run in runs], refused


async def _connected(services: Services) -> NatsConnection:
    if services.nats is None:
        raise unavailable(
            "This API is not connected to NATS, by which the runner is asked; set ATTUNE_API_NATS_URL.",
            kind="nats-off",
            retry_after=60,
        )
    try:
        async with asyncio.timeout(_CONNECTION):
            return await services.nats.wait_connected()
    except TimeoutError:
        raise unavailable("NATS does not answer; try again.", kind="nats-unavailable") from None


@router.post(
    "/api/v1/events/replay",
    operation_id="replayEvents",
    summary="Run the actions of stored events",
    response_class=Response,
    responses={200: answer(ReplayAnswer, "What is queued, and what is not"), **_REFUSALS},
    openapi_extra={**body(ReplayRequest), **CALLER_ONLY},
)
async def replay(http_request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Queue the actions of a rule, as it is now, for its stored events. Needs the right to `update` the Rule.

    Events are looked at from the oldest on, `limit` at a time: go on with `next_cursor`. An action that has a run for an
    event is left alone, unless `again` is true and the run has ended.
    """
    wanted = read_request(await services.bodies.read_small(http_request), ReplayRequest)
    right = Right(verb="update", resource="rules", namespace=wanted.rule_namespace, name=wanted.rule_name)
    await services.access.require(caller, right)
    rule = await actions_of(services, namespace=wanted.rule_namespace, name=wanted.rule_name)
    actions = [each for each in rule.actions if wanted.action is None or each["name"] == wanted.action]
    if not actions:
        what = "no actions" if wanted.action is None else f"no action {wanted.action!r}"
        raise ProblemError(422, f"Rule {wanted.rule_namespace}/{wanted.rule_name} has {what}.", kind="no-such-action")
    where = EventFilter(
        rule_uid=rule.uid,
        occurred_after=bounded(wanted.occurred_after),
        occurred_before=bounded(wanted.occurred_before),
    )
    beyond = place(wanted.cursor, order="asc")
    limit = max(1, wanted.limit // len(actions))
    page = await read_events(services.database, where=where, order="asc", beyond=beyond, limit=limit)
    ids = [run_id(rule.uid, event.id, each["name"]) for event in page.events for each in actions]
    known = {row["id"]: row for row in await services.database.read(lambda connection: _rows(connection, ids))}
    now = datetime.now(UTC)
    asked: list[Asked] = []
    already = 0
    for event in page.events:
        for action in actions:
            row = known.get(run_id(rule.uid, event.id, action["name"]))
            if row is not None and not (wanted.again and RunState(row["state"]).final):
                already += 1
                continue
            revision = 1 if row is None else row["revision"] + 1
            run = first(event, action, rule=rule, revision=revision, by=caller.login, now=now)
            asked.append(Asked(run=run, event=event))
    queued, refused = await _queue(services, caller, asked, why="replay")
    return json_answer(
        ReplayAnswer(
            events=len(page.events),
            queued=queued,
            already_run=already,
            refused=refused,
            next_cursor=None if page.more is None else Cursor(seq=page.more, order="asc").encode(),
        )
    )


async def actions_of(services: Services, *, namespace: str, name: str) -> RuleActions:
    """A rule's actions, as the operator published them.

    Raises:
        ProblemError: 404 there is no such rule, or none whose actions are known; 503 NATS does not answer.
    """
    connection = await _connected(services)
    uid = _uid_of(services.rules, namespace=namespace, name=name)
    found = None
    if uid is not None:
        try:
            found = await read_actions(connection.jetstream, namespace=namespace, uid=uid)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            log.warning("actions_not_read", error=type(error).__name__)
            raise unavailable(
                "NATS, which has the rules' actions, does not answer; try again.", kind="nats-unavailable"
            ) from None
    if found is None:
        raise ProblemError(
            404,
            f"There is no rule {namespace}/{name} that a sensor serves and whose actions are known.",
            kind="rule-not-found",
        )
    return found


def _uid_of(rules: RuleCache, *, namespace: str, name: str) -> str | None:
    """The uid of the newest rule with this name."""
    found = None
    for known in rules.after((namespace, name, ""), namespace=namespace):
        if known.name != name:
            break
        found = known if found is None or known.created_at >= found.created_at else found
    return None if found is None else found.uid
