"""Half an hour of changes with 10,000 Rules and 100 Sensors: the operator's memory does not grow. It needs no cluster.

A real kube-apiserver, a real NATS server, and the operator as a process of its own. Afterwards, when nothing changes any more,
what it costs to have that many Rules at rest.
"""

import asyncio
import json
import os
import statistics
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from support.eventually import until
from support.nats_server import NatsServer
from support.operator_process import operator_process
from support.process_figures import cpu_seconds, resident_mib
from support.rule_load import RuleLoad

from attune_cluster.apiserver import ApiServer
from attune_operator.resources import kinds
from attune_operator.runtime import kube_client
from attune_operator.runtime.kube_client import KubeClient

CRDS = Path(__file__).parents[2] / "deploy" / "crds"
MINUTES = float(os.environ.get("SOAK_MEMORY_MINUTES", "30"))
RULES = int(os.environ.get("SOAK_MEMORY_RULES", "10000"))
SENSORS = 100
RATE = float(os.environ.get("SOAK_MEMORY_RATE", "50"))
#: Minutes before memory is compared: until then every Rule was handled some times, and caches and pools have their size.
WARM = MINUTES / 3
#: What may be added in the last five minutes, of what there was. A list of 10,000 Rules comes and goes each minute, and where
#: its pieces lie differs.
GROWTH = 0.01
IDLE = 120.0


@pytest.fixture
async def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeClient]:
    with ApiServer(tmp_path / "kubernetes") as server:
        for file in sorted(CRDS.glob("*.yaml")):
            definition = yaml.safe_load(file.read_text())
            server.api().request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
        client = KubeClient(kube_client.load_access())

        async def served() -> bool:
            return await client.serves(kinds.RULE) and await client.serves(kinds.SENSOR)

        await until(served, within=30)
        yield client
        await client.close()


@pytest.mark.timeout(MINUTES * 60 + 1200)
async def test_memory_does_not_grow_while_rules_change(
    client: KubeClient, nats_server: NatsServer, tmp_path: Path
) -> None:
    load = RuleLoad(client, nats_server.url, sensors=SENSORS, rules=RULES)
    await load.prepare()
    answering = asyncio.create_task(load.answer_forever())
    settings = {"NATS_URL": nats_server.url, "NAMESPACE": "default"}
    async with operator_process(Path(os.environ["KUBECONFIG"]), tmp_path, **settings) as operator:
        pid = operator.process.pid
        await until(load.settled, within=600, every=2)

        async def pods() -> bool:
            await load.run_pods()
            return True

        await until(pods, within=120, every=1)
        # The tombstone of a Rule that moved is known for an hour, as long as it stays on the stream: that cache is full now.
        await load.move_all(within=600)
        samples: list[tuple[float, float]] = []
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def sample() -> None:
            while True:
                samples.append(((loop.time() - began) / 60, resident_mib(pid)))
                print(f"{samples[-1][0]:6.1f} min {samples[-1][1]:7.1f} MiB, {load.done.total()} changes", flush=True)
                await asyncio.sleep(10)

        sampling = asyncio.create_task(sample())
        await load.change_for(MINUTES * 60, rate=RATE)
        sampling.cancel()
        rules = await until(load.settled, within=600, every=2)
        await asyncio.sleep(10)
        spent, since = cpu_seconds(pid), loop.time()
        await asyncio.sleep(IDLE)
        idle = (cpu_seconds(pid) - spent) / (loop.time() - since)
        _, exposition = await operator.page(operator.metrics, "/metrics")
        assert await operator.end() == 0
    answering.cancel()
    with suppress(asyncio.CancelledError):
        await answering

    early = [mib for minute, mib in samples if WARM <= minute < WARM + MINUTES / 6]
    late = [mib for minute, mib in samples if minute >= MINUTES * 5 / 6]
    found = {
        "minutes": MINUTES,
        "rules": len(rules),
        "changes": dict(load.done),
        "changes_a_second": round(load.done.total() / MINUTES / 60, 1),
        "acks": load.acks,
        "mib_after_the_start": round(samples[0][1], 1),
        "mib_early": round(statistics.median(early), 1),
        "mib_late": round(statistics.median(late), 1),
        "mib_peak": round(max(mib for _, mib in samples), 1),
        "idle_cpu_percent": round(idle * 100, 2),
    }
    print(json.dumps(found, indent=1))
    marked = [rule["metadata"]["name"] for rule in rules if {"annotations", "finalizers"} & rule["metadata"].keys()]
    assert marked == [], "Rules carry nothing of the operator's"
    assert len(rules) == RULES
    assert "attune_rule_errors_total 0.0" in exposition
    assert statistics.median(late) <= statistics.median(early) * (1 + GROWTH)
    assert idle < 0.02
