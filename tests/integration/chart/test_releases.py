"""Releases of the chart on a real API server: to PostgreSQL and back, two of one name, missing namespaces, what is left."""

import uuid
from collections.abc import Iterator

import pytest
from support.helm_chart import CHART, Manifest, helm, sets, template

from attune_cluster.apiserver import ApiServer
from attune_contract import names
from attune_operator.credentials import keystore, nats_auth

pytest_plugins = ["support.operator_fixtures"]
pytestmark = pytest.mark.apiserver

#: The definitions are there already, and the policy on Rules concerns other tests' Rules.
QUIET = ("crds.install=false", "actions.checkServiceAccounts=false")


class Cluster:
    """Releases named ``attune``, in namespaces of this test's own."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.installed: list[str] = []

    def helm(self, *arguments: str, namespace: str, check: bool = True) -> str:
        done = helm(*(*arguments, "--kubeconfig", str(self._server.kubeconfig), "--namespace", namespace), check=check)
        return done.stdout if check else done.stderr

    def install(self, *values: str, check: bool = True) -> tuple[str, str]:
        """Install in a new namespace; returns that, and what helm says."""
        namespace = f"release-{uuid.uuid4().hex[:8]}"
        options = ["--create-namespace", *sets(*QUIET, *values)]
        said = self.helm("install", "attune", str(CHART), *options, namespace=namespace, check=check)
        if check:
            self.installed.append(namespace)
        return namespace, said

    def get(self, path: str) -> Manifest:
        found: Manifest = self._server.api().request("GET", path)
        return found


@pytest.fixture
def cluster(kubernetes: ApiServer) -> Iterator[Cluster]:
    here = Cluster(kubernetes)
    yield here
    for namespace in here.installed:
        here.helm("uninstall", "attune", "--wait=false", namespace=namespace, check=False)


def test_from_sqlite_to_postgresql_and_back(cluster: Cluster) -> None:
    namespace, _ = cluster.install()
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/attune-api"

    def upgrade(*values: str) -> Manifest:
        cluster.helm("upgrade", "attune", str(CHART), *sets(*QUIET, *values), namespace=namespace)
        strategy: Manifest = cluster.get(path)["spec"]["strategy"]
        return strategy

    several = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    assert upgrade("api.database.existingSecret=db", "api.replicas=2") == several
    assert upgrade() == {"type": "Recreate"}
    cluster.helm("rollback", "attune", "2", namespace=namespace)
    assert cluster.get(path)["spec"]["strategy"] == several
    cluster.helm("rollback", "attune", "1", namespace=namespace)
    assert cluster.get(path)["spec"]["strategy"] == {"type": "Recreate"}


def test_two_releases_of_one_name_live_in_two_namespaces(cluster: Cluster) -> None:
    first, _ = cluster.install("actions.checkServiceAccounts=true")
    second, _ = cluster.install("actions.checkServiceAccounts=true")
    policies = cluster.get("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies")["items"]
    found = {policy["metadata"]["name"] for policy in policies}
    assert {f"{first}-attune-rule-service-accounts", f"{second}-attune-rule-service-accounts"} <= found
    roles = {f"{first}-attune-view", f"{second}-attune-view"}
    view = "/apis/rbac.authorization.k8s.io/v1/clusterroles/"
    for role in roles:
        assert cluster.get(view + role)["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"


def test_what_belongs_to_no_namespace_is_named_after_the_releases_own() -> None:
    certificate = ("tls.enabled=true", "tls.certManager.enabled=true", "tls.certManager.issuerRef.name=ca")

    def unbound(namespace: str) -> set[tuple[str, str]]:
        manifests = template("crds.install=false", "api.sensorTokens.enabled=true", *certificate, namespace=namespace)
        return {(m["kind"], m["metadata"]["name"]) for m in manifests if "namespace" not in m["metadata"]}

    assert unbound("one")
    assert not unbound("one") & unbound("two")


@pytest.mark.parametrize("value", ["watchNamespaces", "sensorNamespaces"])
def test_a_namespace_that_is_missing_is_named_before_anything_is_installed(cluster: Cluster, value: str) -> None:
    namespace, said = cluster.install(f"{value}={{default,nope}}", check=False)
    assert f"{value}: there is no namespace nope. Create it first" in said
    assert "default" not in said.partition("there is no namespace")[2]
    assert namespace not in {n["metadata"]["name"] for n in cluster.get("/api/v1/namespaces")["items"]}


def test_the_notes_name_everything_that_an_uninstall_leaves_behind(cluster: Cluster) -> None:
    namespace, said = cluster.install()
    written = {
        *("attune-tls", "attune-tls-authority"),
        *(keystore.KEYS_SECRET, keystore.JWKS_CONFIG_MAP, names.INSTALLATION_MARK),
        *(nats_auth.AUTH_SECRET, nats_auth.CONFIG_SECRET, nats_auth.API_SECRET, nats_auth.ACTIONS_SECRET),
    }
    kept = said.partition("keeps, because")[2]
    assert all(name in kept for name in {*written, "attune-api-data", "data-attune-nats-0"}), said
    cluster.helm("uninstall", "attune", "--wait=false", namespace=namespace)
    claims = cluster.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")["items"]
    assert "attune-api-data" in {claim["metadata"]["name"] for claim in claims}
