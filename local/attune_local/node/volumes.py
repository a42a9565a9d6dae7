"""A pod's volumes as folders: Secrets and ConfigMaps become files, and are brought up to date when the object changes.

Files are replaced one by one, each in one step, and only this user may read them. (kubelet replaces the whole folder by a
link; what reads ours compares contents.)
"""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attune_local.node.container import ContainerError, secret_value
from attune_operator.public.objects import CONFIG_MAP, SECRET, Kind, Object

Find = Callable[[Kind, str], Object | None]


def write_private(path: Path, content: bytes, *, executable: bool = False) -> None:
    """Put a file there in one step; only this user may read it (and run it). One that is the same is left alone."""
    try:
        if path.read_bytes() == content:
            return
    except OSError:
        pass
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700 if executable else 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


def contents(kind: Kind, body: Object) -> dict[str, bytes]:
    """What a Secret or a ConfigMap holds, by key.

    Raises:
        ContainerError: a value is not base64.
    """
    data = body.get("data") or {}
    name = str((body.get("metadata") or {}).get("name", ""))
    if kind is SECRET:
        return {key: secret_value(name, key, value) for key, value in data.items()}
    files = {key: str(value).encode() for key, value in data.items()}
    return files | {key: secret_value(name, key, value) for key, value in (body.get("binaryData") or {}).items()}


def folders(pod: Object, root: Path) -> dict[str, Path]:
    """Where each volume of a pod is."""
    return {volume["name"]: root / volume["name"] for volume in pod["spec"].get("volumes") or ()}


def prepare(pod: Object, root: Path, find: Find) -> None:
    """Make the pod's volumes, or bring them up to date.

    Raises:
        ContainerError: a Secret or ConfigMap is missing, or a volume is of a kind that there is not here.
        OSError: a file cannot be written.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for volume in pod["spec"].get("volumes") or ():
        folder = root / volume["name"]
        folder.mkdir(mode=0o700, exist_ok=True)
        if (source := volume.get("secret")) is not None:
            _fill(folder, SECRET, source, source["secretName"], find)
        elif (source := volume.get("configMap")) is not None:
            _fill(folder, CONFIG_MAP, source, source["name"], find)
        elif "emptyDir" not in volume:
            what = ", ".join(sorted(set(volume) - {"name"}))
            raise ContainerError(
                "CreateContainerError", f"The volume {volume['name']} ({what}) is of a kind that attune up has not."
            )


def _fill(folder: Path, kind: Kind, source: Mapping[str, Any], name: str, find: Find) -> None:
    body = find(kind, name)
    if body is None:
        if source.get("optional"):
            return
        raise ContainerError("ContainerCreating", f"There is no {kind.kind} {name} yet.")
    files = contents(kind, body)
    executable = bool(int(source.get("defaultMode") or 0) & 0o111)
    if items := source.get("items"):
        files = {item["path"]: files[item["key"]] for item in items if item["key"] in files}
    wanted = set()
    for key, content in files.items():
        path = folder / key
        if folder not in path.parents or ".." in path.parts:
            raise ContainerError("CreateContainerError", f"{kind.kind} {name}: {key!r} is no name of a file.")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, content, executable=executable)
        wanted.add(path)
    for path in [found for found in folder.rglob("*") if found.is_file() and found not in wanted]:
        path.unlink(missing_ok=True)


def gather(folder: Path, place: str, mounted: Mapping[str, Path]) -> dict[str, Path]:
    """A folder for ``place`` in which all that is mounted directly below it is found by its name; no entry when nothing is.

    Raises:
        OSError: it cannot be made.
    """
    inside = {
        path.removeprefix(f"{place}/"): source for path, source in mounted.items() if path.startswith(f"{place}/")
    }
    if not inside:
        return {}
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, source in inside.items():
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(source, target_is_directory=True)
    return {place: folder}


def remove(root: Path) -> None:
    """Take a pod's folder away."""
    shutil.rmtree(root, ignore_errors=True)
