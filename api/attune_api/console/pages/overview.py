"""The overview: Sensors and Rules, what is wrong first."""

import asyncio
from typing import Final

from fastapi.responses import Response

from attune_api.console.answers import unchanged
from attune_api.console.listing import Listing
from attune_api.console.views.overview import NAMES, Filter, shown
from attune_api.console.visit import Visit, link
from attune_api.web.problems import ProblemError
from attune_contract.names import RULES, SENSORS

_FORBIDDEN: Final = 403
#: Sensors named on the overview; there are few beside Rules.
_SENSORS: Final = 12


async def show(visit: Visit) -> Response:
    """``GET /console/``; asked for by a page that shows it already, only what may have changed."""
    namespace, query = await visit.namespace(), visit.query
    try:
        rules = await visit.listing(RULES, namespace)
    except ProblemError as problem:
        if problem.status == _FORBIDDEN and not visit.is_fragment:
            return visit.page("choose_namespace.html", status=403, why=problem.detail, namespace=namespace)
        raise
    sensors, sensors_denied = await _sensors(visit, namespace)
    lines, sensor_lines = await asyncio.gather(
        rules.read(), sensors.read() if sensors is not None else asyncio.sleep(0, ())
    )
    version = f"{rules.version}.{sensors.version if sensors is not None else 0}"
    if visit.is_fragment and query.get("seen") == version:
        return unchanged()
    wanted = Filter(
        text=query.get("q", "")[:200],
        tone=query.get("state", ""),
        kind=query.get("type", ""),
        sensor=query.get("sensor", ""),
    )
    number = int(query["page"]) if query.get("page", "").isascii() and query.get("page", "").isdigit() else 1
    found = shown(lines, wanted, number=min(number, 10**6))
    kept = {"q": wanted.text, "type": wanted.kind, "sensor": wanted.sensor, "namespace": namespace}
    return visit.page(
        "overview_live.html" if visit.is_fragment else "overview.html",
        namespace=namespace,
        wanted=wanted,
        found=found,
        names=NAMES,
        sensors=list(sensor_lines)[:_SENSORS],
        more_sensors=max(0, len(sensor_lines) - _SENSORS),
        sensors_denied=sensors_denied,
        complete=rules.complete,
        fault=rules.fault or (sensors.fault if sensors is not None else ""),
        version=version,
        tab=lambda tone: link("/", **kept, state=tone),
        turn=lambda to: link("/", **kept, state=wanted.tone, page=str(to)),
        again=link("/", **kept, state=wanted.tone, page=str(found.number), seen=version),
    )


async def _sensors(visit: Visit, namespace: str) -> tuple[Listing | None, str]:
    try:
        return await visit.listing(SENSORS, namespace), ""
    except ProblemError as problem:
        if problem.status != _FORBIDDEN:
            raise
        return None, problem.detail
