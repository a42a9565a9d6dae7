"""What a Sensor's conditions say where the operator may not do what the Sensor needs. Pure."""

import re
from collections.abc import Collection
from typing import Final

from attune_operator.runtime.client import ClusterError
from attune_operator.runtime.conditions import Verdict

#: The reason of conditions for both: Sensors may not run in the namespace, or a right is missing there.
MISSING_RIGHTS: Final = "MissingRights"
_FORBIDDEN: Final = 403
#: How the API server says that a right is missing. Quotas and admission answer 403, too, and in other words.
_DENIED: Final = re.compile(r'cannot (?P<verb>\w+) resource "(?P<resource>[\w./-]+)"')


def outside(namespace: str, sensor_namespaces: Collection[str]) -> Verdict | None:
    """Return the condition of a Sensor in a namespace where no Sensors may run; None if they may.

    Args:
        namespace: the Sensor's.
        sensor_namespaces: the namespaces where Sensors may run; empty means all.
    """
    if not sensor_namespaces or namespace in sensor_namespaces:
        return None
    message = (
        f"This installation runs no Sensors in namespace {namespace}, and its operator has no rights to Secrets and Deployments "
        f"there. Add {namespace} to the chart value sensorNamespaces, or create the Sensor in one of: "
        f"{', '.join(sorted(sensor_namespaces))}. The operator changes nothing here, and removes nothing that ran before."
    )
    return Verdict(status="False", reason=MISSING_RIGHTS, message=message, warn=True)


def missing(error: Exception, namespace: str) -> Verdict | None:
    """Return the condition of a Sensor for which the operator lacks a right; None if ``error`` says something else."""
    if not isinstance(error, ClusterError) or error.status != _FORBIDDEN:
        return None
    if (denied := _DENIED.search(str(error))) is None:
        return None
    message = (
        f"The operator may not {denied['verb']} {denied['resource']} in namespace {namespace}; it retries. Give it the rights "
        "that docs/rbac.md lists: upgrade the chart, or create the Role and RoleBinding there again, if they were removed. "
        f"Kubernetes said: {error}"
    )
    return Verdict(status="False", reason=MISSING_RIGHTS, message=message, warn=True)
