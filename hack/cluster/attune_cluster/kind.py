"""`CLUSTER=kind`: a cluster in Docker containers, the usual way where a Docker engine answers.

A kind cluster of our name that exists already is used, but only one that was made here is ever deleted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .commands import capture, last_line, logged, succeeds, which
from .console import ClusterError, say, step
from .locks import exclusive
from .settings import Settings
from .tools import tools


def docker_answers() -> bool:
    """Whether there is a Docker engine and this user may use it."""
    return which("docker") is not None and succeeds(["docker", "info"], seconds=15)


def _kind(settings: Settings) -> Path:
    """The program itself: the one on the PATH, else one built from its Go module."""
    return which("kind") or tools(settings, ["kind"])["kind"]


def _record(settings: Settings) -> Path:
    return settings.state / "kind-made"


def _exists(kind: Path, settings: Settings) -> bool:
    return settings.kind_cluster in capture([kind, "get", "clusters"], what="kind").split()


def identity(settings: Settings) -> str:
    """What tells one kind cluster of this name from the next: its first container's id."""
    container = f"{settings.kind_cluster}-control-plane"
    return capture(["docker", "inspect", "--format={{.Id}}", container], what="looking at the kind cluster").strip()


def _answers(settings: Settings, kind: Path) -> bool:
    settings.state.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"KUBECONFIG": str(settings.kubeconfig)}
    exported = succeeds([kind, "export", "kubeconfig", f"--name={settings.kind_cluster}"], env=env)
    kubectl = which("kubectl") or tools(settings, ["kubectl"])["kubectl"]
    return exported and succeeds([kubectl, "get", "--raw=/readyz", "--request-timeout=10s"], env=env)


def check(settings: Settings) -> None:
    """Raise where no Docker engine answers."""
    del settings
    if not docker_answers():
        raise ClusterError(
            "CLUSTER=kind needs a Docker engine, and none answers (`docker info` fails): start it, or use CLUSTER=local "
            "(Linux, root) or CLUSTER=current (a cluster you have already)."
        )


def up(settings: Settings) -> None:
    """Make the kind cluster run and write its kubeconfig."""
    with exclusive(settings.state / "lock", what="this cluster"):
        kind = _kind(settings)
        name = f"--name={settings.kind_cluster}"
        if _exists(kind, settings):
            if _answers(settings, kind):
                say(f"• the kind cluster {settings.kind_cluster} runs already")
                return
            if not _record(settings).exists():
                raise ClusterError(
                    f"The kind cluster {settings.kind_cluster} does not answer, and it was not made here: delete it with "
                    f"`kind delete cluster --name {settings.kind_cluster}`, or set KIND_CLUSTER to another name."
                )
            with step("removing a kind cluster that does not answer"):
                capture([kind, "delete", "cluster", name])
        _record(settings).write_text(settings.kind_cluster)
        log = settings.logs / "kind.log"
        with step(f"making the kind cluster {settings.kind_cluster}", detail=lambda: last_line(log)):
            command = [str(kind), "create", "cluster", name, f"--kubeconfig={settings.kubeconfig}", "--wait=180s"]
            logged(command, log, what="kind create cluster")


def down(settings: Settings) -> None:
    """Delete the kind cluster, if it was made here."""
    record = _record(settings)
    if not record.exists():
        settings.kubeconfig.unlink(missing_ok=True)
        return
    if not docker_answers():
        raise ClusterError(
            "The kind cluster can't be deleted: the Docker engine does not answer. Start it and try again."
        )
    with exclusive(settings.state / "lock", what="this cluster"), step("deleting the kind cluster"):
        capture(
            [_kind(settings), "delete", "cluster", f"--name={record.read_text().strip()}"], what="kind delete cluster"
        )
        for file in (settings.kubeconfig, settings.state / "kind-images.key", record):
            file.unlink(missing_ok=True)


def load_images(settings: Settings, names: list[str]) -> None:
    """Copy images of the Docker engine into the cluster's nodes."""
    log = settings.logs / "images.log"
    with step("loading the images into kind", detail=lambda: last_line(log)):
        command = [str(_kind(settings)), "load", "docker-image", f"--name={settings.kind_cluster}", *names]
        logged(command, log, what="kind load docker-image")


def load(settings: Settings, archive: Path) -> None:
    """Copy an image archive into the cluster's nodes."""
    capture([_kind(settings), "load", "image-archive", f"--name={settings.kind_cluster}", str(archive)])


def status(settings: Settings) -> dict[str, Any]:
    """What there is."""
    kind = which("kind") or settings.cache / "bin" / "kind"
    exists = docker_answers() and kind.exists() and _exists(kind, settings)
    return {
        "cluster": "kind",
        "name": settings.kind_cluster,
        "running": exists,
        "usable": exists and _answers(settings, kind),
        "kubeconfig": str(settings.kubeconfig),
    }
