"""``GET /api/v1/sensor/last-events``: what a sensor may ask about its own events."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import AfterValidator, Field

from attune_api.dependencies import SENSOR_ONLY, SensorDep, ServicesDep
from attune_api.events.last.sql import MAX_RULES, LastEvent, last_events
from attune_api.web.answers import json_answer
from attune_api.web.documents import answer
from attune_api.web.problems import documented

router = APIRouter(prefix="/api/v1/sensor", tags=["events"])


class LastEventsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to which events are stored last. Rules without an event of this sensor are absent."""

    data: list[LastEvent]


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


_Uid = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_storable)]


@router.get(
    "/last-events",
    operation_id="getLastEvents",
    summary="Which events of my rules are stored last",
    response_class=Response,
    responses={200: answer(LastEventsAnswer, "The newest event of each rule"), **documented(401, 422, 503)},
    openapi_extra=SENSOR_ONLY,
)
async def last(
    services: ServicesDep,
    sensor: SensorDep,
    rule_uid: Annotated[
        list[_Uid], Query(min_length=1, max_length=MAX_RULES, description="Repeat it, once for each rule.")
    ],
) -> Response:
    """Of each rule, the event that was stored last, if this sensor reported it. A sensor that catches up begins there."""
    sensor_ref = str(sensor.claims.sensor)
    found = await services.database.read(
        lambda connection: last_events(connection, sensor_ref=sensor_ref, rule_uids=rule_uid)
    )
    return json_answer(LastEventsAnswer(data=found))
