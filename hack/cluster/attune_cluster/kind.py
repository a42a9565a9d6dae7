"""`CLUSTER=kind`: a cluster in Docker containers, the usual way where a Docker engine answers.

A kind cluster of our name that exists already is used. One is deleted only when it was started here (its container has the
recorded id) and either `make cluster-down` asks for it, or its creation never came to its end. A cluster that does not answer
is started and waited for; what is in it is never deleted without being asked.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import docker, kind_record
from .commands import capture, last_line, logged, succeeds, which
from .console import ClusterError, say, step, wait_until
from .docker import Container
from .kind_record import Record
from .locks import exclusive
from .settings import Settings
from .tools import tools

STARTING = 90.0
"""Seconds that a cluster has to answer after its containers run: those of a reboot need 15 to 30."""
NODES = 180.0
"""Seconds that the nodes of a new cluster have to get ready."""
LONGEST_CREATION = 3600.0
"""A container that is older or younger than this than a creation that was killed is not of it, in seconds."""
OTHER_WAYS = (
    "Other ways: KIND_IMAGE=<a node image that is here already>, CLUSTER=local (Linux, root; no Docker, no registry), or "
    "CLUSTER=current (a cluster you have already)."
)


def docker_answers() -> bool:
    """Whether there is a Docker engine that this user may use."""
    return docker.problem() is None


def _kind(settings: Settings) -> Path:
    """The program itself: the one on the PATH, else (or where KIND_FROM_SOURCE asks for it) the pinned one, built from source."""
    found = None if settings.kind_from_source else which("kind")
    return found or tools(settings, ["kind"])["kind"]


def _kubectl(settings: Settings) -> Path:
    return which("kubectl") or tools(settings, ["kubectl"])["kubectl"]


def cluster_name(settings: Settings) -> str:
    """The cluster's name: the one that is asked for, else that of the cluster started here, else one of this checkout's own."""
    record = kind_record.read(settings)
    return settings.kind_cluster or (record.name if record is not None else f"attune-{settings.identity}")


def check(settings: Settings) -> None:
    """Raise where no Docker engine can be used, or another cluster was started here."""
    if (reason := docker.problem()) is not None:
        raise ClusterError(
            f"CLUSTER=kind needs a Docker engine that you may use: {reason}. Start it or get the right to use it, or use "
            "CLUSTER=local (Linux, root) or CLUSTER=current (a cluster you have already)."
        )
    record = kind_record.read(settings)
    if record is not None and settings.kind_cluster and record.name != settings.kind_cluster:
        raise ClusterError(
            f"The kind cluster {record.name} was started here: `make cluster-down` first, then "
            f"KIND_CLUSTER={settings.kind_cluster}."
        )


@contextlib.contextmanager
def _exported(settings: Settings, name: str) -> Iterator[Path | None]:
    """A temporary kubeconfig of the cluster; None when kind cannot give one."""
    with tempfile.TemporaryDirectory(prefix="attune-kind-") as folder:
        file = Path(folder) / "kubeconfig"
        command = [str(_kind(settings)), "export", "kubeconfig", f"--name={name}", f"--kubeconfig={file}"]
        yield file if succeeds(command) and file.exists() else None


def _answers(settings: Settings, name: str) -> bool:
    """Whether the API server answers and every node is ready. No kubeconfig is changed for it."""
    with _exported(settings, name) as kubeconfig:
        if kubeconfig is None:
            return False
        kubectl = [str(_kubectl(settings)), f"--kubeconfig={kubeconfig}", "--request-timeout=10s"]
        if not succeeds([*kubectl, "get", "--raw=/readyz"]):
            return False
        return succeeds([*kubectl, "wait", "--for=condition=Ready", "node", "--all", "--timeout=5s"])


def _write_kubeconfig(settings: Settings, name: str) -> None:
    with _exported(settings, name) as kubeconfig:
        if kubeconfig is None:
            raise ClusterError(f"kind gives no kubeconfig of the cluster {name}.")
        temporary = settings.kubeconfig.with_name(".kubeconfig.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(kubeconfig.read_text())
        temporary.replace(settings.kubeconfig)


def up(settings: Settings) -> None:
    """Make the kind cluster run and write its kubeconfig."""
    settings.state.mkdir(parents=True, exist_ok=True)
    with exclusive(settings.state / "lock", what="this cluster"):
        name = cluster_name(settings)
        record = kind_record.read(settings)
        found = docker.containers(name)
        if found and _is_unfinished(record, found[0]):
            with step(f"removing the kind cluster {name}, whose creation did not come to its end"):
                capture([_kind(settings), "delete", "cluster", f"--name={name}"], what="kind delete cluster")
            found = []
        if found:
            _use(settings, name, found, ours=record is not None and record.container == found[0].id)
        else:
            _create(settings, name)
        _write_kubeconfig(settings, name)


def _is_unfinished(record: Record | None, container: Container) -> bool:
    """Whether the container is of a creation of ours that failed, was interrupted, or was killed."""
    if record is None or record.complete:
        return False
    if record.container:
        return record.container == container.id
    return 0 <= container.created - record.started + 2 <= LONGEST_CREATION


def _use(settings: Settings, name: str, found: list[Container], *, ours: bool) -> None:
    """Wait for a cluster that is there."""
    if stopped := [container.id for container in found if not container.running]:
        with step(f"starting the containers of the kind cluster {name}"):
            capture(["docker", "start", *stopped], what="docker start")
    if _answers(settings, name):
        say(f"• the kind cluster {name} runs already")
        return
    with step(f"waiting for the kind cluster {name}, which is starting"):
        answers = wait_until(lambda: _answers(settings, name), seconds=STARTING, interval=1.0)
    if not answers:
        whose = "`make cluster-down` deletes it, with everything in it" if ours else (
            f"it was not made here; `kind delete cluster --name {name}` deletes it, with everything in it"
        )  # fmt: skip
        raise ClusterError(
            f"The kind cluster {name} does not answer, or a node of it is not ready, within {STARTING:.0f} s. Nothing in it was "
            f"changed. Look at `docker logs {found[0].name}`; {whose}. Or set KIND_CLUSTER to another name."
        )


def _create(settings: Settings, name: str) -> None:
    record = Record(name=name, started=time.time())
    kind_record.write(settings, record)
    log = settings.logs / "kind.log"
    options = [f"--image={settings.kind_image}"] if settings.kind_image else []
    options += [f"--config={settings.kind_config}"] if settings.kind_config else []
    command = [str(_kind(settings)), "create", "cluster", f"--name={name}", *options, "--wait=180s"]
    with tempfile.TemporaryDirectory(prefix="attune-kind-") as folder:
        try:
            with step(f"making the kind cluster {name}", detail=lambda: last_line(log)):
                logged([*command, f"--kubeconfig={folder}/kubeconfig"], log, what="kind create cluster")
        except ClusterError as problem:
            # kind deletes the nodes of a creation that fails. What is left then was not made by it.
            kind_record.forget(settings)
            raise ClusterError(f"{problem}\n{OTHER_WAYS}") from problem
        except BaseException:
            _note_container(settings, record)
            raise
    record = _note_container(settings, record)
    with step("waiting for the nodes"):
        ready = wait_until(lambda: _answers(settings, name), seconds=NODES, interval=1.0)
    if not ready:
        logs = settings.logs / "kind-export"
        succeeds([_kind(settings), "export", "logs", f"--name={name}", str(logs)], seconds=120)
        raise ClusterError(
            f"The nodes of the kind cluster {name} did not get ready within {NODES:.0f} s; the logs are in {logs}. The next "
            f"`make cluster` makes it again. {OTHER_WAYS}"
        )
    kind_record.write(settings, replace(record, complete=True))


def _note_container(settings: Settings, record: Record) -> Record:
    """Remember which container is ours, also of a creation that was interrupted."""
    with contextlib.suppress(ClusterError):
        if found := docker.containers(record.name):
            record = replace(record, container=found[0].id)
            kind_record.write(settings, record)
    return record


def started(settings: Settings) -> bool:
    """Whether a creation was begun here and not ended."""
    return kind_record.read(settings) is not None


def down(settings: Settings) -> None:
    """Delete the kind cluster, if it was made here."""
    record = kind_record.read(settings)
    if record is None:
        settings.kubeconfig.unlink(missing_ok=True)
        return
    if (reason := docker.problem()) is not None:
        say(
            f"The kind cluster {record.name} cannot be deleted: {reason}. It is forgotten here; when the engine is back, "
            f"`kind delete cluster --name {record.name}` deletes it."
        )
        kind_record.forget(settings)
        return
    with exclusive(settings.state / "lock", what="this cluster"):
        found = docker.containers(record.name)
        if found and (found[0].id == record.container or _is_unfinished(record, found[0])):
            with step(f"deleting the kind cluster {record.name}"):
                capture([_kind(settings), "delete", "cluster", f"--name={record.name}"], what="kind delete cluster")
        elif found:
            say(f"• the kind cluster {record.name} is not the one that was made here; it is left alone")
        kind_record.forget(settings)


def load_images(settings: Settings, names: list[str]) -> None:
    """Copy images of the Docker engine into the cluster's nodes, one by one, where they are not there already."""
    name = cluster_name(settings)
    nodes = docker.containers(name)
    log = settings.logs / "images.log"
    for image in names:
        wanted = docker.image_id(image)
        if wanted and nodes and all(docker.image_in_node(node.name, image) == wanted for node in nodes):
            continue
        with step(f"loading {image} into kind"):
            command = [str(_kind(settings)), "load", "docker-image", f"--name={name}", image]
            logged(command, log, what=f"kind load docker-image {image}")


def loaded(settings: Settings, names: list[str]) -> dict[str, str]:
    """The ids of the images as the cluster's first node has them."""
    nodes = docker.containers(cluster_name(settings))
    return {image: docker.image_in_node(nodes[0].name, image) if nodes else "" for image in names}


def load(settings: Settings, archive: Path) -> None:
    """Copy an image archive into the cluster's nodes."""
    with step(f"loading {archive.name} into kind"):
        capture([_kind(settings), "load", "image-archive", f"--name={cluster_name(settings)}", str(archive)])


def status(settings: Settings) -> dict[str, Any]:
    """What there is."""
    name, record = cluster_name(settings), kind_record.read(settings)
    there = bool(docker_answers() and docker.containers(name))
    return {
        "cluster": "kind",
        "name": name,
        "running": there,
        "usable": there and (record is None or record.complete) and _answers(settings, name),
        "kubeconfig": str(settings.kubeconfig),
    }
