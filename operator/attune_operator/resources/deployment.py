"""The Deployment of a Sensor's pods, under the restricted Pod Security profile (docs/decisions/0029)."""

from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final

from attune_contract import environment, subjects
from attune_contract.resources import Sensor
from attune_operator.resources import common, companions, difference, pods, stdio, tracing
from attune_operator.resources.common import Environment, ObjectNames, sealed

CONTAINER: Final = "sensor"
#: Group of the mounted files, so that every user that an image may name can read them.
_GROUP: Final = 65532
_SPOOL_LIMIT: Final = "1Gi"
_TMP_LIMIT: Final = "64Mi"
#: Seconds in which a sensor must deliver what it holds, by default.
_GRACE: Final = 30
#: The last seconds of it, for the process itself to end before the kubelet kills it.
_RESERVE: Final = 5
#: Enough for an idle sensor. No limits: the author sets them, and the namespace may bound them.
_REQUESTS: Final = {"requests": {"cpu": "10m", "memory": "48Mi"}}


def grace_period(sensor: Sensor) -> int:
    """Return the seconds from SIGTERM to SIGKILL."""
    wanted = sensor.spec.termination_grace_period_seconds
    return _GRACE if wanted is None else wanted


def sensor_environment(sensor: Sensor, given: Environment) -> list[dict[str, Any]]:
    """Return the container's environment: the author's variables come first and cannot replace ours."""
    spec, ref = sensor.spec, sensor.ref
    credentials = PurePosixPath(environment.CREDENTIALS_DIR)
    own: dict[str, str] = {
        environment.SENSOR_REF: str(ref),
        environment.TRIGGER_TYPES: ",".join(declared.name for declared in spec.trigger_types),
        environment.API_URL: given.api_url,
        environment.API_TOKEN_FILE: str(credentials / environment.TOKEN_KEY),
        environment.NATS_URL: given.nats_url,
        environment.NATS_INBOX_PREFIX: ref.inbox_prefix,
        environment.RULES_SUBJECT: subjects.rules_filter(ref),
        environment.ACKS_SUBJECT: subjects.acks_prefix(ref),
        environment.SPOOL_DIR: environment.SPOOL_MOUNT,
        environment.LOG_LEVEL: given.log_level,
        environment.METRICS_PORT: str(environment.DEFAULT_METRICS_PORT),
        environment.GRACE_SECONDS: str(max(1, grace_period(sensor) - _RESERVE)),
    }
    if given.log_format != "json":
        own[environment.LOG_FORMAT] = given.log_format
    own |= {environment.port_variable(port.name): str(port.port) for port in spec.ports}
    if spec.secrets:
        own[environment.SECRETS_DIR] = environment.SECRETS_MOUNT
    if given.nats_credentials:
        own[environment.NATS_CREDS_FILE] = str(credentials / environment.NATS_CREDS_KEY)
        own[environment.NATS_API_PREFIX] = subjects.SENSOR_API
        own[environment.RULES_CONSUMERS] = ",".join(subjects.consumer_names(sensor.metadata.uid))
    files = companions.config_files(sensor, given)
    if environment.CONFIG_KEY in files:
        own[environment.CONFIG_FILE] = f"{environment.CONFIG_DIR}/{environment.CONFIG_KEY}"
    if companions.CA_KEY in files:
        own[environment.CA_FILE] = f"{environment.CONFIG_DIR}/{companions.CA_KEY}"
    own |= stdio.variables(sensor)
    own |= pods.proxy_variables(sensor, given)
    authors = [
        variable.model_dump(by_alias=True, exclude_none=True) for variable in spec.env if variable.name not in own
    ]
    return [
        *authors,
        *tracing.variables(sensor, given),
        *({"name": name, "value": value} for name, value in own.items()),
        {"name": environment.SENSOR_INSTANCE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]


def _probe(path: str, **times: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": companions.METRICS_PORT_NAME}, **times}


def _container(sensor: Sensor, given: Environment) -> dict[str, Any]:
    spec = sensor.spec
    mounts = [
        # The whole volume: a subPath would not be refreshed.
        {"name": "credentials", "mountPath": environment.CREDENTIALS_DIR, "readOnly": True},
        {"name": "spool", "mountPath": environment.SPOOL_MOUNT},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the container, where it is an empty volume
    ]
    if companions.config_files(sensor, given):
        mounts.append({"name": "config", "mountPath": environment.CONFIG_DIR, "readOnly": True})
    mounts += stdio.mounts(sensor)
    mounts += [
        {"name": _secret_volume(number), "mountPath": f"{environment.SECRETS_MOUNT}/{secret.name}", "readOnly": True}
        for number, secret in enumerate(spec.secrets)
    ]
    mounts += pods.mounts(sensor)
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": pods.image(sensor, given),
        "env": sensor_environment(sensor, given),
        "ports": [
            {
                "name": companions.METRICS_PORT_NAME,
                "containerPort": environment.DEFAULT_METRICS_PORT,
                "protocol": "TCP",
            },
            *({"name": port.name, "containerPort": port.port, "protocol": "TCP"} for port in spec.ports),
        ],
        # Every second while it starts, so that a sensor serves its rules as soon as possible; then less often.
        "startupProbe": _probe("/live", periodSeconds=1, timeoutSeconds=2, failureThreshold=120),
        "readinessProbe": _probe("/ready", periodSeconds=2, timeoutSeconds=2, failureThreshold=3),
        "livenessProbe": _probe("/live", periodSeconds=10, timeoutSeconds=5, failureThreshold=3),
        "resources": spec.resources if spec.resources is not None else _REQUESTS,
        "securityContext": common.SECURITY_CONTEXT,
        # Its last log lines are shown in the Sensor's condition.
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
    """A Secret's name may be longer than a volume's."""
    return f"secret-{number}"


def _volumes(sensor: Sensor, given: Environment, named: ObjectNames) -> list[dict[str, Any]]:
    name = common.metadata(sensor)["name"]
    volumes: list[dict[str, Any]] = [
        # Readable for the group: the image chooses its user, and the files belong to root.
        {"name": "credentials", "secret": {"secretName": name, "defaultMode": 0o440}},
        {"name": "spool", "emptyDir": {"sizeLimit": _SPOOL_LIMIT}},
        {"name": "tmp", "emptyDir": {"sizeLimit": _TMP_LIMIT}},
    ]
    if companions.config_files(sensor, given):
        volumes.append({"name": "config", "configMap": {"name": named.config, "defaultMode": 0o444}})
    # Optional: the pod does not wait for a Secret, and the kubelet adds one that is created later.
    volumes += [
        {
            "name": _secret_volume(number),
            "secret": {"secretName": secret.name, "defaultMode": 0o440, "optional": True},
        }
        for number, secret in enumerate(sensor.spec.secrets)
    ]
    return [*volumes, *stdio.volumes(sensor, named.scripts), *pods.volumes(sensor)]


def _pod(sensor: Sensor, given: Environment, named: ObjectNames) -> dict[str, Any]:
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
        "containers": [_container(sensor, given)],
        "volumes": _volumes(sensor, given, named),
    }
    if copier := stdio.init_containers(sensor, given):
        pod["initContainers"] = copier
    return pod | pods.options(sensor, given)


def deployment(
    sensor: Sensor, given: Environment, *, issued_at: datetime | None, named: ObjectNames | None = None
) -> dict[str, Any]:
    """Build the Deployment.

    A new pod is ready before an old one is deleted: meanwhile both report the same occurrences, and each is stored once. A
    changed config rolls the pods; renewed credentials do so only with ``onRotate: Restart``.

    Args:
        sensor: the Sensor.
        given: what every sensor is given.
        issued_at: when the credentials in the Secret were issued.
        named: the names of the ConfigMaps; None for the usual ones.
    """
    spec = sensor.spec
    replicas = 0 if spec.paused else spec.replicas
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": str(environment.DEFAULT_METRICS_PORT)}
    ours: dict[str, str] = {}
    if files := companions.config_files(sensor, given):
        ours[common.CONFIG_DIGEST] = common.digest(files)
    if spec.scripts:
        ours[common.SCRIPTS_DIGEST] = common.digest(spec.scripts)
    if spec.token.on_rotate == "Restart" and issued_at is not None:
        ours[common.CREDENTIALS_ISSUED] = issued_at.isoformat()
    return sealed(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": common.metadata(sensor) | {"annotations": {difference.REPLICAS: str(replicas)}},
            "spec": {
                "replicas": replicas,
                "revisionHistoryLimit": 2,
                "selector": {"matchLabels": common.selector(sensor)},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {
                    "metadata": {
                        "labels": pods.labels(sensor),
                        "annotations": pods.annotations(sensor, defaults=scraped, ours=ours),
                    },
                    "spec": _pod(sensor, given, named or common.usual_names(sensor)),
                },
            },
        }
    )
