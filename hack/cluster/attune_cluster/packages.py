"""The machine's own packages: which are needed and why, and their installation where that can be done (apt, root)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .commands import last_line, logged, succeeds, which
from .console import ClusterError, step

CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))


def cni_folder() -> Path | None:
    """Where the network plugins are that containerd calls: distributions differ."""
    return next(
        (folder for folder in CNI_FOLDERS if (folder / "bridge").exists() and (folder / "host-local").exists()), None
    )


@dataclass(frozen=True, kw_only=True)
class Need:
    """A program of the machine that something here calls."""

    debian: str
    why: str
    present: Callable[[], bool]


def _program(name: str) -> Callable[[], bool]:
    return lambda: which(name) is not None


NODE = (
    Need(debian="containerd", why="runs the containers", present=_program("containerd")),
    Need(debian="runc", why="is what containerd starts them with", present=_program("runc")),
    Need(
        debian="containernetworking-plugins", why="connect pods to the bridge", present=lambda: cni_folder() is not None
    ),
    Need(debian="iproute2", why="makes the bridge and the link to it", present=_program("ip")),
    Need(debian="iptables", why="is how Services reach pods", present=_program("iptables")),
    Need(debian="conntrack", why="lets kube-proxy forget dead endpoints", present=_program("conntrack")),
    Need(debian="util-linux", why="makes and enters the node's namespaces", present=_program("nsenter")),
    Need(debian="mount", why="mounts volumes", present=_program("mount")),
    Need(debian="openssl", why="makes the cluster's certificates", present=_program("openssl")),
)
BUILD = (
    Need(debian="mmdebstrap", why="makes the base image", present=_program("mmdebstrap")),
    Need(
        debian="debian-archive-keyring",
        why="verifies the base image's packages",
        present=lambda: Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists(),
    ),
    Need(debian="buildah", why="builds images without a Docker engine", present=_program("buildah")),
)
TESTS = (
    Need(
        debian="postgresql",
        why="is the database that the API is tested with, beside SQLite",
        present=lambda: any(Path("/usr/lib/postgresql").glob("*/bin/postgres")),
    ),
    Need(
        debian="rabbitmq-server",
        why="is the server that the AMQP sensor is tested with",
        present=lambda: Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists(),
    ),
    Need(debian="mosquitto", why="is the broker that the MQTT sensor is tested with", present=_program("mosquitto")),
    Need(
        debian="default-jre-headless",
        why="runs the broker that the Kafka sensor is tested with",
        present=_program("java"),
    ),
    Need(debian="maven", why="gets this broker", present=_program("mvn")),
    Need(debian="prometheus", why="evaluates the chart's alerts and dashboards in tests", present=_program("promtool")),
    *(
        Need(debian=debian, why="is run by the tests of examples/stdio", present=_program(program))
        for debian, program in (
            ("mosquitto-clients", "mosquitto_sub"),
            ("redis-server", "redis-server"),
            ("redis-tools", "redis-cli"),
            ("inotify-tools", "inotifywait"),
            ("kcat", "kcat"),
            ("tshark", "tshark"),
            ("systemd-journal-remote", "/lib/systemd/systemd-journal-remote"),
            ("jq", "jq"),
            ("mawk", "mawk"),
            ("procps", "vmstat"),
            ("postgresql-client", "psql"),
        )
    ),
)


def missing(needs: Iterable[Need]) -> list[Need]:
    """Those that are not there."""
    return [need for need in needs if not need.present()]


def refusal(absent: list[Need], *, root: bool, apt: bool, who: str = "CLUSTER=local") -> str | None:
    """Why `absent`, which `who` needs, can't be installed from here, and what to do instead; None when it can."""
    listed = ", ".join(f"{need.debian} ({need.why})" for need in absent)
    if not apt:
        return (
            f"{who} needs {listed}; this is no Debian or Ubuntu, so install them with the system's own package "
            "manager" + (", or use CLUSTER=kind (needs Docker) or CLUSTER=current." if who == "CLUSTER=local" else ".")
        )
    if not root:
        return (
            f"{who} needs {listed}, and installing needs root: run "
            f"`sudo apt-get install --no-install-recommends {' '.join(need.debian for need in absent)}` first."
        )
    return None


def install(needs: Iterable[Need], *, log: Path, who: str = "CLUSTER=local") -> None:
    """Install what is missing of `needs`, or say clearly which and why it can't be done.

    Services that packages bring are not started: the cluster runs a containerd of its own.
    """
    absent = missing(needs)
    if not absent:
        return
    reason = refusal(absent, root=os.geteuid() == 0, apt=which("apt-get") is not None, who=who)
    if reason is not None:
        raise ClusterError(reason)
    names = [need.debian for need in absent]
    log.parent.mkdir(parents=True, exist_ok=True)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", *names]
    policy = Path("/usr/sbin/policy-rc.d")
    with step(f"installing {', '.join(names)}", detail=lambda: last_line(log)):
        ours = not policy.exists()
        if ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            # A list that can't be fetched (somebody's third-party repository) must not stop what the others offer.
            succeeds(["apt-get", "update", "-o", "DPkg::Lock::Timeout=300"], env=env, seconds=300)
            logged(command, log, env=env, what="apt-get install", downloads=True)
        finally:
            if ours:
                policy.unlink(missing_ok=True)
    still = missing(needs)
    if still:
        raise ClusterError(f"{', '.join(n.debian for n in still)} is installed, but its programs are not found.")
