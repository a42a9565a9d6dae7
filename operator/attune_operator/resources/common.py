"""What all objects of a Sensor have in common: name, labels and owner."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from attune_contract import __version__, names
from attune_contract.resources import Sensor

#: Digest of what the operator applied, on each object: distinguishes a changed Sensor from an edited object.
APPLIED: Final = f"{names.GROUP}/applied"
#: Digest of the config file, on the pods: a changed file rolls them.
CONFIG_DIGEST: Final = f"{names.GROUP}/config-digest"
#: Digest of the scripts, on the pods: a changed one rolls them.
SCRIPTS_DIGEST: Final = f"{names.GROUP}/scripts-digest"
#: When the credentials were issued, on the pods: with onRotate Restart a change rolls them.
CREDENTIALS_ISSUED: Final = f"{names.GROUP}/credentials-issued-at"

#: Of every container (Pod Security Standards, "Restricted").
SECURITY_CONTEXT: Final[dict[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What every sensor is given in addition to its own spec."""

    nats_url: str
    api_url: str
    log_level: str = "INFO"
    log_format: str = "json"
    nats_credentials: bool = False  #: the Secret has ``nats.creds`` and the token
    network_policies: bool = True
    stdio_image: str = f"attune/sensor-stdio:{__version__}"  #: the image with the supervisor of ``runner: Stdio``
    image_registry: str = ""  #: where our own images come from, those of the packs too; empty: as they are written
    default_registry: str = ""  #: for other images that name no registry; empty: the container runtime's
    pull_secrets: tuple[str, ...] = ()  #: in addition to a Sensor's own, by name, in its namespace
    http_proxy: str = ""  #: URL for sensors' outgoing requests; empty: none
    https_proxy: str = ""  #: the same for https
    no_proxy: tuple[str, ...] = ()  #: hosts that are reached directly, in addition to the cluster's
    otlp_endpoint: str = ""  #: URL of a collector to which sensors export spans; empty: they export none
    otlp_headers_secret: str = ""  #: Secret with the headers for it, in the Sensor's namespace
    traces_sampler: str = ""  #: ``OTEL_TRACES_SAMPLER``
    traces_sampler_arg: str = ""  #: ``OTEL_TRACES_SAMPLER_ARG``
    ca_certificates: str | None = None  #: PEM, to check the API's and NATS's certificates against


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectNames:
    """The names of those objects whose usual names two Sensors may share."""

    config: str
    scripts: str
    service: str


def usual_names(sensor: Sensor) -> ObjectNames:
    """Return the names that a Sensor's objects have unless another Sensor has them."""
    name = sensor.metadata.name
    return ObjectNames(
        config=names.sensor_object_name(name),
        scripts=names.scripts_object_name(name),
        service=names.sensor_service_name(name),
    )


def digest(value: Any) -> str:
    """Return a short digest of a JSON value; equal values have equal digests."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def selector(sensor: Sensor) -> dict[str, str]:
    """Return the labels that select a Sensor's pods. They never change: a Deployment's selector is immutable."""
    return {names.SENSOR_LABEL: sensor.metadata.name}


def labels(sensor: Sensor) -> dict[str, str]:
    """Return the labels of a Sensor's objects."""
    return {
        **selector(sensor),
        names.MANAGED_BY_LABEL: names.MANAGED_BY,
        "app.kubernetes.io/name": "attune-sensor",
        "app.kubernetes.io/instance": sensor.metadata.name,
        "app.kubernetes.io/part-of": "attune",
    }


def owner(sensor: Sensor) -> dict[str, Any]:
    """Return the Sensor as controlling owner: Kubernetes deletes its objects after it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "Sensor",
        "name": sensor.metadata.name,
        "uid": sensor.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def metadata(sensor: Sensor) -> dict[str, Any]:
    """Return the metadata of a Sensor's objects, without annotations."""
    return {
        "name": names.sensor_object_name(sensor.metadata.name),
        "namespace": sensor.metadata.namespace,
        "labels": labels(sensor),
        "ownerReferences": [owner(sensor)],
    }


def sealed(body: dict[str, Any]) -> dict[str, Any]:
    """Return the object with its own digest among its annotations."""
    annotated = {**(body["metadata"].get("annotations") or {})}
    annotated[APPLIED] = digest(body)
    return {**body, "metadata": {**body["metadata"], "annotations": annotated}}
