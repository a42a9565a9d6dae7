"""kubectl and helm with the kubeconfig of this checkout's cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attune_cluster.commands import capture
from attune_cluster.console import ClusterError
from attune_cluster.settings import Settings
from attune_cluster.tools import tools


@dataclass(frozen=True)
class Kube:
    """The two programs, and the environment in which they find the cluster."""

    kubectl: Path
    helm: Path
    environment: dict[str, str]

    @classmethod
    def of_checkout(cls, settings: Settings) -> Kube:
        """The cluster that `make cluster` brought up.

        Raises:
            ClusterError: there is none.
        """
        if not settings.kubeconfig.is_file():
            raise ClusterError(f"There is no cluster: {settings.kubeconfig} does not exist. Run `make cluster` first.")
        return cls(
            _program("kubectl", settings),
            _program("helm", settings),
            {**os.environ, "KUBECONFIG": str(settings.kubeconfig)},
        )

    def run_kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it printed; raises ClusterError with its message."""
        return capture([self.kubectl, *arguments], env=self.environment, stdin=stdin or "")

    def run_helm(self, *arguments: str) -> str:
        """Run helm and return what it printed; raises ClusterError with its message."""
        return capture([self.helm, *arguments], env=self.environment, stdin="")

    def get(self, *arguments: str) -> dict[str, Any]:
        """What `kubectl get … -o json` says."""
        found: dict[str, Any] = json.loads(self.run_kubectl("get", *arguments, "-o", "json"))
        return found

    @contextlib.contextmanager
    def port_forward(self, target: str, port: int, namespace: str) -> Iterator[int]:
        """Make a Service's port reachable on loopback; yields the port there."""
        with subprocess.Popen(
            [self.kubectl, "port-forward", "-n", namespace, target, f":{port}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env=self.environment,
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stderr is not None
                found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
                if found is None:
                    raise ClusterError(f"kubectl port-forward to {target} failed: {process.stderr.read().strip()}")
                yield int(found.group(1))
            finally:
                process.terminate()
                process.wait(10)


def _program(name: str, settings: Settings) -> Path:
    """The user's own program where there is one (their cluster may want their version), else the one we build."""
    own = shutil.which(name) if os.environ.get("CLUSTER") in ("current", "kind") else None
    return Path(own) if own else tools(settings, [name])[name]
