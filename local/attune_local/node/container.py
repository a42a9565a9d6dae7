"""A container as a process: its command line and its environment (Kubernetes, ``core/v1`` Container). Pure.

What a container has mounted is in folders here, so a value or an argument that names a place inside a mount is rewritten to
where that is. ``/tmp`` is left alone: programs also name it without being told to, and a process has the machine's.
"""

import base64
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from attune_contract import environment
from attune_local.node.images import entrypoint
from attune_operator.public.objects import CONFIG_MAP, SECRET, Kind, Object

#: Gives an object of the pod's namespace, or None.
Find = Callable[[Kind, str], Object | None]

_REFERENCE: Final = re.compile(r"\$(\$|\([A-Za-z_][A-Za-z0-9_.-]*\))")
_TMP: Final = "/tmp"  # noqa: S108 - not used, but passed over
#: How the operator's Deployments call the supervisor of ``runner: Stdio`` (resources/stdio.py).
_SUPERVISORS: Final = (
    ["python3", "-I", str(PurePosixPath(environment.STDIO_MOUNT) / environment.STDIO_ZIPAPP)],
    [environment.STDIO_PROGRAM],
)
_SUPERVISOR_MODULE: Final = "attune_stdio"
#: Not handed on from the shell that attune up was started in.
_OURS: Final = "ATTUNE_"


class ContainerError(Exception):
    """The container cannot be started as it is. ``reason`` as kubelet would put it into a waiting state."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def mounts(container: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, Path]:
    """Folders by the path at which the container expects them; ``folders`` are by volume."""
    return {
        str(mount["mountPath"]).rstrip("/"): folders[mount["name"]] / str(mount.get("subPath") or "")
        for mount in container.get("volumeMounts") or ()
        if mount["name"] in folders
    }


def relocated(text: str, mounted: Mapping[str, Path]) -> str:
    """A path inside a mount as it is on this machine; any other text as it is."""
    for place, folder in mounted.items():
        if place != _TMP and (text == place or text.startswith(f"{place}/")):
            return str(folder) + text.removeprefix(place)
    return text


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """``$(NAME)`` replaced as Kubernetes does it: unknown names stay as they are, ``$$`` is one dollar."""

    def value(match: re.Match[str]) -> str:
        found = match.group(1)
        return "$" if found == "$" else variables.get(found[1:-1], match.group(0))

    return _REFERENCE.sub(value, text)


def variables(container: Mapping[str, Any], pod: Object, find: Find, mounted: Mapping[str, Path]) -> dict[str, str]:
    """The variables that the container asks for.

    Raises:
        ContainerError: one comes from where there is nothing.
    """
    result: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        result |= _whole_source(source, find)
    for variable in container.get("env") or ():
        name = variable["name"]
        if "valueFrom" in variable:
            value = _value_from(name, variable["valueFrom"], pod, find)
            if value is not None:
                result[name] = value
        else:
            result[name] = relocated(expanded(str(variable.get("value") or ""), result), mounted)
    return result


def secret_value(secret: str, key: str, value: object) -> bytes:
    """One value of a Secret.

    Raises:
        ContainerError: it is not base64.
    """
    try:
        return base64.b64decode(str(value), validate=True)
    except ValueError:
        raise ContainerError("CreateContainerConfigError", f"The Secret {secret}: {key} is not base64.") from None


def _data(kind: Kind, body: Object) -> dict[str, str]:
    data = body.get("data") or {}
    if kind is SECRET:
        name = str((body.get("metadata") or {}).get("name", ""))
        return {key: secret_value(name, key, value).decode(errors="replace") for key, value in data.items()}
    return {key: str(value) for key, value in data.items()}


def _whole_source(source: Mapping[str, Any], find: Find) -> dict[str, str]:
    for field, kind in (("secretRef", SECRET), ("configMapRef", CONFIG_MAP)):
        if (reference := source.get(field)) is None:
            continue
        body = find(kind, reference["name"])
        if body is None:
            if reference.get("optional"):
                return {}
            raise ContainerError("CreateContainerConfigError", f"envFrom: there is no {kind.kind} {reference['name']}.")
        prefix = source.get("prefix") or ""
        return {f"{prefix}{key}": value for key, value in _data(kind, body).items()}
    return {}


def _value_from(name: str, source: Mapping[str, Any], pod: Object, find: Find) -> str | None:
    for field, kind in (("secretKeyRef", SECRET), ("configMapKeyRef", CONFIG_MAP)):
        if (reference := source.get(field)) is None:
            continue
        body = find(kind, reference["name"])
        value = None if body is None else _data(kind, body).get(reference["key"])
        if value is None and not reference.get("optional"):
            what = f"{kind.kind} {reference['name']}"
            missing = f"there is no {what}" if body is None else f"the {what} has no key {reference['key']}"
            raise ContainerError(
                "CreateContainerConfigError", f"The variable {name}: {missing}; give attune up a manifest with it."
            )
        return value
    if (reference := source.get("fieldRef")) is not None:
        return _field(name, str(reference["fieldPath"]), pod)
    if "resourceFieldRef" in source:
        return str(os.cpu_count() or 1) if "cpu" in str(source["resourceFieldRef"].get("resource")) else "0"
    raise ContainerError("CreateContainerConfigError", f"The variable {name}: valueFrom is none that attune up knows.")


def _field(name: str, path: str, pod: Object) -> str:
    metadata = pod["metadata"]
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": "local",
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.podIP": "127.0.0.1",
        "status.hostIP": "127.0.0.1",
    }
    if path in known:
        return str(known[path])
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str((metadata.get(match[1]) or {}).get(match[2], ""))
    raise ContainerError("CreateContainerConfigError", f"The variable {name}: there is no field {path}.")


def command(container: Mapping[str, Any], environment_: Mapping[str, str], mounted: Mapping[str, Path]) -> list[str]:
    """The command line.

    Raises:
        ContainerError: the image is none of ours and no command is given.
    """
    image = str(container["image"])
    given = container.get("command")
    ours = entrypoint(image)
    if given:
        words = [*given, *(container.get("args") or ())]
    elif ours is not None:
        words = [*ours, *(container.get("args") or ())]
    else:
        # What kubelet says when there is no image; here there is no way to get one.
        raise ContainerError(
            "ErrImagePull",
            "attune up runs programs of this machine, not images; say in spec.command what is to be run "
            "(from the manifest's folder), or use one of Attune's own images",
        )
    return [relocated(expanded(str(word), environment_), mounted) for word in _supervised(words)]


def _supervised(words: list[str]) -> list[str]:
    """The command with the supervisor of ``runner: Stdio``, which images bring (or are given), as it is installed here."""
    for known in _SUPERVISORS:
        if words[: len(known)] == known:
            return [sys.executable, "-I", "-m", _SUPERVISOR_MODULE, *words[len(known) :]]
    return words


def listening_ports(container: Mapping[str, Any]) -> dict[str, int]:
    """The ports that the sensor listens on, except the one for probes, by name."""
    return {
        str(port["name"]): int(port["containerPort"])
        for port in container.get("ports") or ()
        if port.get("name") and int(port["containerPort"]) != environment.DEFAULT_METRICS_PORT
    }


def process_environment(
    asked: Mapping[str, str], *, port: int, ports: Mapping[str, int], tmp: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    """All that the process finds in its environment.

    The machine's own comes first (a sensor's author expects PATH, HOME and proxies), without what is ours. Programs of this
    installation are found before others, so that ``python`` is the one that has the SDK. ``port`` is for probes and metrics,
    ``ports`` are the other ports that the sensor listens on; all on loopback.
    """
    machine = {name: value for name, value in inherited.items() if not name.startswith(_OURS)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{machine.get('PATH', os.defpath)}"
    return {
        **machine,
        "PATH": path,
        "TMPDIR": str(tmp),
        "PYTHONUNBUFFERED": "1",
        **asked,
        environment.METRICS_PORT: str(port),
        environment.METRICS_HOST: "127.0.0.1",
        environment.LISTEN_HOST: "127.0.0.1",
        **{environment.port_variable(name): str(number) for name, number in ports.items()},
    }
