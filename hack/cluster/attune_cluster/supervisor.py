"""The first process inside the node's namespaces: it prepares them, then keeps the node's programs running.

It is process 1 of a process namespace of its own. When it ends, for whatever reason, the kernel ends every process of
the node, containers included, and with the last of them go the node's mounts, network interfaces and firewall rules.
So a killed run leaves nothing behind, and nothing has to search for leftovers.

Started as `python3 -m attune_cluster.supervisor SPEC`; SPEC is the JSON that `node.specification` writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOG_LIMIT = 20 * 1024 * 1024
"""Size in bytes above which a component's log is rotated when it (re)starts; one older log is kept."""
KUBELET_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet insists on. They belong to the whole machine, and a development cluster has no business setting them."""
BACKOFF = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before the first, second, … restart of a component that keeps ending."""
STEADY = 30.0
"""Seconds a component must have run for its next end to count as its first."""


@dataclass
class Child:
    """One component: what it is, and how it is doing."""

    name: str
    argv: list[str]
    needs: list[str]
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    started: float = 0.0
    failures: int = 0
    due: float = 0.0
    ended: str = field(default="")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def private_mounts(spec: dict[str, Any]) -> None:
    """Give the node its own /run and its own copies of the folders that programs have built in."""
    resolver = Path("/etc/resolv.conf").resolve()
    _run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run")
    for target, source in spec["private"].items():
        _run("mount", "--bind", source, target)
    resolver.parent.mkdir(parents=True, exist_ok=True)
    if not resolver.exists():  # it was in /run
        resolver.touch()
    _run("mount", "--bind", spec["resolver"], str(resolver))
    # Kubelet is shown files that already say what it would write; the kernel's own values stay as they are.
    for name, value in KUBELET_SYSCTLS.items():
        shown = Path("/run/attune-sysctl", name)
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.write_text(f"{value}\n")
        if Path("/proc/sys", name).exists():
            _run("mount", "--bind", str(shown), f"/proc/sys/{name}")
    # So that kubelet may offer mount propagation to pods; the propagation ends at this namespace.
    _run("mount", "--make-rshared", "/")


def network(spec: dict[str, Any]) -> None:
    """Wait for the link that the machine's side moves in here, then make the bridge and the rule for the way out."""
    deadline = time.monotonic() + 120
    while subprocess.run(["ip", "link", "show", "eth0"], capture_output=True, check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise SystemExit("the link to the machine did not appear within 120 s: the starting process was ended")
        time.sleep(0.05)
    plan = spec["network"]
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{plan['node']}/30", "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")
    _run("ip", "route", "add", "default", "via", plan["machine"])
    _run("ip", "link", "add", "cni0", "address", plan["bridge_mac"], "mtu", str(plan["mtu"]), "type", "bridge")
    _run("ip", "address", "add", f"{plan['gateway']}/24", "dev", "cni0")
    _run("ip", "link", "set", "cni0", "up")
    _run("iptables", "-w", "-t", "nat", "-A", "POSTROUTING", "-s", plan["pods"], "-o", "eth0", "-j", "MASQUERADE")
    settings = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}
    for name, value in settings.items():
        with contextlib.suppress(OSError):
            Path("/proc/sys", name).write_text(value)


def answers(address: str) -> bool:
    """Whether something accepts connections at `host:port` or at a socket's path, or an `https` URL answers with success."""
    if address.startswith("https:"):
        unverified = ssl.SSLContext(
            ssl.PROTOCOL_TLS_CLIENT
        )  # only asks whether it is ready: nothing is sent or believed
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=unverified)
        )
        try:
            direct.open(address, timeout=2).close()
        except OSError:
            return False
        return True
    family = socket.AF_UNIX if address.startswith("/") else socket.AF_INET
    host, _, port = address.rpartition(":")
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(address if family == socket.AF_UNIX else (host, int(port)))
        except OSError:
            return False
    return True


class Supervisor:
    """Starts the components in order, restarts what ends, and reports what it sees in a status file."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.logs = Path(spec["logs"])
        self.status = Path(spec["status"])
        self.children = [
            Child(name=c["name"], argv=c["argv"], needs=c["needs"], env=c["env"]) for c in spec["components"]
        ]

    def start(self, child: Child) -> None:
        """Start one component; its log goes on where the last run's ended."""
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{child.name}.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            try:
                child.process = subprocess.Popen(
                    child.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=os.environ | child.env,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as problem:
                output.write(f"can't be started: {problem}\n".encode())
                self.ended(child, f"can't be started: {problem}")
                return
        child.starts += 1
        child.started = time.monotonic()

    def ended(self, child: Child, how: str) -> None:
        """Note that a component ended, and when it is due again."""
        if time.monotonic() - child.started > STEADY:
            child.failures = 0
        child.due = time.monotonic() + BACKOFF[min(child.failures, len(BACKOFF) - 1)]
        child.failures += 1
        child.process = None
        child.ended = how

    def reap(self) -> bool:
        """Collect ended processes: components, and orphans that only process 1 can collect."""
        any_ended = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return any_ended
            if pid == 0:
                return any_ended
            for child in self.children:
                if child.process is not None and child.process.pid == pid:
                    code = os.waitstatus_to_exitcode(status)
                    child.process.returncode = code
                    self.ended(child, f"signal {-code}" if code < 0 else f"status {code}")
                    any_ended = True

    def report(self) -> None:
        """Write the status file, atomically."""
        content = {
            child.name: {"running": child.process is not None, "starts": child.starts, "ended": child.ended}
            for child in self.children
        }
        temporary = self.status.with_name(f".{self.status.name}.new")
        temporary.write_text(json.dumps(content))
        temporary.replace(self.status)

    def run(self) -> None:
        """Forever: start what is due and whose needs answer; sleep until a child ends or a little while has passed."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        # A pipe rather than a blocked signal and sigtimedwait: children would inherit the block, and containerd's shims
        # would never hear that a container ended.
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        while True:
            changed = self.reap()
            waiting = False
            for child in self.children:
                if child.process is not None:
                    continue
                if time.monotonic() >= child.due and all(answers(need) for need in child.needs):
                    self.start(child)
                    changed = True
                waiting = waiting or child.process is None
            if changed:
                with contextlib.suppress(OSError):  # somebody removed the folder: go on, `up` will find out
                    self.report()
            if select.select([reader], [], [], 0.1 if waiting else 5.0)[0]:
                os.read(reader, 4096)


def main() -> None:
    """Prepare the namespaces and supervise."""
    spec: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a shell's 1024 is little for etcd and for containers
    private_mounts(spec)
    network(spec)
    Supervisor(spec).run()


if __name__ == "__main__":
    main()
