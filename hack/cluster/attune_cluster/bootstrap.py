"""The objects a new local cluster starts with."""

from __future__ import annotations

from .api import Object
from .storage import storage_class


def objects() -> list[Object]:
    """CoreDNS's right to read what it answers from, and the default StorageClass."""
    rbac = "rbac.authorization.k8s.io"
    name = {"name": "system:coredns"}
    reads = ["list", "watch"]
    role = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRole",
        "metadata": name,
        "rules": [
            {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": reads},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": reads},
        ],
    }
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": name,
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:coredns"},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": "system:coredns"}],
    }
    return [role, binding, storage_class()]
