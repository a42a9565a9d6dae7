"""A thousand ConfigMaps change while the Kubernetes sensor is killed three times. Figures: docs/soak.md."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kubernetes_storm import KILLS, go_through, judge
from support.nats_server import NatsServer

from attune_cluster.apiserver import ApiServer
from attune_operator.resources.kinds import NAMESPACE
from attune_operator.runtime import kube_client
from attune_operator.runtime.kube_client import KubeClient


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server of this module's own."""
    with ApiServer(tmp_path_factory.mktemp("kubernetes")) as server:
        yield server


@pytest.mark.parametrize("lose_state", [False, True], ids=["killed", "killed, and its volume lost"])
async def test_a_thousand_config_maps(
    kubernetes: ApiServer,
    nats_server: NatsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lose_state: bool,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubernetes.kubeconfig))
    client = KubeClient(kube_client.load_access())
    namespace = f"soak-{'lost' if lose_state else 'kept'}"
    await client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    try:
        versions, stored = await go_through(
            tmp_path,
            server=kubernetes,
            client=client,
            nats=nats_server,
            namespace=namespace,
            number=1000,
            lose_state=lose_state,
        )
    finally:
        await client.close()
    print(f"\n{len(versions)} ConfigMaps, {KILLS} kills, {len(stored)} events stored")
    judge(versions, stored, every_change=not lose_state)
