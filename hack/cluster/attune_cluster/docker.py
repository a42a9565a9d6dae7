"""The Docker engine: whether it answers, and the containers of a kind cluster."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass
from datetime import datetime

from .commands import capture, which
from .console import ClusterError


def problem() -> str | None:
    """Why the Docker engine cannot be used; None when it can."""
    if which("docker") is None:
        return "the program docker is not installed"
    try:
        done = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=15, check=False)
    except subprocess.TimeoutExpired:
        return "`docker info` does not answer within 15 s"
    except OSError as error:
        return f"docker cannot be run: {error.strerror}"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"`docker info` ends with status {done.returncode}"


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container of a kind cluster. `created` is in seconds since the epoch."""

    id: str
    name: str
    running: bool
    created: float


def containers(cluster: str) -> list[Container]:
    """The containers of the kind cluster of this name, stopped ones included; the control plane's is the first."""
    listed = capture(
        ["docker", "ps", "--all", "--no-trunc", f"--filter=label=io.x-k8s.kind.cluster={cluster}", "--format={{.ID}}"],
        what="looking for the kind cluster",
    ).split()
    found = []
    for identity in listed:
        # One that is gone between the two questions is no container.
        with contextlib.suppress(ClusterError, ValueError):
            text = capture(["docker", "inspect", "--format={{.Name}} {{.State.Running}} {{.Created}}", identity])
            name, running, created = text.split()
            moment = datetime.fromisoformat(created[:19] + "+00:00").timestamp()
            found.append(Container(id=identity, name=name.lstrip("/"), running=running == "true", created=moment))
    return sorted(found, key=lambda container: (not container.name.endswith("-control-plane"), container.name))


def image_id(name: str) -> str:
    """The id of an image; empty when there is none of that name."""
    with contextlib.suppress(ClusterError):
        return capture(["docker", "image", "inspect", "--format={{.Id}}", name]).strip()
    return ""


def image_in_node(node: str, name: str) -> str:
    """The id of an image inside a node; empty when it is not there."""
    template = "--template={{.status.id}}"
    with contextlib.suppress(ClusterError):
        command = ["docker", "exec", node, "crictl", "inspecti", "--output=go-template", template, name]
        return capture(command).strip()
    return ""
