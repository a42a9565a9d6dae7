"""The console's routes. They are no part of the API's public description: they answer a browser, and change as pages do."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from attune_api.console.answers import asset, redirect
from attune_api.console.pages import events, new_rule, overview, rule, runs, sensor, sign_in
from attune_api.console.visit import console_of, fault_page, reading, root_of, writing
from attune_api.web.problems import ProblemError

_RULE = "/console/rules/{namespace}/{name}"
_SENSOR = "/console/sensors/{namespace}/{name}"
_NEW_RULE = f"{_SENSOR}/types/{{type}}/new-rule"


async def _start(request: Request) -> Response:
    console_of(request.app.state.services)
    return redirect("/", root=root_of(request))


async def _asset(request: Request) -> Response:
    console_of(request.app.state.services)
    found = asset(request.path_params["name"])
    if found is None:
        raise ProblemError(404, "The console has no such file.")
    return found


async def _nothing(request: Request) -> Response:
    console_of(request.app.state.services)
    return fault_page(request, ProblemError(404, "The console has no such page."))


def install(app: FastAPI) -> None:
    """Give ``app`` the console's routes. A new page is a module in ``pages``, and a line here."""

    def get(path: str, route: object) -> None:
        app.add_route(path, route, methods=["GET"], include_in_schema=False)  # type: ignore[arg-type]

    def post(path: str, route: object) -> None:
        app.add_route(path, route, methods=["POST"], include_in_schema=False)  # type: ignore[arg-type]

    get("/console", _start)
    get("/console/assets/{name}", _asset)
    get("/console/sign-in", sign_in.show)
    post("/console/sign-in", sign_in.enter)
    post("/console/codes", sign_in.give_code)
    post("/console/sign-out", writing(sign_in.leave))

    get("/console/", reading(overview.show))
    get(_RULE, reading(rule.show))
    get(f"{_RULE}/tail", reading(rule.tail))
    get(f"{_RULE}/chart", reading(rule.chart))
    get(f"{_RULE}/history", reading(rule.history))
    post(f"{_RULE}/enabled", writing(rule.switch))
    post(f"{_RULE}/test", writing(rule.attempt))
    get(_SENSOR, reading(sensor.show))
    get(_NEW_RULE, reading(new_rule.show))
    post(_NEW_RULE, writing(new_rule.write))
    get("/console/events", reading(events.search))
    get("/console/events/{event_id}", reading(events.show))
    get("/console/runs", reading(runs.search))
    post("/console/runs/retry", writing(runs.retry))
    get("/console/runs/{run_id}", reading(runs.show))

    get("/console/{path:path}", _nothing)
