"""etcd and kube-apiserver alone, on loopback, for integration tests: real API, real RBAC, real tokens, no node.

    with ApiServer(tmp_path) as server:
        client = config.new_client_from_config(config_file=str(server.kubeconfig))

Needs no root, and is ready after a few seconds. What it starts ends with it, also when the test is killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from .api import Api
from .certificates import Pair, authority, issue, kubeconfig, service_account_key
from .commands import last_line, which
from .console import ClusterError, wait_until
from .settings import Settings
from .supervisor import answers
from .tools import tools

PATIENCE = 180.0
"""Seconds until a start counts as failed: far more than it takes, as a busy machine is no failure."""


PORTS = range(12_000, 20_000)
"""Where ports are taken from: not those that the system gives to outgoing connections, which may get one while its server is
down or has not begun to listen."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now, and that no outgoing connection gets."""
    for port in random.SystemRandom().sample(PORTS, 1000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise ClusterError(f"There is no free port of loopback in {PORTS.start} to {PORTS.stop - 1}.")


def _ends_with_us() -> list[str]:
    """What to put before a command so that the kernel ends it when the thread that started it ends, where there is that."""
    setpriv = which("setpriv")
    return [str(setpriv), "--pdeathsig=KILL", "--"] if setpriv is not None else []


class ApiServer:
    """One etcd and one kube-apiserver; start it from a thread that outlives it (a test's main thread).

    `data_dir` keeps certificates, logs and etcd's data, so that `stop` and `start` again go on with the same objects,
    address and credentials. With `port=0` a free one is taken. With `controllers` kube-controller-manager runs too
    (garbage collection, Deployments, ServiceAccounts); without it Pods may be made without a ServiceAccount.
    """

    def __init__(self, data_dir: Path, *, port: int = 0, controllers: bool = False) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port or free_port()
        self.controllers = controllers
        self.server = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = self.data_dir / "kubeconfig"
        self.authority = self.data_dir / "pki" / "ca.crt"
        self.admin = Pair.named(self.data_dir / "pki", "admin")
        self.etcd = ""
        """Where etcd takes requests (host:port), once it was started."""
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        wanted = ["etcd", "kube-apiserver", *(["kube-controller-manager"] if controllers else [])]
        self._programs = tools(Settings.from_environment(), wanted)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until the API server is ready."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            self.etcd = self._start_etcd()
            self._prepare()
            self._start_apiserver(self.etcd)
            self._start_controllers()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything that `start` started, the last first."""
        for name in reversed(list(self._running)):
            self.kill(name, number=signal.SIGKILL)

    def kill(self, name: str, *, number: signal.Signals = signal.SIGKILL) -> None:
        """End one of the programs (`kube-apiserver`, say), to see what its clients do."""
        process = self._running.pop(name, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            process.wait()

    def api(self) -> Api:
        """A small client with all rights."""
        return Api(self.server, authority=self.authority, client=self.admin)

    def _prepare(self) -> None:
        pki = self.data_dir / "pki"
        if self.kubeconfig.exists():
            return
        ca = authority(pki, "ca")
        service_account_key(pki)
        names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        issue(
            ca, pki, "apiserver", user="kube-apiserver", server=True, names=names, addresses=["127.0.0.1", "10.0.0.1"]
        )
        issue(ca, pki, "admin", user="attune-admin", group="system:masters")
        kubeconfig(
            self.kubeconfig, server=self.server, authority=ca.certificate, client=self.admin, name="attune", embed=True
        )

    def _launch(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = self.data_dir / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*_ends_with_us(), str(self._programs[name]), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.data_dir)},
                start_new_session=True,
            )
        self._running[name] = process
        return process

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        process = self._running[name]
        wait_until(lambda: process.poll() is not None or ready(), seconds=PATIENCE, interval=0.05)
        if process.poll() is not None or not ready():
            log = self.data_dir / f"{name}.log"
            raise ClusterError(f"{name} did not become ready: {last_line(log)} (the log is {log}).")

    def _start_etcd(self) -> str:
        """Start etcd on free ports; another process may take one first, so a failed start is tried again with others."""
        for attempt in range(5):
            client, peer = (f"127.0.0.1:{free_port()}" for _ in range(2))
            self._launch(
                "etcd",
                f"--data-dir={self.data_dir / 'etcd'}",
                "--unsafe-no-fsync",
                f"--listen-client-urls=http://{client}",
                f"--advertise-client-urls=http://{client}",
                f"--listen-peer-urls=http://{peer}",
                "--log-level=warn",
            )
            try:
                self._await("etcd", lambda address=client: answers(address))  # type: ignore[misc]
            except ClusterError:
                self.kill("etcd")
                if attempt == 4:
                    raise
            else:
                return client
        raise AssertionError

    def _start_apiserver(self, etcd: str) -> None:
        pki = self.data_dir / "pki"
        # Its controller gives a namespace's ServiceAccount; where it doesn't run the admission would refuse every pod.
        without = [] if self.controllers else ["--disable-admission-plugins=ServiceAccount"]
        self._launch(
            "kube-apiserver",
            f"--etcd-servers=http://{etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki / 'service-accounts.key'}",
            f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            *without,
        )
        self._await("kube-apiserver", self.api().ready)

    def _start_controllers(self) -> None:
        if not self.controllers:
            return
        pki = self.data_dir / "pki"
        self._launch(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--service-account-private-key-file={pki / 'service-accounts.key'}",
            "--use-service-account-credentials=true",
            # Its default, 20 requests a second, would let one test's many objects hold up the next one's few.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        )
        self._await("kube-controller-manager", self._default_account)

    def _default_account(self) -> bool:
        try:
            self.api().request("GET", "/api/v1/namespaces/default/serviceaccounts/default")
        except Exception:
            return False
        return True
