"""100,000 Rules and 100 Sensors: how soon all are projected, what a change takes meanwhile, what the operator needs at rest, and
what its restart costs. It needs no cluster.

A real kube-apiserver, a real NATS server, and the operator as a process of its own.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import many_rules
from support.eventually import until
from support.nats_client import connect
from support.nats_server import NatsServer
from support.operator_process import OperatorProcess, operator_process
from support.process_figures import cpu_seconds, resident_mib
from support.process_memory import peak_mib, reset_peak

from attune_cluster.apiserver import ApiServer
from attune_contract import subjects
from attune_operator.runtime.kube_client import KubeClient

RULES = int(os.environ.get("SOAK_MANY_RULES", "100000"))
SENSORS = 100
#: Seconds that nobody touches it before it is measured: what its last work left behind, like garbage, is part of no rest.
_SETTLES = 20.0
IDLE = float(os.environ.get("SOAK_MANY_RULES_IDLE", "180"))
#: Between two changes of one Rule each, seconds.
PAUSE = 0.1
CHANGES = 300


class Numbers:
    """The operator's metrics as they were read once."""

    def __init__(self, exposition: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(exposition) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all samples of this name that have these labels."""
        wanted = labels.items()
        return sum(each.value for each in self._samples if each.name == name and wanted <= each.labels.items())

    @property
    def writes(self) -> dict[str, float]:
        """What was written of Rules, to NATS and to Kubernetes."""
        names = ("attune_rule_messages_total", "attune_actions_messages_total", "attune_rule_status_writes_total")
        return {name: self.total(name) for name in names if self.total(name)}


async def numbers(operator: OperatorProcess) -> Numbers:
    """Read the metrics.

    Raises:
        LookupError: they cannot be read now.
    """
    try:
        async with asyncio.timeout(30):
            return Numbers((await operator.page(operator.metrics, "/metrics"))[1])
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise LookupError(str(error)) from error


async def settled(operator: OperatorProcess, rules: int) -> Numbers:
    """The metrics, once so many Rules are active and no status waits.

    Raises:
        LookupError: not yet.
    """
    found = await numbers(operator)
    active, waiting = found.total("attune_rules", reason="Active"), found.total("attune_rule_status_waiting")
    if active < rules or waiting or not found.total("attune_rule_stream_connected"):
        raise LookupError(f"{active:.0f} Rules are active, {waiting:.0f} statuses wait")
    return found


def say(**figures: Any) -> None:
    print(json.dumps(figures), flush=True)


@contextlib.asynccontextmanager
async def running(task: Any) -> AsyncIterator[None]:
    """The coroutine runs during the block."""
    started = asyncio.create_task(task)
    try:
        yield
    finally:
        started.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await started


async def at_rest(pid: int) -> dict[str, float]:
    """Share of a core and memory while nothing changes."""
    await asyncio.sleep(_SETTLES)
    reset_peak(pid)
    spent, since = cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(IDLE)
    share = (cpu_seconds(pid) - spent) / (time.monotonic() - since)
    return {"cpu_percent": round(share * 100, 2), "mib": round(resident_mib(pid), 1), "mib_peak": peak_mib(pid)}


async def project_again(
    operator: OperatorProcess, client: KubeClient, sensors: many_rules.Sensors, url: str
) -> dict[str, Any]:
    """The rule stream is deleted under the running operator: how long until every Rule is there again."""
    nats = await connect(url)
    changes = many_rules.Changes(client, sensors, url, count=SENSORS, rules=RULES)
    reset_peak(operator.process.pid)
    spent = cpu_seconds(operator.process.pid)
    await nats.jetstream(timeout=30).delete_stream(subjects.RULES_STREAM)
    sensors.rules.clear()
    began = time.monotonic()
    await nats.close()

    async def projected() -> bool:
        return len(sensors.rules) >= RULES

    # Until the operator has made the stream again, nothing can be written to it.
    await until(lambda: bool(sensors.rules), within=120)
    waited = time.monotonic() - began
    async with running(changes.run(pause=PAUSE)):
        await until(projected, within=600, every=0.1)
        seconds = time.monotonic() - began
        # What follows, statuses and history, counts as well for those who change Rules meanwhile.
        await until(lambda: len(changes.seconds) >= CHANGES, within=600)
    return {
        "seconds": round(seconds, 1),
        "until_the_first": round(waited, 1),
        "cpu_seconds": round(cpu_seconds(operator.process.pid) - spent, 1),
        "mib_peak": peak_mib(operator.process.pid),
        "change_ms": changes.figures(),
    }


async def make(
    client: KubeClient, server: ApiServer, sensors: many_rules.Sensors, directory: Path, **settings: str
) -> None:
    """100,000 Rules whose statuses say that they are active, and nothing on NATS."""
    await many_rules.make_first(client, sensors=SENSORS)
    async with operator_process(server.kubeconfig, directory, **settings) as operator:

        async def pods() -> bool:
            await many_rules.run_pods(client, sensors=SENSORS)
            return True

        await until(pods, within=300, every=1)
        await until(lambda: settled(operator, SENSORS), within=600, every=1)
        assert await operator.end() == 0
    await many_rules.multiply(server, sensors=SENSORS, rules=RULES)
    # One that starts again reads etcd at once, while its caches follow so many changes for minutes.
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    await until(lambda: many_rules.serves(client, RULES), within=600, every=1)
    nats = await connect(settings["NATS_URL"])
    for stream in await nats.jetstream(timeout=30).streams_info():
        await nats.jetstream(timeout=30).delete_stream(stream.config.name)
    await nats.close()
    sensors.rules.clear()


@pytest.mark.timeout(3600)
async def test_a_hundred_thousand_rules(nats_server: NatsServer, tmp_path: Path) -> None:
    found: dict[str, Any] = {"rules": RULES, "load_average_before": round(os.getloadavg()[0], 1)}
    settings = {"NATS_URL": nats_server.url, "NAMESPACE": "default"}
    sensors = many_rules.Sensors(nats_server.url)
    async with many_rules.kubernetes(tmp_path / "kubernetes") as (server, client), running(sensors.run()):
        began = time.monotonic()
        await make(client, server, sensors, tmp_path, **settings)
        say(made=RULES, seconds=round(time.monotonic() - began, 1))

        async def projected() -> bool:
            return len(sensors.rules) >= RULES

        began = time.monotonic()
        async with operator_process(server.kubeconfig, tmp_path, **settings) as operator:
            pid = operator.process.pid
            await until(projected, within=1200, every=0.1)
            found["first_start"] = {
                "seconds": round(time.monotonic() - began, 1),
                "cpu_seconds": round(cpu_seconds(pid), 1),
                "mib_peak": peak_mib(pid),
            }
            await until(lambda: settled(operator, RULES), within=1200, every=1)
            found["first_start"]["until_settled"] = round(time.monotonic() - began, 1)
            say(**found)
            found["at_rest"] = await at_rest(pid)
            say(**found)
            found["projected_again"] = await project_again(operator, client, sensors, nats_server.url)
            say(**found)
            await until(lambda: settled(operator, RULES), within=1200, every=1)
            assert await operator.end() == 0

        began = time.monotonic()
        async with operator_process(server.kubeconfig, tmp_path, **settings) as operator:
            pid = operator.process.pid
            await until(lambda: settled(operator, RULES), within=600, every=0.25)
            found["restart"] = {
                "seconds": round(time.monotonic() - began, 1),
                "cpu_seconds": round(cpu_seconds(pid), 1),
                "mib_peak": peak_mib(pid),
            }
            await asyncio.sleep(30)
            found["restart"]["writes"] = (await numbers(operator)).writes
            say(**found)
            found["at_rest_after_restart"] = await at_rest(pid)
            assert (await numbers(operator)).total("attune_rule_errors_total") == 0
            assert await operator.end() == 0
    found["load_average_after"] = round(os.getloadavg()[0], 1)
    print(json.dumps(found, indent=1))
    assert found["projected_again"]["seconds"] <= 30
    assert found["projected_again"]["change_ms"]["p99"] <= 250
    assert found["at_rest"]["mib"] <= 450
    assert found["at_rest"]["cpu_percent"] <= 3
    assert found["restart"]["seconds"] <= 40
    assert found["restart"]["writes"] == {}
