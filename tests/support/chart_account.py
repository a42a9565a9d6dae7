"""The operator's account with the rights that the chart gives it, in a real API server."""

import asyncio
from pathlib import Path

import yaml
from support.helm_chart import CHART, helm, sets
from support.kubectl_user import KubectlUser

from attune_cluster.apiserver import ApiServer
from attune_operator.resources import kinds
from attune_operator.resources.kinds import Kind

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
    arguments = ["template", "attune", str(CHART), "--namespace", home, *sets(*values)]
    for template in ("operator", "operator-rbac"):
        arguments += ["--show-only", f"templates/{template}.yaml"]
    rendered = await asyncio.to_thread(helm, *arguments)
    for manifest in yaml.safe_load_all(rendered.stdout):
        if manifest and (kind := _KINDS.get(manifest["kind"])) is not None:
            await user.client.create(kind, manifest)
    return await account_kubeconfig(kubernetes, user, directory, namespace=home)


async def account_kubeconfig(kubernetes: ApiServer, user: KubectlUser, directory: Path, *, namespace: str) -> Path:
    """A kubeconfig with a new token of the operator's account in ``namespace``, as a file in ``directory``."""
    path = kinds.SERVICE_ACCOUNT.path(namespace, "attune-operator", "token")
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = (await user.client.call("POST", path, body=asked))["status"]["token"]
    config = yaml.safe_load(kubernetes.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file = directory / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file
