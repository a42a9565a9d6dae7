"""Where the local cluster's own files are, and the private folders it is given in its mount namespace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .network import Network
from .settings import Settings

NODE = "attune"
"""The node's name."""
CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
"""Inside the node, where /run is a tmpfs of its own."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of one local cluster below `.cluster/`; all but logs go with it."""

    settings: Settings
    network: Network

    @property
    def folder(self) -> Path:
        return node_folder(self.settings)

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def cgroup(self) -> str:
        """Below each cgroup hierarchy: all pods are in it, so that what is left of them can be told from others'."""
        return f"/{self.settings.mark}"

    @property
    def server(self) -> str:
        return f"https://{self.network.node}:6443"

    @property
    def volumes(self) -> Path:
        return self.folder / "volumes"

    def private(self) -> dict[Path, Path]:
        """Machine folder → the folder that takes its place inside the node.

        These are paths that programs have built in; everything else is configurable.
        """
        return {
            Path("/var/lib/kubelet"): self.folder / "kubelet",
            Path("/var/lib/cni"): self.folder / "cni",
            Path("/var/log/containers"): self.folder / "container-logs",
        }


def node_folder(settings: Settings) -> Path:
    """All of the local cluster but logs and kubeconfig."""
    return settings.state / "node"


def supervisor_record(settings: Settings) -> Path:
    """Where the identity of the node's first process is recorded."""
    return settings.state / "node.pid"


def spec_file(settings: Settings) -> Path:
    """What the supervisor was started with; its content decides whether a running node is still what is wanted."""
    return settings.state / "node.json"
