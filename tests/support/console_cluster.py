"""The console before a real kube-apiserver that is alone: there are accounts, rights and Rules, and nothing that acts on them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.api_process import ApiProcess
from support.definitions import definitions_served

from attune_cluster.apiserver import ApiServer
from attune_contract.names import API_VERSION

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
RULES = f"/apis/{API_VERSION}/namespaces/{{}}/rules"


class Kubernetes:
    """What an administrator does."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.request = server.api().request

    def account(self, name: str, *, verbs: list[str], within: str | None) -> None:
        """A ServiceAccount team-a/<name> with rights for Rules in a namespace, or in all."""
        self.request("POST", "/api/v1/namespaces/team-a/serviceaccounts", {"metadata": {"name": name}})
        kind, base = ("ClusterRole", _RBAC) if within is None else ("Role", f"{_RBAC}/namespaces/{within}")
        rules = [{"apiGroups": ["attune.dev"], "resources": ["rules", "sensors"], "verbs": verbs}]
        self.request("POST", f"{base}/{kind.lower()}s", {"metadata": {"name": name}, "rules": rules})
        self.bind(name, kind=kind, subject=("team-a", name), base=base)

    def bind(self, role: str, *, kind: str, subject: tuple[str, str], base: str = _RBAC) -> None:
        body = {
            "metadata": {"name": f"{role.replace(':', '-')}-{subject[1]}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"kind": "ServiceAccount", "namespace": subject[0], "name": subject[1]}],
        }
        self.request("POST", f"{base}/{'clusterrolebindings' if base == _RBAC else 'rolebindings'}", body)

    def token(self, name: str, *, namespace: str = "team-a") -> str:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        return str(self.request("POST", path, body)["status"]["token"])

    def rule(self, namespace: str, name: str, *, trigger: str = "core.intervaltimer") -> dict[str, Any]:
        """A Rule of a trigger type."""
        body = {
            "apiVersion": API_VERSION,
            "kind": "Rule",
            "metadata": {"name": name},
            "spec": {"trigger": {"type": trigger, "parameters": {"interval": 5}}},
        }
        made: dict[str, Any] = self.request("POST", RULES.format(namespace), body)
        return made


@contextmanager
def kubernetes(directory: Path) -> Iterator[Kubernetes]:
    """A kube-apiserver with the definitions, the namespaces team-a and team-b, and the API's account."""
    with ApiServer(directory) as server:
        definitions_served(server.api())
        made = Kubernetes(server)
        for namespace in ("attune-system", "team-a", "team-b"):
            made.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        made.request("POST", "/api/v1/namespaces/attune-system/serviceaccounts", {"metadata": {"name": "attune-api"}})
        made.bind("system:auth-delegator", kind="ClusterRole", subject=("attune-system", "attune-api"))
        yield made


@contextmanager
def console(directory: Path, cluster: Kubernetes, **settings: str) -> Iterator[ApiProcess]:
    """An API with the console, which checks callers there."""
    directory.mkdir(exist_ok=True)
    token_file = directory / "service-account-token"
    token_file.write_text(cluster.token("attune-api", namespace="attune-system"))
    with ApiProcess(
        directory,
        kubernetes_auth="on",
        kubernetes_url=cluster.server.server,
        kubernetes_token_file=str(token_file),
        kubernetes_ca_file=str(cluster.server.authority),
        console="true",
        **settings,
    ) as process:
        yield process
