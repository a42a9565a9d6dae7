"""The smaller objects of a Sensor: ServiceAccount, Secret, ConfigMap, NetworkPolicy, Service."""

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
#: On the Secret: from which ``iat`` on the API accepts this Sensor's tokens.
NOT_BEFORE: Final = f"{names.GROUP}/not-before"


def service_account(sensor: Sensor) -> dict[str, Any] | None:
    """An account without rights, whose token is not mounted either: a sensor has no business with Kubernetes. None for one that
    has, and names an account of its author's.
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
    """The credentials, one key a file.

    It carries no digest of itself: what is in it is judged by what it says, and a digest of a secret is no public matter.
    """
    metadata = common.metadata(sensor)
    if not_before is not None:
        metadata["annotations"] = {NOT_BEFORE: str(not_before)}
    data = {name: base64.b64encode(text.encode()).decode("ascii") for name, text in sorted(files.items())}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def config_files(sensor: Sensor, surroundings: Environment) -> dict[str, str]:
    """The files under ``/etc/attune``, empty when there are none."""
    files = {}
    if sensor.spec.config is not None:
        files[environment.CONFIG_KEY] = json.dumps(sensor.spec.config, indent=2, sort_keys=True, ensure_ascii=False)
    if surroundings.ca_certificates:
        files[CA_KEY] = surroundings.ca_certificates
    return files


def config_map(sensor: Sensor, surroundings: Environment) -> dict[str, Any] | None:
    """The sensor's configuration as a file; None when it has none."""
    files = config_files(sensor, surroundings)
    if not files:
        return None
    return sealed({"apiVersion": "v1", "kind": "ConfigMap", "metadata": common.metadata(sensor), "data": files})


def scripts_config_map(sensor: Sensor) -> dict[str, Any] | None:
    """``spec.scripts`` as files; None when there are none."""
    if not sensor.spec.scripts:
        return None
    metadata = {**common.metadata(sensor), "name": names.scripts_object_name(sensor.metadata.name)}
    return sealed({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(sensor.spec.scripts)})


def network_policy(sensor: Sensor, surroundings: Environment) -> dict[str, Any] | None:
    """Nothing gets in but scrapes and probes, and what goes to the ports on which the sensor listens. What goes out is not
    restricted: sensors watch the world outside.
    """
    if not surroundings.network_policies:
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


def service(sensor: Sensor) -> dict[str, Any] | None:
    """The Service under which a sensor that listens is reached; None for one that does not."""
    if not sensor.spec.ports:
        return None
    return sealed(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": common.metadata(sensor) | {"name": names.sensor_service_name(sensor.metadata.name)},
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
