"""The whole system: installed by its chart in the cluster that `make cluster` gave, or run by ``attune up``."""

import shutil
import uuid
from collections.abc import Iterator

import pytest
from support.attune_up import AttuneUp, LocalApi, attune_up
from support.kubectl import Kubectl
from support.system import REPOSITORY, SYSTEM, Api, System, temporary_namespace

from attune_cluster.settings import Settings
from attune_cluster.tools import tools
from attune_demo import system as installed
from attune_demo.kube import Kube

#: Tests set short lifetimes for tokens, which the operator refuses by default.
VALUES = ("--set", "operator.tokenMinTTL=10s", "--set", "api.sensorTokens.enabled=true")


@pytest.fixture(scope="session")
def kube() -> Kubectl:
    """kubectl and helm for the cluster."""
    settings = Settings.from_environment()
    programs = tools(settings, ["kubectl", "helm"])
    return Kubectl(settings.kubeconfig, programs["kubectl"], programs["helm"])


@pytest.fixture(scope="session")
def chart(kube: Kubectl) -> None:
    """The chart installed and its pods ready."""
    installed.install(Kube.of_checkout(Settings.from_environment()), REPOSITORY, *VALUES)


@pytest.fixture(scope="session")
def pack(chart: None, kube: Kubectl) -> None:
    """The core pack's sensor applied and ready."""
    kube("apply", "-f", str(REPOSITORY / "packs" / "core"))
    kube("wait", "--for=condition=Ready", "sensor/core.timer", "-n", SYSTEM, "--timeout=180s")


@pytest.fixture(scope="session")
def api(chart: None, kube: Kubectl) -> Iterator[Api]:
    """The API with a reader's token."""
    token = installed.reader_token(Kube.of_checkout(Settings.from_environment()))
    client = Api(kube, token)
    yield client
    client.close()


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttuneUp]:
    """An ``attune up`` with the core pack, no cluster anywhere; tests apply what they need besides."""
    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(REPOSITORY / "packs" / "core", folder / "core")
    settings = {"ATTUNE_OPERATOR_TOKEN_MIN_TTL": "10s"}
    with attune_up(folder, "core", arguments=["--quiet"], environment=settings) as up:
        up.kube("wait", "--for=condition=Ready", "sensor/core.timer", "-n", SYSTEM)
        yield up


@pytest.fixture
def system(backend: str, request: pytest.FixtureRequest) -> Iterator[System]:
    """The system, the pack's sensor in it, and a namespace of the test's own."""
    if backend == "cluster":
        request.getfixturevalue("pack")
        kube, api = request.getfixturevalue("kube"), request.getfixturevalue("api")
        with temporary_namespace(kube) as namespace:
            yield System(kube, api, namespace)
        return
    up = request.getfixturevalue("local")
    client = LocalApi(up)
    namespace = f"e2e-{uuid.uuid4().hex[:8]}"
    labels = {"attune-e2e": "yes"}
    up.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    yield System(up.kube, client, namespace)
    client.close()
    up.kube.delete("namespace", namespace, "")
