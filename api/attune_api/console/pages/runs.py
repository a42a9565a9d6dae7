"""Runs: found by the API's filters, one by its permalink, and done again."""

import uuid
from datetime import UTC, datetime
from typing import Final

import msgspec
from fastapi.responses import Response

from attune_api.console.answers import redirect
from attune_api.console.pages.sign_in import way_back
from attune_api.console.views.search import beyond, filters_told, moment
from attune_api.console.visit import Visit, link, root_of
from attune_api.runs.parameters import RunQuery
from attune_api.runs.query import read_page
from attune_api.runs.requests import RetryRequest
from attune_api.runs.retry import retry_runs
from attune_api.runs.table import get_run, view
from attune_api.runs.views import RunView
from attune_api.web.cursors import Cursor
from attune_api.web.problems import ProblemError
from attune_contract.actions import RunReason, RunState

_PAGE: Final = 50
_FIELDS: Final = ("rule_name", "action", "state", "reason", "after", "before")


async def search(visit: Visit) -> Response:
    """``GET /console/runs``."""
    namespace, query = await visit.namespace(), visit.query
    await visit.require("list", namespace)
    now = datetime.now(UTC)
    with filters_told():
        wanted = RunQuery(
            rule_namespace=namespace or None,
            rule_name=query.get("rule_name"),
            action=query.get("action"),
            state=query.get("state"),
            reason=query.get("reason"),
            updated_after=moment(query.get("after", ""), now),
            updated_before=moment(query.get("before", ""), now),
        )
    page = await read_page(
        visit.services.database, where=wanted.chosen(), order="desc", beyond=beyond(query.get("cursor")), limit=_PAGE
    )
    kept = {"namespace": namespace, **{name: query.get(name, "") for name in _FIELDS}}
    return visit.page(
        "runs.html",
        namespace=namespace,
        query=query,
        runs=page.runs,
        states=[state.value for state in RunState],
        reasons=[reason.value for reason in RunReason if reason.value],
        following=None
        if page.more is None
        else link("/runs", **kept, cursor=Cursor(seq=page.more, order="desc").encode()),
        newest=link("/runs", **kept),
        begun="cursor" in query,
    )


async def show(visit: Visit, run_id: str) -> Response:
    """``GET /console/runs/{run_id}``: the permalink of one run, with its attempts."""
    try:
        key = uuid.UUID(run_id)
    except ValueError:
        raise ProblemError(404, f"{run_id!r} is no run's id.", kind="run-not-found") from None
    row = await visit.services.database.read(lambda connection: get_run(connection, run_id=key))
    if row is None or not await visit.allows("get", row["rule_namespace"], row["rule_name"]):
        raise ProblemError(404, f"There is no run {key} that you may read.", kind="run-not-found")
    may_retry = await visit.allows("update", row["rule_namespace"], row["rule_name"])
    # As a reader gets it: in the row, attempts and result are JSON still.
    run = msgspec.json.decode(msgspec.json.encode(view(row)), type=RunView)
    return visit.page("run.html", run=run, may_retry=may_retry, said=visit.query.get("said", ""))


async def retry(visit: Visit) -> Response:
    """``POST /console/runs/retry``: one run, again."""
    try:
        key = uuid.UUID(visit.form.get("id", ""))
    except ValueError:
        raise ProblemError(422, "The form names no run.", kind="invalid-request") from None
    answer = await retry_runs(visit.services, visit.visitor.caller, RetryRequest(ids=[key]))
    if answer.refused:
        raise ProblemError(409, f"The run is not done again. {answer.refused[0].message}", kind="not-retried")
    to = way_back(visit.form.get("to", "")) if visit.form.get("to") else f"/runs/{key}"
    return redirect(link(to, said="retried"), root=root_of(visit.request))
