"""Fixtures: a real kube-apiserver with controllers and our definitions, a namespace to work in, an operator."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from support.definitions import definitions_served
from support.kubectl_user import KubectlUser, running, settings_for
from support.nats_server import NatsServer

from attune_cluster.apiserver import ApiServer
from attune_operator.app import Operator
from attune_operator.resources import kinds
from attune_operator.runtime import kube_client
from attune_operator.runtime.kube_client import KubeClient

#: Pods of these namespaces must be what the restricted Pod Security level allows.
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with the controllers and our resource definitions."""
    with ApiServer(tmp_path_factory.mktemp("kubernetes"), controllers=True) as server:
        definitions_served(server.api())
        yield server


@pytest.fixture
async def user(kubernetes: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubectlUser]:
    """Somebody at work in a namespace of this test's own, where the restricted Pod Security level is enforced."""
    monkeypatch.setenv("KUBECONFIG", str(kubernetes.kubeconfig))
    client = KubeClient(kube_client.load_access())
    namespace = f"test-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": RESTRICTED}}
    await client.create(kinds.NAMESPACE, body)
    yield KubectlUser(client, namespace)
    await client.close()


@pytest.fixture
async def operator(user: KubectlUser, nats_server: NatsServer) -> AsyncIterator[Operator]:
    """A running operator."""
    async with running(settings_for(user, nats_server)) as started:
        yield started
