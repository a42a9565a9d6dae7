"""``/api/v1/sensor/states/{rule_uid}``: what a sensor remembers of a rule; and ``/api/v1/sensor/events``: what rules are about.

Both are about a rule that the calling sensor serves. To read events, it must have one of the trigger types of
:mod:`attune_contract.derived`: its author lets the sensor read the events of its namespace, and of no other.
"""

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from msgspec import Meta
from pydantic import AfterValidator, Field

from attune_api.dependencies import SENSOR_ONLY, SensorDep, ServicesDep
from attune_api.events.derived.sql import StoredState, delete_state, load_state, read_of_rules, save_state
from attune_api.events.table import rfc3339
from attune_api.identity.callers import SensorCaller
from attune_api.rules.cache import KnownRule
from attune_api.services import Services
from attune_api.web.answers import json_answer
from attune_api.web.bodies import check_headers
from attune_api.web.documents import answer, body
from attune_api.web.problems import ProblemError, documented, unavailable
from attune_contract.derived import DERIVED_TRIGGER_TYPES, MOST_RULES, MOST_STATE_BODY_BYTES, MOST_STATE_BYTES
from attune_contract.events import Event, TimeText

router = APIRouter(prefix="/api/v1/sensor", tags=["events"])

_LIMIT: Final = 500


class SourceEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Events of the rules that were asked for, oldest first.

    ``position`` is where to go on; when ``newest`` is lower than what was asked for, events have been lost (a backup was
    restored). ``asked_at`` is the API's time before it looked: what is not here was stored later.
    """

    data: list[Event]
    position: Annotated[int, Meta(description="All up to this seq was looked at.", examples=[4711])]
    newest: Annotated[int, Meta(description="The newest seq there is, of any rule.", examples=[4711])]
    asked_at: Annotated[TimeText, Meta(description="When the API looked.", examples=["2026-11-23T12:00:00.000000Z"])]


class RuleStateBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a sensor remembers of a rule. A state of a lower generation, or of a lower position, is not kept."""

    generation: Annotated[int, Meta(ge=0, le=2**63 - 1, description="The Rule's metadata.generation.", examples=[1])]
    position: Annotated[
        int,
        Meta(
            ge=0,
            le=2**63 - 1,
            description="Grows with each state: of a rule about events, the seq up to which these are in it.",
            examples=[4711],
        ),
    ]
    state: Annotated[
        bytes, Meta(max_length=MOST_STATE_BYTES, description="The sensor's own, as base64.", examples=["AA=="])
    ]


class StateKept(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a state is kept now."""

    kept: Annotated[bool, Meta(examples=[True])]


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


_Uid = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_storable)]
_Name = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_storable)]
_PathUid = Annotated[_Uid, Path(description="The Rule's metadata.uid.")]


@router.get(
    "/events",
    operation_id="getSourceEvents",
    summary="Which events my rule is about",
    response_class=Response,
    responses={200: answer(SourceEvents, "The next events"), **documented(401, 403, 422, 503)},
    openapi_extra=SENSOR_ONLY,
)
async def source_events(
    services: ServicesDep,
    sensor: SensorDep,
    rule_uid: Annotated[_Uid, Query(description="A rule that the sensor serves, for which it asks.")],
    namespace: Annotated[_Name, Query(description="The namespace of that rule.")],
    name: Annotated[
        list[_Name],
        Query(min_length=1, max_length=MOST_RULES, description="Whose events, by the rule's name. Repeat it."),
    ],
    after: Annotated[
        int | None,
        Query(ge=0, le=2**63 - 1, description="Only events behind this seq; without it none, and where they end."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=_LIMIT, description="Events in one answer at most.")] = _LIMIT,
) -> Response:
    """Events of rules in the namespace of a rule about events (`core.count`, `core.absent`, ...), which the sensor serves."""
    _require_reading(services, sensor, rule_uid=rule_uid, namespace=namespace)
    asked_at = datetime.now(UTC)
    found = await services.database.read(
        lambda connection: read_of_rules(
            connection,
            namespace=namespace,
            rules=list(dict.fromkeys(name)) if after is not None else [],
            after=after or 0,
            limit=limit,
        )
    )
    return json_answer(
        SourceEvents(data=found.events, position=found.position, newest=found.newest, asked_at=rfc3339(asked_at))
    )


@router.get(
    "/states/{rule_uid}",
    operation_id="getRuleState",
    summary="What I remember of a rule",
    response_class=Response,
    responses={200: answer(RuleStateBody, "The state"), **documented(401, 403, 404, 422, 503)},
    openapi_extra=SENSOR_ONLY,
)
async def get_state(services: ServicesDep, sensor: SensorDep, rule_uid: _PathUid) -> Response:
    """The state that a sensor kept last of a rule that it serves; 404 while there is none."""
    _require_serving(services, sensor, rule_uid=rule_uid)
    found = await services.database.read(lambda connection: load_state(connection, rule_uid=rule_uid))
    if found is None:
        raise ProblemError(404, f"No state of the rule {rule_uid} is kept.", kind="no-state")
    return json_answer(RuleStateBody(generation=found.generation, position=found.position, state=found.state))


@router.put(
    "/states/{rule_uid}",
    operation_id="putRuleState",
    summary="Remember this of a rule",
    response_class=Response,
    responses={
        200: answer(StateKept, "It is kept"),
        **documented(400, 401, 403, 408, 409, 413, 415, 422, 503),
    },
    openapi_extra={**body(RuleStateBody), **SENSOR_ONLY},
)
async def put_state(request: Request, services: ServicesDep, sensor: SensorDep, rule_uid: _PathUid) -> Response:
    """Keep the state of a rule that the sensor serves, unless a newer one is kept (409)."""
    _require_serving(services, sensor, rule_uid=rule_uid)
    headers = request.headers
    encoding = check_headers(content_type=headers.get("content-type"), content_encoding=headers.get("content-encoding"))
    with services.bodies.hold() as held:
        raw = await services.bodies.read(held, request.receive, encoding=encoding, largest=MOST_STATE_BODY_BYTES)
        try:
            given = msgspec.json.decode(raw, type=RuleStateBody)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProblemError(422, f"The body is no state: {error}", kind="invalid-request") from None
        state = StoredState(generation=given.generation, position=given.position, state=given.state)
        now = datetime.now(UTC)
        kept = await services.database.write(
            lambda connection: save_state(connection, rule_uid=rule_uid, state=state, now=now)
        )
    if not kept:
        raise ProblemError(409, f"A newer state of the rule {rule_uid} is kept.", kind="newer-state")
    return json_answer(StateKept(kept=True))


@router.delete(
    "/states/{rule_uid}",
    operation_id="deleteRuleState",
    summary="Remember nothing of a rule",
    response_class=Response,
    responses={200: answer(StateKept, "None is kept"), **documented(401, 403, 422, 503)},
    openapi_extra=SENSOR_ONLY,
)
async def drop_state(services: ServicesDep, sensor: SensorDep, rule_uid: _PathUid) -> Response:
    """Forget the state of a rule that the sensor serves."""
    _require_serving(services, sensor, rule_uid=rule_uid)
    await services.database.write(lambda connection: delete_state(connection, rule_uid=rule_uid))
    return json_answer(StateKept(kept=False))


def _require_serving(services: Services, sensor: SensorCaller, *, rule_uid: str) -> KnownRule | None:
    """Let a sensor through that serves this rule; returns the rule, or None without a rule stream, where nobody knows it.

    Raises:
        ProblemError: 403; 503 while the rules are not known.
    """
    if services.nats is None:
        return None
    if not services.rules.heard:
        raise unavailable("The API has not read the rules yet; ask again.", kind="rules-unknown", retry_after=1)
    rule = services.rules.get(rule_uid)
    if rule is None or rule.sensor_key != sensor.claims.sensor.token:
        raise _not_allowed(f"The rule {rule_uid} is not bound to {sensor.claims.sensor}.")
    if rule.trigger_type not in sensor.trigger_types:
        raise _not_allowed(f"The sensor does not provide {rule.trigger_type}, the trigger type of the rule {rule_uid}.")
    return rule


def _require_reading(services: Services, sensor: SensorCaller, *, rule_uid: str, namespace: str) -> None:
    """Let a sensor through that serves this rule, if the rule is about events, and in this namespace.

    Raises:
        ProblemError: 403; 503 while the rules are not known.
    """
    if not DERIVED_TRIGGER_TYPES & sensor.trigger_types:
        wanted = ", ".join(sorted(DERIVED_TRIGGER_TYPES))
        raise _not_allowed(f"The sensor provides no trigger type that is about events ({wanted}).")
    rule = _require_serving(services, sensor, rule_uid=rule_uid)
    if rule is None:
        # As for reports, its own namespace is what it may touch.
        if namespace != sensor.claims.sensor.namespace:
            raise _not_allowed(
                f"{sensor.login} may read events of the namespace {sensor.claims.sensor.namespace} only."
            )
        return
    if rule.trigger_type not in DERIVED_TRIGGER_TYPES:
        raise _not_allowed(f"The rule {rule_uid} has the trigger type {rule.trigger_type}, which is not about events.")
    if rule.namespace != namespace:
        raise _not_allowed(
            f"The rule {rule_uid} is in the namespace {rule.namespace}, and so are the events it is about."
        )


def _not_allowed(detail: str) -> ProblemError:
    return ProblemError(403, detail, kind="events-not-allowed")
