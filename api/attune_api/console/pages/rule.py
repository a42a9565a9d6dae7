"""The page of one Rule: its state and why, its way, what it did, and what it would do."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from fastapi.responses import Response
from sqlalchemy import Connection

from attune_api.console.answers import redirect, unchanged
from attune_api.console.cluster import path_of
from attune_api.console.rows import rule_tone
from attune_api.console.views import chart as charts
from attune_api.console.views.as_yaml import as_yaml
from attune_api.console.views.events import newest_rate, shown_event
from attune_api.console.views.next_times import next_times
from attune_api.console.views.search import payload_filters
from attune_api.console.views.way import told_conditions, way
from attune_api.console.visit import Visit, link, root_of
from attune_api.events.query.filters import EventFilter
from attune_api.events.query.recent_counts import count_recent
from attune_api.events.query.service import read_page as read_events
from attune_api.rules.routes import read_history
from attune_api.runs.query import RunFilter, read_summaries
from attune_api.runs.query import read_page as read_runs
from attune_api.runs.trying import TestRequest, try_rule
from attune_api.web.problems import ProblemError
from attune_contract.names import RULES, SENSORS
from attune_contract.telling import actions_problem, bare, enabled, rule_advice, rule_note, rule_problem
from attune_kit.kubernetes.client import KubernetesError

_EVENTS: Final = 20
_RUNS: Final = 20
_HISTORY: Final = 20
#: Events that a Rule is tried on.
_TRIED: Final = 20
_NO_ANSWER: Final = 503
_NOT_FOUND: Final = 404


async def show(visit: Visit, namespace: str, name: str) -> Response:
    """``GET /console/rules/{namespace}/{name}``."""
    await visit.require("get", namespace, name)
    try:
        rule = await visit.console.cluster.get(visit.bearer, path_of(RULES, namespace, name))
    except KubernetesError as error:
        if error.status == _NOT_FOUND:
            return await _gone(visit, namespace, name)
        raise
    uid = str(rule["metadata"].get("uid", ""))
    where = EventFilter(rule_uid=uid)
    sensor, page, summary = await asyncio.gather(
        _sensor(visit, rule),
        read_events(visit.services.database, where=where, order="desc", beyond=None, limit=_EVENTS),
        visit.services.database.read(lambda connection: _summary(connection, uid)),
    )
    now = datetime.now(UTC)
    newest = page.events[0].occurred_at if page.events else None
    tone, word = rule_tone(rule)
    problem = rule_problem(rule) or actions_problem(rule)
    shared: dict[str, Any] = {
        "namespace": namespace,
        "name": name,
        "tone": tone,
        "word": word,
        "sentence": problem or rule_note(rule) or "",
        "advice": rule_advice(rule) if problem else "",
        "steps": way(rule, sensor=sensor, newest=newest, rate=newest_rate(page.events, now=now), runs=summary, now=now),
        "times": next_times(rule["spec"]["trigger"], first=(rule.get("status") or {}).get("nextTime")),
        "enabled": enabled(rule),
        "has_actions": bool(rule["spec"].get("actions")),
        "conditions": told_conditions(rule),
    }
    if visit.is_fragment:
        return visit.page("rule_live.html", **shared)
    runs = await read_runs(
        visit.services.database, where=RunFilter(rule_uid=uid), order="desc", beyond=None, limit=_RUNS
    )
    may_change = await visit.allows("update", namespace, name) or await visit.allows("patch", namespace, name)
    return visit.page(
        "rule.html",
        **shared,
        events=[shown_event(event) for event in page.events],
        after=page.events[0].seq if page.events else 0,
        uid=uid,
        runs=runs.runs,
        summary=summary,
        may_change=may_change,
        text=as_yaml(_for_people(rule)),
        spans=list(charts.SPANS),
        said=visit.query.get("said", ""),
    )


def _for_people(rule: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in bare(rule).items() if key != "status"}


async def _sensor(visit: Visit, rule: dict[str, Any]) -> dict[str, Any] | None:
    namespace, _, name = str((rule.get("status") or {}).get("sensor") or "").partition("/")
    if not name or not await visit.allows("get", namespace, name, resource="sensors"):
        return None
    try:
        return await visit.console.cluster.get(visit.bearer, path_of(SENSORS, namespace, name))
    except KubernetesError:
        return None


def _summary(connection: Connection, uid: str) -> dict[str, Any] | None:
    rows = read_summaries(connection, beyond=0, limit=1, namespace=None, rule_uids=[uid])
    return dict(rows[0]) if rows else None


async def _gone(visit: Visit, namespace: str, name: str) -> Response:
    """The Rule is not there: what is left of it."""
    try:
        history = await read_history(visit.services, namespace=namespace, name=name, limit=_HISTORY)
    except ProblemError:
        history = []
    if visit.is_fragment:
        return visit.page("rule_gone_part.html", namespace=namespace, name=name)
    return visit.page("rule_gone.html", status=404, namespace=namespace, name=name, history=history)


async def tail(visit: Visit, namespace: str, name: str) -> Response:
    """``GET …/tail``: events that came after ``after``, newest first."""
    await visit.require("get", namespace, name)
    query = visit.query
    after = int(query["after"]) if query.get("after", "").isdigit() else 0
    uid = query.get("uid", "")
    where = EventFilter(
        rule_uid=uid, rule_namespace=namespace, rule_name=name, payload=payload_filters(query.get("where", ""))
    )
    database = visit.services.database
    if query.get("fresh"):
        page = await read_events(database, where=where, order="desc", beyond=None, limit=_EVENTS)
        events = list(page.events)
    else:
        page = await read_events(database, where=where, order="asc", beyond=after, limit=100)
        events = list(reversed(page.events))
        if not events:
            return unchanged()
    return visit.page(
        "rule_tail.html",
        events=[shown_event(event) for event in events],
        after=max([after, *(event.seq for event in events)]),
        namespace=namespace,
        name=name,
        uid=uid,
        where=query.get("where", ""),
        fresh=bool(query.get("fresh")),
    )


async def chart(visit: Visit, namespace: str, name: str) -> Response:
    """``GET …/chart``: how many events in each interval."""
    await visit.require("get", namespace, name)
    span = visit.query.get("span", "1h")
    if span not in charts.SPANS:
        raise ProblemError(422, f"There is no span {span!r}.", kind="invalid-request")
    after, before, interval = charts.bounds(span, datetime.now(UTC))
    where = EventFilter(
        rule_uid=visit.query.get("uid", ""), rule_namespace=namespace, rule_name=name,
        occurred_after=after, occurred_before=before,
    )  # fmt: skip
    found = await count_recent(visit.services.database, where=where, interval=interval)
    drawn = charts.chart(found.counts, after=after, before=before, interval=interval)
    lasts, each = charts.WORDS[span]
    return visit.page("chart.html", chart=drawn, lasts=lasts, each=each, since=found.since, until=before)


async def history(visit: Visit, namespace: str, name: str) -> Response:
    """``GET …/history``: what happened to it, and by whom."""
    await visit.require("get", namespace, name)
    try:
        found = await read_history(visit.services, namespace=namespace, name=name, limit=_HISTORY)
        why = ""
    except ProblemError as problem:
        found, why = [], problem.detail
    return visit.page("history.html", history=found, why=why)


async def switch(visit: Visit, namespace: str, name: str) -> Response:
    """``POST …/enabled``: switch it on or off, with the caller's rights in the cluster."""
    wanted = visit.form.get("enabled")
    if wanted not in ("true", "false"):
        raise ProblemError(422, "enabled must be true or false.", kind="invalid-request")
    path = path_of(RULES, namespace, name)
    await visit.console.cluster.patch(visit.bearer, path, {"spec": {"enabled": wanted == "true"}})
    said = "enabled" if wanted == "true" else "disabled"
    return redirect(link(f"/rules/{namespace}/{name}", said=said), root=root_of(visit.request))


async def attempt(visit: Visit, namespace: str, name: str) -> Response:
    """``POST …/test``: what the Rule would do for stored events, or for a payload."""
    await visit.require("get", namespace, name)
    text = "" if visit.form.get("stored") else visit.form.get("payload", "").strip()
    event = visit.form.get("event", "").strip()
    problem, trial = "", None
    try:
        wanted = _wanted(text, event)
        trial = await try_rule(visit.services, wanted, namespace=namespace, name=name)
    except ProblemError as error:
        problem = error.detail
    return visit.page(
        "trial.html" if visit.is_fragment else "trial_page.html",
        namespace=namespace,
        name=name,
        trial=trial,
        problem=problem,
        as_text=lambda value: as_yaml(msgspec.to_builtins(value)).rstrip(),
    )


def _wanted(text: str, event: str) -> TestRequest:
    if event:
        try:
            return TestRequest(event_id=uuid.UUID(event))
        except ValueError:
            raise ProblemError(422, f"{event!r} is no event's id.", kind="invalid-request") from None
    if not text:
        return TestRequest(occurred_after=datetime.now(UTC) - timedelta(days=7), limit=_TRIED)
    try:
        return TestRequest(payload=msgspec.json.decode(text, type=dict[str, Any]))
    except msgspec.MsgspecError as error:
        raise ProblemError(422, f"The payload is no JSON object: {error}.", kind="invalid-request") from None
