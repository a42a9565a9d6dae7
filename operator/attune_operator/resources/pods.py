"""What a Sensor's own options, and the installation's defaults, add to its pods: metadata, volumes, placement, images, proxies.

Additions only: where a name is the operator's, the operator's value stays. (Admission refuses such names; this holds for a
CustomResourceDefinition that is older than the operator, too.)
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from attune_contract.resources import Sensor
from attune_contract.resources.common import Model
from attune_operator.resources import common
from attune_operator.resources.common import Environment

_OWN_IMAGES: Final = "attune/"
#: What is reached without the proxy: the pod itself, the cluster's Services, and its API server (the kubelet fills that in).
_DIRECT: Final = ("localhost", "127.0.0.1", "::1", ".svc", ".cluster.local", "$(KUBERNETES_SERVICE_HOST)")


def labels(sensor: Sensor) -> dict[str, str]:
    """Return the labels of the pods; the operator's win."""
    own = sensor.spec.pod_metadata
    return {**(own.labels if own else {}), **common.labels(sensor)}


def annotations(sensor: Sensor, *, defaults: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations of the pods: the author's replace the defaults, and ours replace the author's."""
    own = sensor.spec.pod_metadata
    return {**defaults, **(own.annotations if own else {}), **ours}


def _plain(model: Model) -> dict[str, Any]:
    """As Kubernetes keeps it: what is false or empty by default is not written (else it would always differ)."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def volumes(sensor: Sensor) -> list[dict[str, Any]]:
    """Return the author's volumes."""
    found = [_plain(volume) for volume in sensor.spec.volumes]
    for volume in found:
        if (empty := volume.get("emptyDir")) is not None and not empty.get("medium"):
            empty.pop("medium", None)
        if (claim := volume.get("persistentVolumeClaim")) is not None and not claim.get("readOnly"):
            claim.pop("readOnly", None)
    return found


def mounts(sensor: Sensor) -> list[dict[str, Any]]:
    """Return where the author's volumes are in the container."""
    found = [_plain(mount) for mount in sensor.spec.volume_mounts]
    return [{key: value for key, value in mount.items() if value is not False} for mount in found]


def options(sensor: Sensor, given: Environment) -> dict[str, Any]:
    """Return the fields of the pod's spec that are as in a pod; what is not set is not there."""
    spec = sensor.spec
    counted = {"labelSelector": {"matchLabels": common.selector(sensor)}}
    found = {
        "nodeSelector": spec.node_selector or None,
        "tolerations": spec.tolerations or None,
        "affinity": spec.affinity or None,
        "priorityClassName": spec.priority_class_name,
        "imagePullSecrets": pull_secrets(sensor, given) or None,
        "topologySpreadConstraints": [counted | _plain(one) for one in spec.topology_spread_constraints] or None,
        "runtimeClassName": spec.runtime_class_name,
        "dnsPolicy": spec.dns_policy,
        "dnsConfig": _plain(spec.dns_config) if spec.dns_config is not None else None,
        "hostAliases": [_plain(alias) for alias in spec.host_aliases] or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def pull_secrets(sensor: Sensor, given: Environment) -> list[dict[str, Any]]:
    """Return the author's pull secrets, and then the installation's."""
    own = list(sensor.spec.image_pull_secrets)
    named = {secret.get("name") for secret in own}
    return own + [{"name": name} for name in given.pull_secrets if name not in named]


def image(sensor: Sensor, given: Environment) -> str:
    """Return the image, from the installation's registry where the Sensor's has none.

    Our own images (``attune/…``, as in the packs) come from where the installation's do, others from the default registry.
    """
    wanted = sensor.spec.image
    if wanted is None:
        return given.stdio_image
    host, slash, _ = wanted.partition("/")
    if slash and (host == "localhost" or "." in host or ":" in host):
        return wanted
    registry = given.image_registry if wanted.startswith(_OWN_IMAGES) else given.default_registry
    return f"{registry}/{wanted}" if registry else wanted


def proxy_variables(sensor: Sensor, given: Environment) -> dict[str, str]:
    """Return the variables for the installation's proxies, in both spellings that programs read.

    A variable that the author sets is left alone, in both spellings.
    """
    if not (given.http_proxy or given.https_proxy):
        return {}
    hosts = [urlsplit(url).hostname for url in (given.api_url, *given.nats_url.split(","))]
    direct = dict.fromkeys([*_DIRECT, *(host for host in hosts if host), *given.no_proxy])
    values = {"http_proxy": given.http_proxy, "https_proxy": given.https_proxy, "no_proxy": ",".join(direct)}
    theirs = {variable.name.lower() for variable in sensor.spec.env}
    return {
        spelt: value for name, value in values.items() if value and name not in theirs for spelt in (name.upper(), name)
    }
