"""`CLUSTER=current`: the cluster of the kubeconfig that is active. Nothing is started, so nothing is ever ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from .commands import capture, succeeds, which
from .console import ClusterError, say
from .settings import Settings
from .tools import tools


def _kubectl(settings: Settings) -> Path:
    return which("kubectl") or tools(settings, ["kubectl"])["kubectl"]


def check(settings: Settings) -> None:
    """Raise where no cluster answers to kubectl."""
    try:
        capture([_kubectl(settings), "get", "--raw=/readyz", "--request-timeout=15s"])
    except ClusterError as problem:
        raise ClusterError(
            "CLUSTER=current uses the cluster that kubectl talks to, and there is none that answers: set KUBECONFIG or "
            f"`kubectl config use-context`, or use CLUSTER=kind or CLUSTER=local.\n{problem}"
        ) from problem


def up(settings: Settings) -> None:
    """Copy the active context, complete in itself, to `.cluster/kubeconfig`."""
    kubectl = _kubectl(settings)
    config = capture([kubectl, "config", "view", "--minify", "--flatten", "--raw"])
    context = capture([kubectl, "config", "current-context"]).strip()
    temporary = settings.kubeconfig.with_name(".kubeconfig.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(config)
    temporary.replace(settings.kubeconfig)
    say(f"• using the cluster of the context {context}")


def down(settings: Settings) -> None:
    """Forget the copy; the cluster itself is left alone."""
    settings.kubeconfig.unlink(missing_ok=True)


def status(settings: Settings) -> dict[str, Any]:
    """What there is."""
    env = os.environ | {"KUBECONFIG": str(settings.kubeconfig)}
    exists = settings.kubeconfig.exists()
    ready = exists and succeeds([_kubectl(settings), "get", "--raw=/readyz", "--request-timeout=10s"], env=env)
    return {"cluster": "current", "running": ready, "usable": ready, "kubeconfig": str(settings.kubeconfig)}
