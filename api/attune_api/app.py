"""Puts the app together."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import Receive, Scope, Send

from attune_api import operations
from attune_api.console import routes as console
from attune_api.dependencies import SECURITY_SCHEMES
from attune_api.events.derived import routes as derived
from attune_api.events.ingest import routes as ingest
from attune_api.events.ingest.routes import FAST_PATH
from attune_api.events.last import routes as last_events
from attune_api.events.query import routes as query
from attune_api.events.stream import routes as stream
from attune_api.identity import routes as identity
from attune_api.identity.minting import TokenRequest
from attune_api.rules import routes as rules
from attune_api.runs import retry as run_retry
from attune_api.runs import routes as runs
from attune_api.runs import stream as run_stream
from attune_api.runs import trying
from attune_api.services import Services
from attune_api.web import docs, documents, problems
from attune_api.web.middleware import RequestMiddleware, answer_fast_path
from attune_contract import __version__


class _App(FastAPI):
    """FastAPI, which the busiest calls go past."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request (ASGI)."""
        if scope["type"] == "http" and scope["method"] == "HEAD" and not scope["path"].endswith("/stream"):
            # The head of what GET answers (RFC 9110 §9.3.2); the server, which knows the method, sends no body. An event
            # stream has no end that could be waited for.
            scope = {**scope, "method": "GET"}
        answer = FAST_PATH.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if answer is None:
            await super().__call__(scope, receive, send)
            return
        services: Services = self.state.services
        await answer_fast_path(
            lambda: answer(services, scope, receive), metrics=services.metrics, scope=scope, receive=receive, send=send
        )


def create_app() -> FastAPI:
    """The ASGI app. What it works with (:func:`attune_api.services.running`) must be its ``state.services`` when it serves."""
    app = _App(
        title="Attune",
        version=__version__,
        summary="Events from sensors, each kept once.",
        description="Errors are problem details (RFC 9457).",
        docs_url=None,  # web.docs
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    problems.install(app)
    app.add_middleware(RequestMiddleware)
    for module in (
        ingest,
        stream,
        query,
        last_events,
        derived,
        rules,
        run_stream,
        run_retry,
        runs,
        trying,
        identity,
        operations,
    ):
        app.include_router(module.router)

    docs.install(app)
    console.install(app)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _openapi(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _without_null(parameter: dict[str, Any]) -> None:
    """A parameter that is not given is absent: there is no null in a URL, and generators would make one of it."""
    schema = parameter["schema"]
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema.update(kinds[0])


def _openapi(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    document["info"]["license"] = {"name": "Apache 2.0", "identifier": "Apache-2.0"}
    document["servers"] = [{"url": "/", "description": "This API"}]
    components = document.setdefault("components", {})
    components["securitySchemes"] = SECURITY_SCHEMES
    schemas = components.setdefault("schemas", {})
    # Bodies that the routes read themselves, and problem details, which FastAPI does not see.
    for model in (problems.ProblemDocument, TokenRequest):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    schemas.update(documents.components())
    # FastAPI documents its own error format for 422; ours are problem details everywhere.
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        operation.setdefault("security", [])  # none is asked for, which must be said
        operation["responses"].update({"431": problems.documented(431)[431]})  # middleware
        if "401" in operation["responses"]:
            operation["responses"].setdefault("400", problems.documented(400)[400])  # two Authorization headers
        for parameter in operation.get("parameters", ()):
            _without_null(parameter)
        invalid = operation["responses"].get("422")
        if invalid is not None and "application/json" in invalid["content"]:
            operation["responses"]["422"] = problems.documented(422)[422]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return document
