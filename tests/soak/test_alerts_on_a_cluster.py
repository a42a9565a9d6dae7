"""A real Prometheus scrapes the cluster's pods by the chart's PodMonitors, while a Rule fails, a token cannot be renewed, and
NATS is away so that stored events wait in the outbox.

The alerts are the chart's, without their `for`: they fire as soon as their condition holds.
"""

import asyncio
import base64
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from support.eventually import eventually, until
from support.helm_chart import template
from support.pod_monitors import scrape_configs, targets
from support.prometheus import Prometheus, prometheus
from support.system import SYSTEM, System

from attune_kit.supervisor import end

WANTED = {"AttuneRuleFailing", "AttuneTokensNotRenewed", "AttuneOutboxBehind"}
#: Rules that fire ten times a second, so that a thousand events wait soon.
BUSY = 10
INTERVAL = "1s"


async def firing(server: Prometheus, alert: str, *, within: float = 240) -> float:
    """Seconds until an alert fires."""
    began = time.monotonic()

    async def fires() -> bool:
        return alert in await server.firing()

    await until(fires, within=within, what=f"{alert} fires")
    return round(time.monotonic() - began, 1)


async def over(server: Prometheus, alert: str) -> float:
    """Seconds until an alert no longer fires."""
    began = time.monotonic()

    async def ended() -> bool:
        return alert not in await server.firing()

    await until(ended, within=240, what=f"{alert} ends")
    return round(time.monotonic() - began, 1)


@contextlib.asynccontextmanager
async def followed(system: System, file: Path) -> AsyncIterator[None]:
    """Keep a file of the cluster's pods up to date."""

    def write() -> None:
        found = json.loads(system.kube("get", "pods", "-A", "-o", "json"))["items"]
        new = file.with_suffix(".new")
        new.write_text(json.dumps(targets(found)))
        new.replace(file)

    async def follow() -> None:
        while True:
            await asyncio.to_thread(write)
            await asyncio.sleep(2)

    await asyncio.to_thread(write)
    following = asyncio.create_task(follow())
    try:
        yield
    finally:
        await end(following)


def nats(system: System, replicas: int) -> None:
    """Run so many NATS servers."""
    system.kube("scale", "statefulset/attune-nats", "-n", SYSTEM, f"--replicas={replicas}")


async def test_alerts_fire_where_something_is_wrong(system: System, tmp_path: Path) -> None:
    monitors = [each for each in template("monitoring.podMonitor.enabled=true") if each["kind"] == "PodMonitor"]
    file = tmp_path / "pods.json"
    authority = tmp_path / "ca.crt"
    authority.write_bytes(base64.b64decode(system.kube.get("secret", "attune-tls", SYSTEM)["data"]["ca.crt"]))
    configs = scrape_configs(monitors, file=file, interval=INTERVAL, authority=authority)
    figures: dict[str, object] = {}
    system.sensor("own")
    busy = [system.rule(f"busy-{k}", parameters={"interval": 100, "unit": "milliseconds"}) for k in range(BUSY)]
    for rule in busy:
        rule.wait_condition("Active", "True", within=60)
    async with prometheus(tmp_path, {}, more=configs) as server, followed(system, file):

        async def all_scraped() -> bool:
            jobs = await server.jobs()
            return len(jobs) == len(configs) and await server.scraped()

        await until(all_scraped, within=60, what="each PodMonitor has pods, and all are scraped")
        figures["pods scraped"] = await server.value("count(up == 1)")
        figures["alerts before"] = sorted(await server.firing())
        assert not WANTED & await server.firing()

        # Requests cannot be checked without the Secret, and are answered with 503.
        auth = {"type": "github", "secrets": ["missing/key"]}
        broken = system.rule("fails", trigger="core.webhook", parameters={"path": "/fails", "auth": auth})
        broken.wait_condition("Active", "False", reason="Failing", within=120)
        figures["rule fails: fires after"] = await firing(server, "AttuneRuleFailing")
        broken.delete()
        figures["rule deleted: ends after"] = await over(server, "AttuneRuleFailing")

        # Somebody else's Secret has the name of the Sensor's: the operator does not replace it, so that no token gets into it.
        secret = {"metadata": {"name": "sensor-taken", "namespace": system.namespace}, "stringData": {"key": "value"}}
        system.kube.apply({"apiVersion": "v1", "kind": "Secret", **secret})
        system.sensor("taken", wait=False)
        figures["token not written: fires after"] = await firing(server, "AttuneTokensNotRenewed")

        nats(system, 0)
        try:
            figures["NATS away: outbox lags, fires after"] = await firing(server, "AttuneOutboxBehind")
            figures["events behind"] = await server.value(
                "max(attune_api_events_newest_seq) - max(attune_api_outbox_position)"
            )
        finally:
            nats(system, 1)
        eventually(lambda: busy[0].events(), within=120, what="the API answers")
        figures["NATS back: ends after"] = await over(server, "AttuneOutboxBehind")
        figures["alerts at the end"] = sorted(await server.firing())
    figures["load average"] = [round(each, 1) for each in os.getloadavg()]
    print(json.dumps(figures, indent=1))
