"""What a sensor is as a process (protocol, "Health", "Shutdown")."""

import time

from attune_conformance.api import always
from attune_conformance.check import Failed, Level, check
from attune_conformance.world import World


@check("health", "serves /live and /ready, and is ready once it has read its rules")
async def health(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.answers("/live", 200, why="the process is alive")
    await world.answers("/ready", 200, why="it has read its rules and has valid credentials")
    await world.fires(rule)


@check("metrics", "serves Prometheus metrics at /metrics", level=Level.SHOULD)
async def metrics(world: World) -> None:
    await world.start()
    body = await world.answers("/metrics", 200, why="its operator wants to see it")
    if not any(line and not line.startswith("#") for line in body.splitlines()):
        raise Failed("/metrics shows no metric.")


@check("sigterm-flush", "delivers what it holds on SIGTERM, and ends with status 0 within its grace period")
async def sigterm_flush(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    world.api.script = always(503)
    await world.passes(1.0 + 2 * world.profile.every)
    waiting = set(world.api.arrivals) - {event.report.id for event in world.api.stored}
    if not waiting:
        raise Failed("Nothing was sent while the API answered 503, although the rule is active.")
    world.api.script = None
    began = time.monotonic()
    world.sensor.terminate()
    status = await world.sensor.wait(within=world.profile.grace + 5)
    if status is None:
        raise Failed(f"The sensor still ran {time.monotonic() - began:.0f} s after SIGTERM.")
    if status != 0:
        raise Failed(
            f"The sensor ended with status {status} after SIGTERM. Its last words: {world.sensor.last_words()}"
        )
    lost = waiting - {event.report.id for event in world.api.stored}
    if lost:
        raise Failed(f"{len(lost)} of {len(waiting)} events that waited at SIGTERM were not delivered.")


@check("sigterm-api-away", "ends within its grace period even if nothing can be delivered")
async def sigterm_api_away(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    await world.api.stop()
    await world.passes(1.0 + world.profile.every)
    world.sensor.terminate()
    if await world.sensor.wait(within=world.profile.grace + 5) is None:
        raise Failed(f"The sensor still ran {world.profile.grace + 5:g} s after SIGTERM; kubelet would kill it.")


@check("sigterm-idle", "ends on SIGTERM within seconds when it holds nothing")
async def sigterm_idle(world: World) -> None:
    await world.start()
    await world.answers("/live", 200, why="the process is alive")
    world.sensor.terminate()
    status = await world.sensor.wait(within=world.profile.grace + 5)
    if status != 0:
        seen = "still ran" if status is None else f"ended with status {status}"
        raise Failed(f"The sensor {seen} after SIGTERM.")
