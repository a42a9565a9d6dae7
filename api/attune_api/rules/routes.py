"""``GET /api/v1/rules`` and ``/api/v1/sensors``: projections of the streams, never a second truth beside Kubernetes."""

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any, Final

import nats.errors
import structlog
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from nats.aio.client import Client
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from attune_api.dependencies import CALLER_ONLY, CallerDep, ServicesDep
from attune_api.events.query.parameters import Text, check_known, require_list, storable
from attune_api.identity.cluster import Right
from attune_api.rules.cache import KnownRule
from attune_api.rules.schemas import HistoryAnswer, RuleAnswer, RulePage, SensorPage
from attune_api.rules.views import PastEvent, newest_first, past_event, tell
from attune_api.services import Services
from attune_api.streams.stored import all_messages, last_messages
from attune_api.web.answers import json_answer
from attune_api.web.cursors import InvalidCursorError, decode_text, encode_text
from attune_api.web.problems import ProblemError, documented, unavailable
from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import Ack, InvalidMessageError, decode_ack, decode_rule

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/api/v1", tags=["rules"])

#: Seconds to wait for a connection to NATS, when a question needs one.
_CONNECTION: Final = 2.0
_OUTAGES: Final = (nats.errors.Error, OSError, TimeoutError)
NameInPath = Annotated[
    str, Path(max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", examples=["echo-every-second"])
]
NamespaceInPath = Annotated[str, Path(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", examples=["default"])]


class ListQuery(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    namespace: Text | None = None
    """Only this namespace. Required for callers that may not list in all namespaces."""
    cursor: Annotated[str | None, Field(max_length=2000), AfterValidator(lambda text: text and storable(text))] = None
    """What an answer gave as next_cursor, with the same filters."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    """Entries on a page at most."""

    def place(self) -> str:
        """Where the page begins.

        Raises:
            ProblemError: 400, the cursor is none of ours.
        """
        try:
            return "" if self.cursor is None else decode_text(self.cursor)
        except InvalidCursorError as error:
            raise ProblemError(400, str(error), kind="invalid-cursor") from None


class RuleQuery(ListQuery):
    """Which rules."""

    sensor: Text | None = None
    """Only those that this sensor serves, namespace/name."""
    trigger_type: Text | None = None
    """Only those of this trigger type."""


@router.get(
    "/rules",
    operation_id="listRules",
    summary="List rules",
    response_class=Response,
    responses={200: {"model": RulePage}, **documented(400, 401, 403, 422, 503)},
    openapi_extra=CALLER_ONLY,
)
async def rules(
    request: Request, services: ServicesDep, caller: CallerDep, query: Annotated[RuleQuery, Query()]
) -> Response:
    """Rules that a sensor serves, by namespace and name, as the operator published them, each with its latest ack."""
    check_known(request, known=RuleQuery.model_fields)
    await require_list(services, caller, resource="rules", namespace=query.namespace, parameter="namespace")
    parts = query.place().split(" ")
    if len(parts) not in (1, 3):
        raise ProblemError(400, "cursor belongs to another list.", kind="invalid-cursor")
    key = (parts[0], parts[1], parts[2]) if len(parts) == 3 else None
    _require_heard(services, heard=services.rules.heard)
    wanted = (
        rule
        for rule in services.rules.after(key, namespace=query.namespace)
        if (query.sensor is None or str(rule.sensor) == query.sensor)
        and (query.trigger_type is None or rule.trigger_type == query.trigger_type)
    )
    shown, more = _page(wanted, query.limit)
    acks = await _acks(services, shown)
    return json_answer(
        {
            "data": [tell(rule, acks=acks) for rule in shown],
            "next_cursor": encode_text(" ".join(shown[-1].key)) if more else None,
        }
    )


@router.get(
    "/rules/{namespace}/{name}",
    operation_id="getRule",
    summary="Get a rule",
    response_class=Response,
    responses={200: {"model": RuleAnswer}, **documented(401, 403, 404, 422, 503)},
    openapi_extra=CALLER_ONLY,
)
async def rule(namespace: NamespaceInPath, name: NameInPath, services: ServicesDep, caller: CallerDep) -> Response:
    """A rule that a sensor serves."""
    await services.access.require(caller, Right(verb="get", resource="rules", namespace=namespace, name=name))
    _require_heard(services, heard=services.rules.heard)
    found = None
    # A rule that was created again may briefly exist next to its predecessor; the newer one counts.
    for known in services.rules.after((namespace, name, ""), namespace=namespace):
        if known.name != name:
            break
        found = known if found is None or known.created_at >= found.created_at else found
    if found is None:
        raise ProblemError(404, f"There is no rule {namespace}/{name} that a sensor serves.", kind="rule-not-found")
    return json_answer({"data": tell(found, acks=await _acks(services, [found]))})


@router.get(
    "/rules/{namespace}/{name}/history",
    operation_id="getRuleHistory",
    summary="What happened to a rule",
    response_class=Response,
    responses={200: {"model": HistoryAnswer}, **documented(401, 403, 404, 422, 503)},
    openapi_extra=CALLER_ONLY,
)
async def history(
    namespace: NamespaceInPath,
    name: NameInPath,
    services: ServicesDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="Entries at most.")] = 20,
) -> Response:
    """The last lifecycle events of the rules of this name, newest first; also when there is none any more."""
    await services.access.require(caller, Right(verb="get", resource="rules", namespace=namespace, name=name))
    return json_answer({"data": await read_history(services, namespace=namespace, name=name, limit=limit)})


async def read_history(services: Services, *, namespace: str, name: str, limit: int) -> list[PastEvent]:
    """What happened to the rules of a name, newest first. The caller's right to get them was checked.

    Raises:
        ProblemError: 404 nothing is known of one, 503 NATS does not answer.
    """
    try:
        client = await _client(services)
        subject = subjects.history_filter(namespace=namespace, name=name)
        messages = await all_messages(client, stream=subjects.HISTORY_STREAM, subject=subject)
    except _OUTAGES as error:
        log.warning("history_not_read", error=type(error).__name__, reason=str(error)[:300])
        raise unavailable(
            "NATS, which keeps the history, does not answer; try again.", kind="nats-unavailable"
        ) from None
    entries: list[PastEvent] = []
    for message in messages:
        try:
            entries.append(past_event(decode_rule(message.data), message.headers or {}))
        except InvalidMessageError as error:
            log.error("history_message_invalid", subject=message.subject, reason=str(error))
    if not entries:
        raise ProblemError(404, f"Nothing is known of a rule {namespace}/{name}, now or before.", kind="rule-not-found")
    return newest_first(entries, limit=limit)


@router.get(
    "/sensors",
    operation_id="listSensors",
    summary="List sensors",
    response_class=Response,
    responses={200: {"model": SensorPage}, **documented(400, 401, 403, 422, 503)},
    openapi_extra=CALLER_ONLY,
)
async def sensors(
    request: Request, services: ServicesDep, caller: CallerDep, query: Annotated[ListQuery, Query()]
) -> Response:
    """Sensors that the operator gave a token, by namespace and name."""
    check_known(request, known=ListQuery.model_fields)
    await require_list(services, caller, resource="sensors", namespace=query.namespace, parameter="namespace")
    _require_heard(services, heard=services.states.heard)
    wanted = (
        state
        for state in services.states.after(query.place())
        if query.namespace is None or state.sensor_ref.startswith(query.namespace + "/")
    )
    shown, more = _page(wanted, query.limit)
    data: list[dict[str, Any]] = []
    for state in shown:
        ref = SensorRef.parse(state.sensor_ref)
        data.append(
            {
                "sensor_ref": state.sensor_ref,
                "namespace": ref.namespace,
                "name": ref.name,
                "uid": state.uid,
                "trigger_types": sorted(state.trigger_types),
                "rules": services.rules.count(ref.token),
            }
        )
    return json_answer({"data": data, "next_cursor": encode_text(shown[-1].sensor_ref) if more else None})


def _page(wanted: Iterable[Any], limit: int) -> tuple[list[Any], bool]:
    found = list(islice(wanted, limit + 1))
    return found[:limit], len(found) > limit


def _require_heard(services: Services, *, heard: bool) -> None:
    if services.nats is None:
        raise unavailable(
            "This API is not connected to NATS, which has the rules and sensors; set ATTUNE_API_NATS_URL.",
            kind="nats-off",
            retry_after=60,
        )
    if not heard:
        raise unavailable(
            "This API has not read the rules and sensors from NATS yet; try again.",
            kind="nats-unavailable",
            retry_after=2,
        )


async def _client(services: Services) -> Client:
    """The connection to NATS.

    Raises:
        TimeoutError, OSError: there is none.
    """
    if services.nats is None:
        raise ConnectionError("no NATS is named")
    async with asyncio.timeout(_CONNECTION):
        return (await services.nats.wait_connected()).client


async def _acks(services: Services, known: list[KnownRule]) -> dict[str, Ack] | None:
    """The sensors' last words by rule uid; None when they cannot be read now."""
    if not known:
        return {}
    asked = [subjects.ack_subject(rule.sensor, rule.uid) for rule in known]
    try:
        messages = await last_messages(await _client(services), stream=subjects.ACKS_STREAM, subjects=asked)
    except _OUTAGES as error:
        log.warning("acks_not_read", error=type(error).__name__, reason=str(error)[:300])
        return None
    found: dict[str, Ack] = {}
    for message in messages:
        try:
            ack = decode_ack(message.data)
        except InvalidMessageError:
            continue  # a sensor's own word; the operator logs it
        # The subject is what a sensor's rights bind, not the body.
        if (message.headers or {}).get("Nats-Subject", "").endswith("." + ack.rule_uid):
            found[ack.rule_uid] = ack
    return found
