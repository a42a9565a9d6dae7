"""The objects that accompany a Sensor's Deployment: ServiceAccount, Secret, ConfigMaps, NetworkPolicy,
Service, PodDisruptionBudget.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from attune_contract import environment, names
from attune_contract.resources import Sensor
from attune_operator.resources import common
from attune_operator.resources.common import Environment, sealed

CA_KEY: Final = "ca.crt"
METRICS_PORT_NAME: Final = "metrics"
#: On the Secret: the earliest ``iat`` that the API accepts for this Sensor.
NOT_BEFORE: Final = f"{names.GROUP}/not-before"


def service_account(sensor: Sensor) -> dict[str, Any] | None:
    """Build an account without rights, whose token is not mounted: most sensors need no access to Kubernetes. None for a
    Sensor that names its own account.
    """
    if sensor.spec.service_account_name is not None:
        return None
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": common.metadata(sensor),
            "automountServiceAccountToken": False,
        }
    )


def secret(sensor: Sensor, files: Mapping[str, str], *, not_before: int | None) -> dict[str, Any]:
    """Build the Secret with the credentials, one key per file.

    It has no digest: its content is judged by itself, and a digest of a secret must not be public.
    """
    metadata = common.metadata(sensor)
    if not_before is not None:
        metadata["annotations"] = {NOT_BEFORE: str(not_before)}
    data = {name: base64.b64encode(text.encode()).decode("ascii") for name, text in sorted(files.items())}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def config_files(sensor: Sensor, given: Environment) -> dict[str, str]:
    """Return the files under ``/etc/attune``; empty if there are none."""
    files = {}
    if sensor.spec.config is not None:
        files[environment.CONFIG_KEY] = json.dumps(sensor.spec.config, indent=2, sort_keys=True, ensure_ascii=False)
    if given.ca_certificates:
        files[CA_KEY] = given.ca_certificates
    return files


def config_map(sensor: Sensor, given: Environment, name: str | None = None) -> dict[str, Any] | None:
    """Build the ConfigMap with the sensor's configuration, under another ``name`` than usual if given; None if it has none."""
    files = config_files(sensor, given)
    if not files:
        return None
    metadata = common.metadata(sensor) | {"name": name or common.usual_names(sensor).config}
    return sealed({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files})


def scripts_config_map(sensor: Sensor, name: str | None = None) -> dict[str, Any] | None:
    """Build the ConfigMap with ``spec.scripts`` as files; None if there are none."""
    if not sensor.spec.scripts:
        return None
    metadata = common.metadata(sensor) | {"name": name or common.usual_names(sensor).scripts}
    return sealed({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(sensor.spec.scripts)})


def network_policy(sensor: Sensor, given: Environment) -> dict[str, Any] | None:
    """Build the NetworkPolicy: only scrapes, probes and the sensor's own ports are reachable. Egress is not restricted,
    because sensors watch the outside world.
    """
    if not given.network_policies:
        return None
    return sealed(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": common.metadata(sensor),
            "spec": {
                "podSelector": {"matchLabels": common.selector(sensor)},
                "policyTypes": ["Ingress"],
                "ingress": [
                    {
                        "ports": [
                            {"port": name, "protocol": "TCP"}
                            for name in (METRICS_PORT_NAME, *(port.name for port in sensor.spec.ports))
                        ]
                    }
                ],
            },
        }
    )


def service(sensor: Sensor, name: str | None = None) -> dict[str, Any] | None:
    """Build the Service of a sensor that listens; None for one that does not."""
    if not sensor.spec.ports:
        return None
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": common.metadata(sensor) | {"name": name or common.usual_names(sensor).service},
            "spec": {
                "type": "ClusterIP",
                "selector": common.selector(sensor),
                "ports": [
                    {
                        "name": port.name,
                        "port": port.service_port or port.port,
                        "targetPort": port.name,
                        "protocol": "TCP",
                    }
                    for port in sensor.spec.ports
                ],
            },
        }
    )


def disruption_budget(sensor: Sensor) -> dict[str, Any] | None:
    """Build the PodDisruptionBudget; None for a Sensor that wants none."""
    budget = sensor.spec.pod_disruption_budget
    if budget is None:
        return None
    return sealed(
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": common.metadata(sensor),
            "spec": {
                "maxUnavailable": budget.max_unavailable,
                "selector": {"matchLabels": common.selector(sensor)},
                # Pods that crash anyway must not keep a node from being drained.
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        }
    )
