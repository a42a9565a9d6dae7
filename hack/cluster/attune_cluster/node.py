"""The local node seen from the machine: its files, its namespaces' beginning and end.

`start` makes a process namespace, a mount namespace and a network namespace whose first process is the supervisor;
`stop` ends that one process, and the kernel does the rest (see `supervisor`). What namespaces don't hold is undone here:
the link's rules on the machine, the control group, three mount points.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import cgroups, components, network
from .certificates import Pair, authority, issue, kubeconfig, service_account_key
from .commands import last_line, succeeds
from .console import ClusterError, wait_until
from .filesystems import overlay_works
from .layout import NODE, Layout, node_folder, spec_file, supervisor_record
from .packages import cni_folder
from .processes import MARK, Identity, children, end, end_marked, end_recorded, marks, running
from .settings import PACKAGE, Settings

PASSED_ON = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE")
"""Settings of the machine that containerd needs where it pulls an image after all."""


def specification(layout: Layout, tools: Mapping[str, Path]) -> dict[str, Any]:
    """What the supervisor is to do. `fingerprint` covers what makes a running node another one than is wanted."""
    size = network.mtu()
    bridge_filter = Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists() or succeeds(
        ["modprobe", "br_netfilter"]
    )
    snapshotter = "overlayfs" if overlay_works(layout.folder) else "native"
    files = {
        "containerd.toml": components.containerd_config(layout, cni=cni_folder() or Path(), snapshotter=snapshotter),
        "cni/attune.conflist": components.cni_config(layout, mtu=size),
        "kubelet.json": components.kubelet_config(layout),
        "kube-proxy.json": components.kube_proxy_config(layout, bridge_filter=bridge_filter),
    }
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    parts = [asdict(part) for part in components.components(layout, tools, environment=environment)]
    basis = [
        files,
        [(part["name"], part["argv"][1:], part["needs"]) for part in parts],
        sorted(map(str, tools.values())),
    ]
    # Not part of the fingerprint: what may change while a cluster runs (name servers, the Python that runs this).
    variable = {
        "resolv.conf": "".join(f"nameserver {server}\n" for server in network.name_servers()) or "# none outside\n",
        "Corefile": components.corefile(layout, upstream=network.name_servers()),
        "provisioner.json": json.dumps(
            {
                "server": layout.server,
                "authority": str(layout.pki / "ca.crt"),
                "certificate": str(layout.pki / "admin.crt"),
                "key": str(layout.pki / "admin.key"),
                "volumes": str(layout.volumes),
            }
        ),
    }
    plan = layout.network
    return {
        "fingerprint": hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest(),
        "files": files | variable,
        "private": {str(target): str(source) for target, source in layout.private().items()},
        "resolver": str(layout.config / "resolv.conf"),
        "network": {
            "number": plan.number,
            "node": plan.node,
            "machine": plan.machine,
            "gateway": plan.gateway,
            "bridge_mac": plan.bridge_mac,
            "pods": plan.pods,
            "mtu": size,
        },
        "logs": str(layout.settings.logs),
        "status": str(layout.folder / "components.json"),
        "components": parts,
    }


def prepare(layout: Layout, spec: dict[str, Any]) -> None:
    """Write configuration, and certificates where there are none yet."""
    for folder in (*layout.private().values(), layout.volumes, layout.config / "cni", layout.settings.logs / "pods"):
        folder.mkdir(parents=True, exist_ok=True)
    layout.folder.chmod(0o711)  # keys are inside; volumes must be reachable for pods that run as anybody
    for name, text in spec["files"].items():
        (layout.config / name).write_text(text)
    if not (layout.pki / "complete").exists():
        _certificates(layout)


def _certificates(layout: Layout) -> None:
    pki, plan = layout.pki, layout.network
    shutil.rmtree(pki, ignore_errors=True)
    ca, front_proxy, etcd = (authority(pki, name) for name in ("ca", "front-proxy-ca", "etcd-ca"))
    service_account_key(pki)
    service = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{components.DOMAIN}",
    ]
    addresses = [plan.node, plan.api_service, plan.gateway, "127.0.0.1"]
    issue(ca, pki, "apiserver", user="kube-apiserver", server=True, names=[*service, "localhost"], addresses=addresses)
    issue(ca, pki, "kubelet-server", user=NODE, server=True, names=[NODE], addresses=[plan.node, "127.0.0.1"])
    issue(ca, pki, "apiserver-kubelet", user="kube-apiserver-kubelet-client", group="system:masters")
    issue(front_proxy, pki, "front-proxy", user="front-proxy")
    issue(etcd, pki, "etcd", user="etcd", server=True, addresses=["127.0.0.1"])
    issue(etcd, pki, "etcd-client", user="kube-apiserver")
    users = {
        "kube-controller-manager": issue(ca, pki, "controllers", user="system:kube-controller-manager"),
        "kube-scheduler": issue(ca, pki, "scheduler", user="system:kube-scheduler"),
        "kube-proxy": issue(ca, pki, "proxy", user="system:kube-proxy"),
        "kubelet": issue(ca, pki, "kubelet", user=f"system:node:{NODE}", group="system:nodes"),
        "coredns": issue(ca, pki, "coredns", user="system:coredns"),
    }
    for name, client in users.items():
        file = layout.config / f"{name}.kubeconfig"
        kubeconfig(file, server=layout.server, authority=ca.certificate, client=client, name="attune")
    issue(ca, pki, "admin", user="attune-admin", group="system:masters")
    (pki / "complete").touch()


def write_admin_kubeconfig(layout: Layout) -> None:
    """`.cluster/kubeconfig`, complete in itself."""
    admin = Pair.named(layout.pki, "admin")
    authority = layout.pki / "ca.crt"
    path = layout.settings.kubeconfig
    kubeconfig(path, server=layout.server, authority=authority, client=admin, name="attune", embed=True)


def start(layout: Layout, spec: dict[str, Any]) -> None:
    """Make the namespaces and start the supervisor in them; returns once it is tied to the machine's network."""
    settings = layout.settings
    _make_mount_points(layout)
    cgroups.make(layout.cgroup.lstrip("/"))
    file = spec_file(settings)
    file.write_text(json.dumps(spec, indent=2))
    log = settings.logs / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    unshare = [
        "unshare",
        "--fork",
        "--kill-child",
        "--pid",
        "--mount",
        "--net",
        "--propagation",
        "private",
        "--mount-proc",
    ]
    with log.open("ab") as output:
        outer = subprocess.Popen(
            [*unshare, sys.executable, "-m", "attune_cluster.supervisor", str(file)],
            env=os.environ | {MARK: settings.mark, "PYTHONPATH": str(PACKAGE.parent), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
        )
    here = Path("/proc/self/ns/net").readlink()

    def first() -> int | None:
        for pid in children(outer.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/ns/net").readlink() != here:
                    return pid
        return None

    wait_until(lambda: first() is not None or outer.poll() is not None, seconds=10, interval=0.02)
    pid = first()
    identity = Identity.of(pid) if pid is not None else None
    if pid is None or identity is None:
        raise ClusterError(f"The node's namespaces could not be made: {last_line(log)} (the log is {log}).")
    identity.write(supervisor_record(settings))
    record = settings.state / "network.json"
    network.connect(layout.network, settings.identity, namespace_of=pid, mtu=spec["network"]["mtu"], record=record)


def supervisor(settings: Settings) -> Identity | None:
    """The node's first process, if it runs."""
    return running(supervisor_record(settings))


def inside(settings: Settings) -> list[str]:
    """What to put before a command to run it inside the node."""
    identity = supervisor(settings)
    if identity is None:
        raise ClusterError("The local cluster does not run: `make cluster` starts it.")
    return ["nsenter", f"--target={identity.pid}", "--mount", "--net", "--pid", "--"]


def stop(settings: Settings) -> None:
    """End the node and undo what it changed on the machine; whatever is gone already is fine."""
    end_recorded(supervisor_record(settings))
    stubborn = end_marked(settings.mark)  # a start that was killed before it could record anything
    if stubborn:
        raise ClusterError(f"Processes {stubborn} of the local cluster can't be ended; they hang in the kernel.")
    network.disconnect(settings.identity, record=settings.state / "network.json")
    left = cgroups.remove(settings.mark)
    for top in left:
        for group in top.rglob("cgroup.procs"):
            for pid in map(int, group.read_text().split()):
                end(pid, lambda: True)
    if left and cgroups.remove(settings.mark):
        raise ClusterError(f"The control groups {', '.join(map(str, left))} can't be removed: something runs in them.")
    _remove_mount_points(settings)


def discard(settings: Settings) -> None:
    """Forget the cluster's content: objects, containers, images, volumes, certificates."""
    shutil.rmtree(node_folder(settings), ignore_errors=True)
    for file in (spec_file(settings), settings.kubeconfig):
        file.unlink(missing_ok=True)


def _made_record(settings: Settings) -> Path:
    return settings.cache / "mount-points.json"


def _make_mount_points(layout: Layout) -> None:
    """The folders that private ones are mounted over have to exist on the machine; those made here are recorded first.

    All clusters of the machine share them, so the record is in the cache, which they share too.
    """
    absent = [str(target) for target in layout.private() if not target.exists()]
    record = _made_record(layout.settings)
    if absent:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(sorted({*absent, *_made(record)})))
    for target in absent:
        Path(target).mkdir(parents=True, exist_ok=True)


def _made(record: Path) -> list[str]:
    try:
        made: list[str] = json.loads(record.read_text())
    except (OSError, ValueError):
        return []
    return made


def _remove_mount_points(settings: Settings) -> None:
    """Remove those folders with the last cluster: removing one would take another node's mount on it away."""
    record = _made_record(settings)
    if marks():
        return
    for target in _made(record):
        with contextlib.suppress(OSError):  # not empty: somebody uses it by now
            Path(target).rmdir()
    record.unlink(missing_ok=True)
