"""The Deployment that runs a Sensor's pods, under the restricted Pod Security profile (design, "The Sensor resource")."""

from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final

from attune_contract import environment, subjects
from attune_contract.resources import Sensor
from attune_operator.resources import common, small, stdio
from attune_operator.resources.common import Environment, sealed

CONTAINER: Final = "sensor"
#: Group of the mounted files, so that whatever user the image names can read them.
_GROUP: Final = 65532
_SPOOL_LIMIT: Final = "1Gi"
_TMP_LIMIT: Final = "64Mi"
#: Seconds a sensor has to deliver what it holds when nobody says otherwise.
_GRACE: Final = 30
#: Seconds of it that are left for the end of the process itself, before kubelet kills it.
_RESERVE: Final = 5
#: Room for an idle sensor. No limits: what a sensor may use is its author's to say, and the namespace's to bound.
_REQUESTS: Final = {"requests": {"cpu": "10m", "memory": "48Mi"}}


def grace_period(sensor: Sensor) -> int:
    """Seconds from SIGTERM to SIGKILL."""
    wanted = sensor.spec.termination_grace_period_seconds
    return _GRACE if wanted is None else wanted


def sensor_environment(sensor: Sensor, surroundings: Environment) -> list[dict[str, Any]]:
    """The container's environment: the author's variables first, so that ours may not be replaced."""
    spec, ref = sensor.spec, sensor.ref
    credentials = PurePosixPath(environment.CREDENTIALS_DIR)
    own: dict[str, str] = {
        environment.SENSOR_REF: str(ref),
        environment.TRIGGER_TYPES: ",".join(declared.name for declared in spec.trigger_types),
        environment.API_URL: surroundings.api_url,
        environment.API_TOKEN_FILE: str(credentials / environment.TOKEN_KEY),
        environment.NATS_URL: surroundings.nats_url,
        environment.NATS_INBOX_PREFIX: ref.inbox_prefix,
        environment.RULES_SUBJECT: subjects.rules_filter(ref),
        environment.ACKS_SUBJECT: subjects.acks_prefix(ref),
        environment.SPOOL_DIR: environment.SPOOL_MOUNT,
        environment.LOG_LEVEL: surroundings.log_level,
        environment.METRICS_PORT: str(environment.DEFAULT_METRICS_PORT),
        environment.GRACE_SECONDS: str(max(1, grace_period(sensor) - _RESERVE)),
    }
    own |= {environment.port_variable(port.name): str(port.port) for port in spec.ports}
    if spec.secrets:
        own[environment.SECRETS_DIR] = environment.SECRETS_MOUNT
    if surroundings.nats_credentials:
        own[environment.NATS_CREDS_FILE] = str(credentials / environment.NATS_CREDS_KEY)
    files = small.config_files(sensor, surroundings)
    if environment.CONFIG_KEY in files:
        own[environment.CONFIG_FILE] = f"{environment.CONFIG_DIR}/{environment.CONFIG_KEY}"
    if small.CA_KEY in files:
        own[environment.CA_FILE] = f"{environment.CONFIG_DIR}/{small.CA_KEY}"
    own |= stdio.variables(sensor)
    authors = [
        variable.model_dump(by_alias=True, exclude_none=True) for variable in spec.env if variable.name not in own
    ]
    return [
        *authors,
        *({"name": name, "value": value} for name, value in own.items()),
        {"name": environment.SENSOR_INSTANCE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]


def _probe(path: str, **times: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": small.METRICS_PORT_NAME}, **times}


def _container(sensor: Sensor, surroundings: Environment) -> dict[str, Any]:
    spec = sensor.spec
    mounts = [
        # The whole volume: a subPath would never be refreshed.
        {"name": "credentials", "mountPath": environment.CREDENTIALS_DIR, "readOnly": True},
        {"name": "spool", "mountPath": environment.SPOOL_MOUNT},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the container, where it is an empty volume
    ]
    if small.config_files(sensor, surroundings):
        mounts.append({"name": "config", "mountPath": environment.CONFIG_DIR, "readOnly": True})
    mounts += stdio.mounts(sensor)
    mounts += [
        {"name": _secret_volume(number), "mountPath": f"{environment.SECRETS_MOUNT}/{secret.name}", "readOnly": True}
        for number, secret in enumerate(spec.secrets)
    ]
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": spec.image or surroundings.stdio_image,
        "env": sensor_environment(sensor, surroundings),
        "ports": [
            {
                "name": small.METRICS_PORT_NAME,
                "containerPort": environment.DEFAULT_METRICS_PORT,
                "protocol": "TCP",
            },
            *({"name": port.name, "containerPort": port.port, "protocol": "TCP"} for port in spec.ports),
        ],
        # Every second while it starts, so that a sensor serves its rules as soon as it can; then less often.
        "startupProbe": _probe("/live", periodSeconds=1, timeoutSeconds=2, failureThreshold=120),
        "readinessProbe": _probe("/ready", periodSeconds=2, timeoutSeconds=2, failureThreshold=3),
        "livenessProbe": _probe("/live", periodSeconds=10, timeoutSeconds=5, failureThreshold=3),
        "resources": spec.resources if spec.resources is not None else _REQUESTS,
        "securityContext": common.SECURITY_CONTEXT,
        # Its last log lines become the reason that the Sensor's condition shows.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    optional = {
        "imagePullPolicy": spec.image_pull_policy,
        "command": stdio.command(sensor) if spec.runner == "Stdio" else spec.command,
        "args": stdio.arguments(sensor) if spec.runner == "Stdio" else spec.args,
        "envFrom": spec.env_from or None,
    }
    return container | {key: value for key, value in optional.items() if value is not None}


def _secret_volume(number: int) -> str:
    """A volume's name is shorter than a Secret's may be."""
    return f"secret-{number}"


def _volumes(sensor: Sensor, surroundings: Environment) -> list[dict[str, Any]]:
    name = common.metadata(sensor)["name"]
    volumes: list[dict[str, Any]] = [
        # Readable for the group: the image chooses its user, and the files belong to root.
        {"name": "credentials", "secret": {"secretName": name, "defaultMode": 0o440}},
        {"name": "spool", "emptyDir": {"sizeLimit": _SPOOL_LIMIT}},
        {"name": "tmp", "emptyDir": {"sizeLimit": _TMP_LIMIT}},
    ]
    if small.config_files(sensor, surroundings):
        volumes.append({"name": "config", "configMap": {"name": name, "defaultMode": 0o444}})
    # Optional: the pod need not wait for a Secret, and kubelet brings one that is made later.
    volumes += [
        {
            "name": _secret_volume(number),
            "secret": {"secretName": secret.name, "defaultMode": 0o440, "optional": True},
        }
        for number, secret in enumerate(sensor.spec.secrets)
    ]
    return volumes + stdio.volumes(sensor)


def _pod(sensor: Sensor, surroundings: Environment) -> dict[str, Any]:
    spec = sensor.spec
    pod: dict[str, Any] = {
        "serviceAccountName": spec.service_account_name or common.metadata(sensor)["name"],
        "automountServiceAccountToken": spec.service_account_name is not None,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "fsGroup": _GROUP,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": grace_period(sensor),
        "containers": [_container(sensor, surroundings)],
        "volumes": _volumes(sensor, surroundings),
    }
    optional = {
        "initContainers": stdio.init_containers(sensor, surroundings) or None,
        "nodeSelector": spec.node_selector or None,
        "tolerations": spec.tolerations or None,
        "affinity": spec.affinity or None,
        "priorityClassName": spec.priority_class_name,
        "imagePullSecrets": spec.image_pull_secrets or None,
    }
    return pod | {key: value for key, value in optional.items() if value is not None}


def deployment(sensor: Sensor, surroundings: Environment, *, issued_at: datetime | None) -> dict[str, Any]:
    """The Deployment.

    A new pod is up before an old one goes: both fire the same occurrences meanwhile, and each is stored once. A changed
    config rolls the pods; renewed credentials do so only with ``onRotate: Restart``.

    Args:
        sensor: whose it is.
        surroundings: what sensors are told.
        issued_at: when the credentials in the Secret were made.
    """
    spec = sensor.spec
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(environment.DEFAULT_METRICS_PORT),
    }
    if files := small.config_files(sensor, surroundings):
        annotations[common.CONFIG_DIGEST] = common.digest(files)
    if spec.scripts:
        annotations[common.SCRIPTS_DIGEST] = common.digest(spec.scripts)
    if spec.token.on_rotate == "Restart" and issued_at is not None:
        annotations[common.CREDENTIALS_ISSUED] = issued_at.isoformat()
    return sealed(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": common.metadata(sensor),
            "spec": {
                "replicas": 0 if spec.paused else spec.replicas,
                "revisionHistoryLimit": 2,
                "selector": {"matchLabels": common.selector(sensor)},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {
                    "metadata": {"labels": common.labels(sensor), "annotations": annotations},
                    "spec": _pod(sensor, surroundings),
                },
            },
        }
    )
