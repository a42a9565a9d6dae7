"""Kinds of objects and where an API server serves them. Plain values, without a client."""

from dataclasses import dataclass
from typing import Any, Final

from attune_contract import names

#: A Kubernetes object as decoded JSON.
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object and where the API serves it. ``group`` is empty for the core API."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The value of an object's ``apiVersion``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path under the API server's root."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part is not None]
        return "/".join(parts)


SENSOR: Final = Kind("Sensor", names.SENSORS, names.GROUP, names.VERSION)
RULE: Final = Kind("Rule", names.RULES, names.GROUP, names.VERSION)
NAMESPACE: Final = Kind("Namespace", "namespaces", namespaced=False)
DEPLOYMENT: Final = Kind("Deployment", "deployments", "apps")
SECRET: Final = Kind("Secret", "secrets")
CONFIG_MAP: Final = Kind("ConfigMap", "configmaps")
SERVICE_ACCOUNT: Final = Kind("ServiceAccount", "serviceaccounts")
NETWORK_POLICY: Final = Kind("NetworkPolicy", "networkpolicies", "networking.k8s.io")
SERVICE: Final = Kind("Service", "services")
POD_DISRUPTION_BUDGET: Final = Kind("PodDisruptionBudget", "poddisruptionbudgets", "policy")
POD: Final = Kind("Pod", "pods")
EVENT: Final = Kind("Event", "events")

#: Other kinds that are watched, in addition to Sensors, Rules and namespaces: only objects with the operator's label.
WATCHED: Final = (DEPLOYMENT, SECRET, CONFIG_MAP, SERVICE_ACCOUNT, NETWORK_POLICY, SERVICE, POD_DISRUPTION_BUDGET, POD)
