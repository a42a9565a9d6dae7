"""``POST /api/v1/rules/{namespace}/{name}/test``: what a rule would do, by the same functions as the runner. Does nothing."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response
from msgspec import Meta

from attune_api.dependencies import CALLER_ONLY, CallerDep, ServicesDep
from attune_api.events.query.filters import EventFilter
from attune_api.events.query.service import read_page as read_events
from attune_api.events.query.sql import get_events
from attune_api.events.table import rfc3339
from attune_api.identity.cluster import Right
from attune_api.rules.routes import NameInPath, NamespaceInPath
from attune_api.runs.requests import Time_, bounded, read_request
from attune_api.runs.retry import actions_of
from attune_api.runs.trials import StepView
from attune_api.services import Services
from attune_api.web.answers import json_answer
from attune_api.web.documents import answer, body
from attune_api.web.problems import ProblemError, documented
from attune_contract.actions import RuleActions
from attune_contract.events import Event, TimeText

router = APIRouter(tags=["rules"])

#: Events that one request tries.
MOST_EVENTS: Final = 100


class TestRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The events that the rule is tried on: one that is stored, one with a payload of your own, or those of a time."""

    __test__ = False  # no test of pytest's

    event_id: Annotated[uuid.UUID, Meta(description="A stored event of the rule.")] | None = None
    payload: Annotated[dict[str, Any], Meta(description="The payload of an event that never was.")] | None = None
    occurred_after: Annotated[Time_, Meta(description="Stored events of the rule from then on.")] | None = None
    occurred_before: Time_ | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_EVENTS, description="How many events, at most.")] = 20


class TrialView(msgspec.Struct, frozen=True, kw_only=True):
    """What the rule would do for one event."""

    event_id: Annotated[uuid.UUID, Meta(description="The event.", examples=["0f3c2b54-8a83-5f0e-9a9b-0c7a3a4b7d11"])]
    event_seq: Annotated[int | None, Meta(description="Its seq; null for one that is not stored.", examples=[4711])]
    occurred_at: Annotated[TimeText, Meta(description="When it occurred.", examples=["2026-11-23T12:00:00.000000Z"])]
    steps: Annotated[list[StepView], Meta(description="Each action, in the rule's order.", examples=[[]])]


class TestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the rule would do, by event."""

    __test__ = False

    generation: Annotated[int, Meta(description="Which version of the Rule was tried.")]
    enabled: Annotated[bool, Meta(description="Whether the Rule is enabled. It is tried in any case.")]
    data: list[TrialView]


@router.post(
    "/api/v1/rules/{namespace}/{name}/test",
    operation_id="testRule",
    summary="What a rule would do",
    response_class=Response,
    responses={
        200: answer(TestAnswer, "What would become of each action, by event"),
        **documented(400, 401, 403, 404, 408, 413, 415, 422, 503),
    },
    openapi_extra={**body(TestRequest), **CALLER_ONLY},
)
async def test(
    namespace: NamespaceInPath, name: NameInPath, http_request: Request, services: ServicesDep, caller: CallerDep
) -> Response:
    """Conditions and rendered actions of a rule for events, by the functions that the runner uses. Nothing is done.

    Whether a run is skipped for another run's sake (concurrency) depends on the moment, and is not told.
    """
    await services.access.require(caller, Right(verb="get", resource="rules", namespace=namespace, name=name))
    wanted = read_request(await services.bodies.read_small(http_request), TestRequest)
    return json_answer(await try_rule(services, wanted, namespace=namespace, name=name))


async def try_rule(services: Services, wanted: TestRequest, *, namespace: str, name: str) -> TestAnswer:
    """What a rule would do for events. The caller's right to get it was checked.

    Raises:
        ProblemError: 404 there is no such rule or event, 422 it cannot be tried, 503 NATS does not answer.
    """
    rule = await actions_of(services, namespace=namespace, name=name)
    from attune_kit.actions.plan import Plan  # CEL, which a server that is never asked this does without

    try:
        plan = Plan(rule)
    except ValueError as error:
        raise ProblemError(422, f"The Rule cannot be tried: {error}.", kind="invalid-rule") from None
    events = await _events(services, rule, wanted)
    data = [
        TrialView(
            event_id=event.id,
            event_seq=event.seq or None,
            occurred_at=event.occurred_at,
            steps=await services.trials.steps(plan, event),
        )
        for event in events
    ]
    return TestAnswer(generation=rule.generation, enabled=rule.enabled, data=data)


async def _events(services: Services, rule: RuleActions, wanted: TestRequest) -> Sequence[Event]:
    given = [wanted.event_id is not None, wanted.payload is not None, wanted.occurred_after is not None]
    if sum(given) != 1:
        raise ProblemError(422, "Give one of event_id, payload and occurred_after.", kind="invalid-request")
    if wanted.payload is not None:
        return [_made_up(services, rule, wanted.payload)]
    if wanted.event_id is not None:
        event_id = wanted.event_id
        found = await services.database.read(
            lambda connection: get_events(connection, event_id=event_id, rule_uid=rule.uid)
        )
        if not found:
            raise ProblemError(404, f"The rule has no stored event {event_id}.", kind="event-not-found")
        return found
    where = EventFilter(
        rule_uid=rule.uid,
        occurred_after=bounded(wanted.occurred_after),
        occurred_before=bounded(wanted.occurred_before),
    )
    page = await read_events(services.database, where=where, order="desc", beyond=None, limit=wanted.limit)
    return page.events


def _made_up(services: Services, rule: RuleActions, payload: dict[str, Any]) -> Event:
    known = services.rules.get(rule.uid)
    now = rfc3339(datetime.now(UTC))
    return Event(
        id=uuid.uuid4(),
        seq=0,
        trigger_type=known.trigger_type if known is not None else "",
        rule_uid=rule.uid,
        rule_namespace=rule.namespace,
        rule_name=rule.name,
        sensor_ref=str(known.sensor) if known is not None else "",
        occurred_at=now,
        received_at=now,
        payload=msgspec.Raw(msgspec.json.encode(payload)),
    )
