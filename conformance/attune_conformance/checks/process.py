"""What a sensor is as a process (protocol, "Health", "Shutdown")."""

import asyncio
import time
from typing import Final

from aiohttp import web

from attune_conformance.api import Request, always
from attune_conformance.check import Level, check
from attune_conformance.errors import CheckFailedError
from attune_conformance.testbed import Testbed

#: Seconds within which a process has got a signal.
_SIGNALLED: Final = 2.0


@check("health", "serves /live and /ready, and is ready once it has read its rules")
async def health(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.answers("/live", 200, why="the process is alive")
    await testbed.answers("/ready", 200, why="it has read its rules and has valid credentials")
    await testbed.fires(rule)


@check("metrics", "serves Prometheus metrics at /metrics", level=Level.SHOULD)
async def metrics(testbed: Testbed) -> None:
    await testbed.start()
    body = await testbed.answers("/metrics", 200, why="its operator wants to see it")
    if not any(line and not line.startswith("#") for line in body.splitlines()):
        raise CheckFailedError("/metrics shows no metric.")


async def _to_whom_still_listens(request: Request) -> web.StreamResponse | None:
    """Take what is sent only if its sender waits for the answer: what was sent before the signal came is not delivered by it."""
    await asyncio.sleep(_SIGNALLED)
    transport = request.http.transport
    return web.Response(status=503) if transport is None or transport.is_closing() else None


@check("sigterm-flush", "delivers what it holds on SIGTERM, and ends with status 0 within its grace period")
async def sigterm_flush(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    testbed.api.script = always(503)
    await testbed.passes(1.0 + 2 * testbed.profile.every)
    waiting = set(testbed.api.arrivals) - {event.report.id for event in testbed.api.stored}
    if not waiting:
        raise CheckFailedError("Nothing was sent while the API answered 503, although the rule is active.")
    testbed.api.script = _to_whom_still_listens
    began = time.monotonic()
    testbed.sensor.terminate()
    status = await testbed.sensor.wait(within=testbed.profile.grace + 5)
    if status is None:
        raise CheckFailedError(f"The sensor still ran {time.monotonic() - began:.0f} s after SIGTERM.")
    if status != 0:
        raise CheckFailedError(
            f"The sensor ended with status {status} after SIGTERM. Its last words: {testbed.sensor.last_per_subject_stream()}"
        )
    lost = waiting - {event.report.id for event in testbed.api.stored}
    if lost:
        raise CheckFailedError(f"{len(lost)} of {len(waiting)} events that waited at SIGTERM were not delivered.")


@check("sigterm-api-away", "ends within its grace period even if nothing can be delivered")
async def sigterm_api_away(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    await testbed.api.stop()
    await testbed.passes(1.0 + testbed.profile.every)
    testbed.sensor.terminate()
    if await testbed.sensor.wait(within=testbed.profile.grace + 5) is None:
        raise CheckFailedError(
            f"The sensor still ran {testbed.profile.grace + 5:g} s after SIGTERM; kubelet would kill it."
        )


@check("sigterm-idle", "ends on SIGTERM within seconds when it holds nothing")
async def sigterm_idle(testbed: Testbed) -> None:
    await testbed.start()
    await testbed.answers("/live", 200, why="the process is alive")
    testbed.sensor.terminate()
    status = await testbed.sensor.wait(within=testbed.profile.grace + 5)
    if status != 0:
        seen = "still ran" if status is None else f"ended with status {status}"
        raise CheckFailedError(f"The sensor {seen} after SIGTERM.")
