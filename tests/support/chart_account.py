"""The operator's account with the rights that the chart gives it, in a real API server."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import yaml
from support.kubectl_user import KubectlUser

from attune_cluster.apiserver import ApiServer
from attune_cluster.settings import Settings
from attune_cluster.tools import tools
from attune_operator.resources import kinds
from attune_operator.resources.kinds import Kind

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "attune"
_RBAC = "rbac.authorization.k8s.io"
ROLE_BINDING = Kind("RoleBinding", "rolebindings", _RBAC)
_KINDS = {
    kind.kind: kind
    for kind in (
        ROLE_BINDING,
        kinds.SERVICE_ACCOUNT,
        Kind("Role", "roles", _RBAC),
        Kind("ClusterRole", "clusterroles", _RBAC, namespaced=False),
        Kind("ClusterRoleBinding", "clusterrolebindings", _RBAC, namespaced=False),
    )
}


async def install_operators_account(
    kubernetes: ApiServer, user: KubectlUser, directory: Path, *values: str, home: str
) -> Path:
    """Create what the chart has of the operator's account in the namespace ``home``; returns a kubeconfig of it."""
    helm = tools(Settings.from_environment(), ["helm"])["helm"]
    command: list[Any] = [helm, "template", "attune", CHART, "--namespace", home]
    for template in ("operator", "operator-rbac"):
        command += ["--show-only", f"templates/{template}.yaml"]
    for value in values:
        command += ["--set", value]
    rendered = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
    for manifest in yaml.safe_load_all(rendered.stdout):
        if manifest and (kind := _KINDS.get(manifest["kind"])) is not None:
            await user.client.create(kind, manifest)
    path = kinds.SERVICE_ACCOUNT.path(home, "attune-operator", "token")
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = (await user.client.call("POST", path, body=asked))["status"]["token"]
    config = yaml.safe_load(kubernetes.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file = directory / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file
