"""``/health``, ``/ready`` and ``/metrics``: what kubelet and Prometheus call."""

import asyncio
from typing import Final, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from attune_api.dependencies import ServicesDep
from attune_api.identity.keys import KeysUnavailableError
from attune_api.services import Services
from attune_api.storage.faults import explain
from attune_api.web.answers import json_answer
from attune_api.web.schemas import Schema

router = APIRouter(tags=["operations"])


class HealthSchema(Schema):
    """Whether the program works."""

    status: Literal["ok", "failing"]
    problems: dict[str, str] = Field(default_factory=dict)
    """What does not, and why."""


#: Seconds in which the database must answer for the API to be ready.
_DATABASE_TIMEOUT: Final = 2.0


@router.get(
    "/health",
    operation_id="getHealth",
    summary="Is the program alive",
    response_class=Response,
    responses={200: {"model": HealthSchema}, 503: {"model": HealthSchema, "description": "Restart it"}},
)
async def health(services: ServicesDep) -> Response:
    """Fails when a background task has died, or SQLite's file was replaced, which only a restart mends.

    A database that is away is no reason.
    """
    problems = dict(services.supervisor.dead)
    if fault := services.database.fault():
        problems["database"] = fault
    return _answer(problems)


@router.get(
    "/ready",
    operation_id="getReadiness",
    summary="Can it take events",
    response_class=Response,
    responses={200: {"model": HealthSchema}, 503: {"model": HealthSchema, "description": "Not now"}},
)
async def ready(services: ServicesDep) -> Response:
    """Fails while nothing can be stored or read, or there is no key to verify tokens with."""
    problems = dict(services.supervisor.dead)
    if fault := services.database.fault() or await services.writable.look() or await _read_fault(services):
        problems["database"] = fault
    try:
        services.keys.current(at_once=True)
    except KeysUnavailableError as error:
        problems["keys"] = str(error)
    return _answer(problems)


async def _read_fault(services: Services) -> str | None:
    try:
        async with asyncio.timeout(_DATABASE_TIMEOUT):
            await services.database.read(lambda connection: connection.execute(text("SELECT 1")))
    except TimeoutError:
        return f"no answer within {_DATABASE_TIMEOUT:.0f} s"
    except (SQLAlchemyError, OSError) as error:
        return explain(error)
    return None


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": "attune_api_nats_connected 1.0\n"}},
        }
    },
)
async def metrics(services: ServicesDep) -> Response:
    """All metrics, as text."""
    return Response(services.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _answer(problems: dict[str, str]) -> Response:
    content = {"status": "failing" if problems else "ok", "problems": problems}
    return json_answer(content, status=503 if problems else 200, headers={"Cache-Control": "no-store"})
