"""``POST /api/v1/events`` and ``/api/v1/events/batch``: what sensors call."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from attune_api.dependencies import SENSOR_ONLY, SensorDep, services_of
from attune_api.events import reports
from attune_api.events.store import Outcome, Status
from attune_api.events.writer import EventWriter, Overloaded, StorageUnavailable
from attune_api.identity.callers import SensorCaller
from attune_api.identity.errors import insufficient_scope
from attune_api.problems import Problem, documented, unavailable
from attune_api.routes.answers import json_answer
from attune_api.routes.schemas import BatchAnswer, BatchSchema, EventReportSchema, StoredAnswer
from attune_contract.events import MAX_BATCH_EVENTS

router = APIRouter(prefix="/api/v1/events", tags=["events"])


def _body(schema: type[EventReportSchema] | type[BatchSchema]) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}, **SENSOR_ONLY}


@router.post(
    "",
    operation_id="reportEvent",
    summary="Report an event",
    status_code=201,
    response_class=Response,
    responses={
        201: {"model": StoredAnswer, "description": "Stored"},
        200: {"model": StoredAnswer, "description": "Stored before"},
        **documented(400, 401, 403, 408, 409, 413, 415, 422, 503),
    },
    openapi_extra=_body(EventReportSchema),
)
async def report_event(request: Request, sensor: SensorDep) -> Response:
    """Store an event, once. When the answer is 201 or 200 the event is on disk."""
    services = await services_of(request)
    async with services.bodies.read(request) as body:
        try:
            report = reports.read_report(body)
        except reports.NotJson as error:
            raise Problem(400, str(error), kind="invalid-json") from None
        except reports.InvalidReport as error:
            raise Problem(422, str(error), kind="invalid-event") from None
        if report.trigger_type not in sensor.trigger_types:
            raise insufficient_scope(
                _not_allowed(report.trigger_type, sensor),
                kind="trigger-type-not-allowed",
                members={"trigger_type": report.trigger_type, "allowed": sorted(sensor.trigger_types)},
            )
        row = reports.as_row(report, sensor_ref=str(sensor.claims.sensor), received_at=datetime.now(UTC))
        (outcome,) = await _store(services.writer, [row])
    if outcome.status is Status.REFUSED:
        kind = "event-conflict" if outcome.conflict else "event-refused"
        raise Problem(409 if outcome.conflict else 422, outcome.reason or "", kind=kind)
    data = {"id": report.id, "status": outcome.status, "seq": outcome.seq}
    return json_answer({"data": data}, status=201 if outcome.status is Status.STORED else 200)


@router.post(
    "/batch",
    operation_id="reportEvents",
    summary="Report several events",
    response_class=Response,
    responses={
        200: {"model": BatchAnswer, "description": "What became of each"},
        **documented(400, 401, 408, 413, 415, 422, 503),
    },
    openapi_extra=_body(BatchSchema),
)
async def report_events(request: Request, sensor: SensorDep) -> Response:
    """Store up to 1,000 events in one transaction, each once. One that is refused does not hold up the others."""
    services = await services_of(request)
    async with services.bodies.read(request) as body:
        try:
            batch = reports.read_batch(body)
        except reports.NotJson as error:
            raise Problem(400, str(error), kind="invalid-json") from None
        except reports.TooManyEvents as error:
            raise Problem(413, str(error), kind="too-many-events", members={"limit": MAX_BATCH_EVENTS}) from None
        except reports.InvalidReport as error:
            raise Problem(422, str(error), kind="invalid-batch") from None
        checked = [_scoped(item, sensor) for item in batch]
        sensor_ref, now = str(sensor.claims.sensor), datetime.now(UTC)
        rows = [
            reports.as_row(item, sensor_ref=sensor_ref, received_at=now)
            for item in checked
            if isinstance(item, reports.Report)
        ]
        outcomes = iter(await _store(services.writer, rows))
    refused = len(checked) - len(rows)
    if refused:
        services.metrics.events[Status.REFUSED].inc(refused)
    return json_answer({"data": [_result(item, outcomes) for item in checked]})


def _not_allowed(trigger_type: str, sensor: SensorCaller) -> str:
    allowed = ", ".join(sorted(sensor.trigger_types)) or "none"
    return f"The token may not report {trigger_type!r}; it allows {allowed}."


def _scoped(item: reports.Report | reports.Refusal, sensor: SensorCaller) -> reports.Report | reports.Refusal:
    if isinstance(item, reports.Report) and item.trigger_type not in sensor.trigger_types:
        return reports.Refusal(id=str(item.id), reason=_not_allowed(item.trigger_type, sensor))
    return item


def _result(item: reports.Report | reports.Refusal, outcomes: Any) -> dict[str, Any]:
    if isinstance(item, reports.Refusal):
        return {"id": item.id, "status": Status.REFUSED, "reason": item.reason}
    outcome: Outcome = next(outcomes)
    if outcome.status is Status.REFUSED:
        return {"id": item.id, "status": Status.REFUSED, "reason": outcome.reason}
    return {"id": item.id, "status": outcome.status, "seq": outcome.seq}


async def _store(writer: EventWriter, rows: Sequence[Mapping[str, Any]]) -> Sequence[Outcome]:
    try:
        return await writer.store(rows)
    except Overloaded:
        raise unavailable(
            "More events are waiting to be stored than may; send this again.", kind="overloaded"
        ) from None
    except StorageUnavailable:
        raise unavailable(
            "The database did not take this; send it again.", kind="storage-unavailable", retry_after=2
        ) from None
