"""What ``runner: Stdio`` adds to a Sensor's pods: the supervisor around its command, its scripts, and how they get there.

In the image attune/sensor-stdio, and in images built on it, the supervisor is a program. Into any other image an init
container of our image copies it as one file that needs only python3 (docs/decisions/0030).
"""

import json
from pathlib import PurePosixPath
from typing import Any, Final

from attune_contract import environment
from attune_contract.resources import Sensor
from attune_contract.resources.stdio import StdioOptions
from attune_operator.resources import common
from attune_operator.resources.common import Environment

#: The supervisor as one file in the image attune/sensor-stdio (Dockerfile).
_SOURCE: Final = PurePosixPath("/opt/attune") / environment.STDIO_ZIPAPP
_TARGET: Final = PurePosixPath(environment.STDIO_MOUNT) / environment.STDIO_ZIPAPP
COPIER: Final = "stdio"
#: The fields of ``spec.stdio`` that say how output is read.
_OUTPUT: Final = {"format", "pattern", "columns", "when", "payload", "occurrence", "occurred_at"}
_SIZE: Final = "32Mi"
_RESOURCES: Final = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}


def is_copied(sensor: Sensor) -> bool:
    """Whether the supervisor is copied into the pod because the image has none."""
    spec = sensor.spec
    return spec.runner == "Stdio" and spec.image is not None and (spec.stdio or StdioOptions()).supervisor != "Image"


def command(sensor: Sensor) -> list[str]:
    """Return the container's command: the supervisor."""
    # -I: neither variables nor the working directory change what it imports.
    return ["python3", "-I", str(_TARGET)] if is_copied(sensor) else [environment.STDIO_PROGRAM]


def arguments(sensor: Sensor) -> list[str]:
    """Return the supervisor's arguments: the Sensor's command."""
    return ["--", *(sensor.spec.command or ()), *(sensor.spec.args or ())]


def variables(sensor: Sensor) -> dict[str, str]:
    """Return the supervisor's variables."""
    spec = sensor.spec
    if spec.runner != "Stdio":
        return {}
    options = spec.stdio or StdioOptions()
    found = {
        environment.STDIO_MODE: options.mode,
        environment.STDIO_LINES_PER_SECOND: str(options.lines_per_second),
        environment.STDIO_STOP_SECONDS: str(options.stop_seconds),
        environment.STDIO_MAX_RESTART_SECONDS: str(options.max_restart_seconds),
        # A program can be blocked, so nothing has to be dropped when the spool is full.
        environment.SPOOL_FULL: "block",
    }
    output = options.model_dump(by_alias=True, exclude_none=True, include=_OUTPUT)
    if output:
        # Kubernetes reads `$(NAME)` and `$$` in values; a pattern may well have a dollar.
        found[environment.STDIO_OUTPUT] = json.dumps(output).replace("$", "$$")
    if options.on_exit is not None:
        found[environment.STDIO_ON_EXIT] = options.on_exit
    if spec.scripts:
        found[environment.SCRIPTS_DIR] = environment.SCRIPTS_MOUNT
    return found


def mounts(sensor: Sensor) -> list[dict[str, Any]]:
    """Return the additional mounts of the container."""
    found: list[dict[str, Any]] = []
    if sensor.spec.runner == "Stdio" and sensor.spec.scripts:
        found.append({"name": "scripts", "mountPath": environment.SCRIPTS_MOUNT, "readOnly": True})
    if is_copied(sensor):
        found.append({"name": "stdio", "mountPath": environment.STDIO_MOUNT, "readOnly": True})
    return found


def volumes(sensor: Sensor, scripts: str) -> list[dict[str, Any]]:
    """Return the volumes of :func:`mounts`; ``scripts`` is the name of the ConfigMap with the scripts."""
    found: list[dict[str, Any]] = []
    if sensor.spec.runner == "Stdio" and sensor.spec.scripts:
        found.append({"name": "scripts", "configMap": {"name": scripts, "defaultMode": 0o555}})
    if is_copied(sensor):
        found.append({"name": "stdio", "emptyDir": {"sizeLimit": _SIZE}})
    return found


def init_containers(sensor: Sensor, given: Environment) -> list[dict[str, Any]]:
    """Return the init container that copies the supervisor, if it is copied."""
    if not is_copied(sensor):
        return []
    return [
        {
            "name": COPIER,
            "image": given.stdio_image,
            "command": ["cp", str(_SOURCE), str(_TARGET)],
            "resources": _RESOURCES,
            "securityContext": common.SECURITY_CONTEXT,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [{"name": "stdio", "mountPath": environment.STDIO_MOUNT}],
        }
    ]
