"""A filter that is meant to be slow, on an object of 900 KB, and the events of another rule. Figures: docs/soak.md.

``SOAK_FILTER_SECONDS=10`` makes it short.
"""

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.eventually import until

from attune_cluster.apiserver import ApiServer
from attune_kubernetes.handler import KubernetesHandler
from attune_operator.resources.kinds import CONFIG_MAP, NAMESPACE
from attune_operator.runtime import kube_client
from attune_operator.runtime.kube_client import KubeClient
from attune_sensor import AckState
from attune_sensor._api_client import Outcome
from attune_sensor.testing import FakeApi, SensorHarness

SECONDS = float(os.environ.get("SOAK_FILTER_SECONDS", "60"))
NAME = "slow-filter"
#: Looks for each of 9,000 words in a text of 800 KB: seconds of work, within the runtime's own limit of steps.
SLOW = "has(object.data.words) && object.data.words.split(' ').exists(w, object.data.text.contains(w + '!'))"
#: Together 900 KB.
WORDS, TEXT = " ".join(f"word-{number}" for number in range(9000)), "w " * 400_000


class TimedApi(FakeApi):
    """Notes of each event how long the sensor had it, by the rule and the changed object's version."""

    def __init__(self) -> None:
        super().__init__()
        self.delays: dict[tuple[str, str], float] = {}

    async def post(self, events: Sequence[bytes]) -> Outcome:
        known = len(self.events)
        outcome = await super().post(events)
        for event in self.events[known:]:
            heard = datetime.fromisoformat(event.payload["observedAt"])
            self.delays[event.rule_uid, event.payload["resourceVersion"]] = (datetime.now(UTC) - heard).total_seconds()
        return outcome


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path / "kubernetes") as server:
        yield server


@pytest.fixture
async def client(kubernetes: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeClient]:
    monkeypatch.setenv("KUBECONFIG", str(kubernetes.kubeconfig))
    made = KubeClient(kube_client.load_access())
    await made.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}})
    yield made
    await made.close()


async def change(client: KubeClient, name: str, **data: str) -> str:
    """Write a ConfigMap; returns its version."""
    metadata = {"name": name, "namespace": NAME}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    written = await client.apply(CONFIG_MAP, body)
    version: str = written["metadata"]["resourceVersion"]
    return version


async def changes_of_large(client: KubeClient, enough: asyncio.Event) -> None:
    """Change the large object again and again."""
    number = 0
    while not enough.is_set():
        number += 1
        await change(client, "large", words=WORDS, text=TEXT, n=str(number))
        await asyncio.sleep(0.5)


async def delays(client: KubeClient, api: TimedApi, uid: str, *, seconds: float) -> list[float]:
    """Change a small object for so long; returns how long the sensor had each change until its event was stored, sorted."""
    versions: list[str] = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        versions.append(await change(client, "small", n=str(len(versions))))
        await asyncio.sleep(0.05)
    await until(lambda: all((uid, version) in api.delays for version in versions), within=60)
    return sorted(api.delays[uid, version] for version in versions)


def told(name: str, found: list[float]) -> str:
    p99 = found[int(len(found) * 0.99)]
    return (
        f"{name}: {len(found)} events, p50 {statistics.median(found) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, "
        f"max {found[-1] * 1000:.1f} ms"
    )


async def test_events_of_another_rule_are_not_held_up(client: KubeClient, tmp_path: Path) -> None:
    """Both rules watch all ConfigMaps of the namespace, so that they share the watch and the processes that evaluate. The large
    object changes all the time, without the slow rule too: reading it is not the filter's doing.
    """
    api = TimedApi()
    harness = SensorHarness(
        KubernetesHandler,
        trigger_types=["core.kubernetes"],
        config={"otherNamespaces": True},
        settings={"spool_dir": tmp_path},
        api=api,
    )
    watched = {"apiVersion": "v1", "kind": "ConfigMap", "namespaces": [NAME]}
    async with harness:
        quick = harness.apply("core.kubernetes", {**watched, "filter": "object.metadata.name == 'small'"}, name="quick")
        await harness.wait_for(quick, AckState.ACTIVE, within=30)
        first = await change(client, "small", n="first")  # the processes start, and the expression is compiled
        await until(lambda: (quick.uid, first) in api.delays, within=30)
        enough = asyncio.Event()
        task = asyncio.create_task(changes_of_large(client, enough))
        try:
            without = await delays(client, api, quick.uid, seconds=SECONDS)
            slow = harness.apply("core.kubernetes", {**watched, "filter": SLOW}, name="slow")
            await harness.wait_for(slow, AckState.ACTIVE, within=30)
            beside = await delays(client, api, quick.uid, seconds=SECONDS)
        finally:
            enough.set()
            await task
        message = harness.message(slow)
    print(f"\n{told('no slow rule', without)}\n{told('beside a slow rule', beside)}\nthe slow rule says: {message}")
    assert "takes longer than 500 ms" in message or "it is too slow" in message, "the filter was evaluated"
    assert beside[int(len(beside) * 0.99)] <= 0.1
