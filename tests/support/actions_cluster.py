"""A real kube-apiserver for the runner of actions: what a namespace's owner does there, and the runner's own credentials."""

import json
from pathlib import Path
from typing import Any, Final

import yaml
from support.actions_stage import NAMESPACE
from support.eventually import eventually

from attune_cluster.api import Api, ApiError
from attune_cluster.apiserver import ApiServer
from attune_contract import names

_RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
_CRDS: Final = Path(__file__).parents[2] / "deploy" / "crds"


class Cluster:
    """What a namespace's owner does."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.api: Api = server.api()

    def make(self, path: str, body: dict[str, Any]) -> Any:
        return self.api.request("POST", path, body)

    def get(self, path: str) -> Any:
        return self.api.request("GET", path)

    def account(self, namespace: str, name: str) -> None:
        self.make(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})

    def role(self, name: str, rules: list[dict[str, Any]], subject: tuple[str, str]) -> None:
        base = f"{_RBAC}/namespaces/{NAMESPACE}"
        self.make(f"{base}/roles", {"metadata": {"name": name}, "rules": rules})
        self.make(
            f"{base}/rolebindings",
            {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "namespace": subject[0], "name": subject[1]}],
            },
        )

    def rules_served(self) -> None:
        """Define Rules, and wait until the API server knows them."""
        definition = yaml.safe_load((_CRDS / "rules.yaml").read_text())
        self.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        self.served(f"/apis/{names.API_VERSION}/rules")

    def served(self, path: str) -> None:
        """Wait until the API server serves a kind."""

        def answers() -> bool:
            try:
                self.get(path)
            except ApiError:
                return False
            return True

        eventually(answers, within=60, what=f"{path} is served")

    def runners_kubeconfig(self, directory: Path) -> Path:
        """Make a token of the runner's account; return a kubeconfig with it."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        answer = self.make("/api/v1/namespaces/attune-system/serviceaccounts/attune-actions/token", body)
        kubeconfig = directory / "kubeconfig.json"
        where = {"server": self.server.server, "certificate-authority": str(self.server.authority)}
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": where}],
                    "users": [{"name": "u", "user": {"token": answer["status"]["token"]}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        return kubeconfig

    def grant(self, *accounts: str) -> None:
        """Let the runner act as these."""
        rule = {
            "apiGroups": [""],
            "resources": ["serviceaccounts/token"],
            "resourceNames": list(accounts),
            "verbs": ["create"],
        }
        self.role("attune-actions", [rule], ("attune-system", "attune-actions"))
