"""Errors as problem details (RFC 9457): every error, wherever it is raised."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, cast

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from attune_api.storage.database import QUERY_TIMEOUT, QueryTooSlowError
from attune_api.storage.faults import is_outage

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


class ProblemDocument(BaseModel):
    """ProblemError details (RFC 9457)."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    type: str = Field(default="about:blank", examples=["urn:attune:problem:trigger-type-not-allowed"])
    """Which problem this is, for programs: ``about:blank`` or ``urn:attune:problem:<name>``."""
    title: str = Field(examples=["Forbidden"])
    """The problem in a few words."""
    status: int = Field(examples=[403])
    """The HTTP status."""
    detail: str = Field(
        default="", examples=["The token may not report 'core.crontimer'; it allows core.intervaltimer."]
    )
    """What is wrong with this request, where, and what to do."""


class ProblemError(Exception):
    """A request that cannot be answered as asked.

    Args:
        status: HTTP status.
        detail: what is wrong, where, and what to do, for people. Never a secret.
        kind: the problem's name for programs; it becomes ``type``.
        headers: further headers of the answer.
        members: further members of the document (RFC 9457 §3.2).
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.headers = dict(headers or {})
        self.members = dict(members or {})


def unavailable(detail: str, *, kind: str, retry_after: int = 1) -> ProblemError:
    """A problem of ours that goes away: 503 with ``Retry-After`` in seconds (RFC 9110 §10.2.3)."""
    return ProblemError(503, detail, kind=kind, headers={"Retry-After": str(retry_after)})


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def document(problem: ProblemError) -> dict[str, Any]:
    """The document that says what ``problem`` is."""
    return {
        "type": f"urn:attune:problem:{problem.kind}" if problem.kind else "about:blank",
        "title": _title(problem.status),
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }


def response(problem: ProblemError) -> Response:
    """The answer that carries ``problem``."""
    return Response(
        msgspec.json.encode(document(problem)),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def _on_problem(request: Request, error: Exception) -> Response:
    return response(cast("ProblemError", error))


def _on_http_exception(request: Request, error: Exception) -> Response:
    # What Starlette and FastAPI raise themselves: unknown paths, wrong methods.
    exception = cast("HTTPException", error)
    detail = str(exception.detail)
    if exception.status_code == 404 and detail == "Not Found":
        detail = f"There is nothing at {request.url.path}; /docs lists what there is."
    elif exception.status_code == 405:
        allowed = (exception.headers or {}).get("Allow") or (exception.headers or {}).get("allow") or "another method"
        detail = f"{request.url.path} takes {allowed}, not {request.method}."
    return response(ProblemError(exception.status_code, detail, headers=exception.headers))


def _on_invalid_request(request: Request, error: Exception) -> Response:
    errors = [
        {
            "where": ".".join(str(part) for part in item["loc"]),
            "what": item["msg"].removeprefix("Value error, "),
        }  # pydantic's words before ours
        for item in cast("RequestValidationError", error).errors()
    ]
    detail = "; ".join(f"{item['where']}: {item['what']}" for item in errors)
    return response(ProblemError(422, detail, kind="invalid-request", members={"errors": errors}))


def _on_database_error(request: Request, error: Exception) -> Response:
    if not is_outage(error):
        return _on_error(request, error)
    log.error("database_unavailable", path=request.url.path, error=type(error).__name__)
    return response(unavailable("The database does not answer; try again.", kind="storage-unavailable", retry_after=2))


def _on_slow_query(request: Request, error: Exception) -> Response:
    log.warning("query_too_slow", path=request.url.path, query=request.url.query[:500])
    detail = (
        f"The database did not find this within {QUERY_TIMEOUT:.0f} s; "
        "ask for a shorter time, for one rule, or for one namespace."
    )
    return response(unavailable(detail, kind="query-too-slow", retry_after=10))


def _on_error(request: Request, error: Exception) -> Response:
    log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    return response(
        ProblemError(500, "The API failed to answer this request; its log says why.", kind="internal-error")
    )


_OUTAGES: Final = (SQLAlchemyError, OSError, TimeoutError)


def answer(request: Request, error: Exception) -> Response:
    """The answer to a request that failed outside of FastAPI."""
    if isinstance(error, ProblemError):
        return _on_problem(request, error)
    return _on_database_error(request, error) if isinstance(error, _OUTAGES) else _on_error(request, error)


def install(app: FastAPI) -> None:
    """Make ``app`` answer every error as problem details."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(QueryTooSlowError, _on_slow_query)
    for outage in _OUTAGES:
        app.add_exception_handler(outage, _on_database_error)
    app.add_exception_handler(Exception, _on_error)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route that answers these statuses with problem details."""
    return {
        status: {
            "description": _title(status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in statuses
    }
