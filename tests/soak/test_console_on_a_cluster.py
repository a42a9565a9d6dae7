"""The console of the installed chart in a real Chromium, by the cluster's own RBAC.

By hand: ``make cluster``, then ``.venv/bin/pytest tests/soak/test_console_on_a_cluster.py``. It needs Debian's chromium
(``apt-get install chromium``). Pictures are in ``.cache/console/``.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.attune_up import ATTUNE
from support.console_browser import Visit
from support.console_checks import ConsoleChecks, RightsChecks, RightsStage, Stage, rules
from support.kubectl import Kubectl
from support.pods import pod
from support.system import SYSTEM, Api, System, temporary_namespace
from support.system_fixtures import VALUES

from attune_cluster.settings import Settings
from attune_demo import system as installed
from attune_demo.kube import Kube

pytest_plugins = ["support.console_fixtures"]

RBAC = "rbac.authorization.k8s.io"
PORT = 8000
#: Answers 500 as long as there is no file ``/tmp/mended``.
TARGET = f"""
import pathlib
from http.server import BaseHTTPRequestHandler, HTTPServer

class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200 if pathlib.Path("/tmp/mended").exists() else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()

HTTPServer(("", {PORT}), Hook).serve_forever()
"""


@contextmanager
def attune_ui(kubeconfig: Path) -> Iterator[str]:
    """A running ``attune ui``; yields the link that it printed."""
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    command = [str(ATTUNE), "ui", "--no-open"]
    with subprocess.Popen(
        command, cwd=kubeconfig.parent, env=environment, text=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            link = process.stdout.readline().strip()
            assert link, f"attune ui ended with {process.wait(60)}"
            yield link
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def bind(kube: Kubectl, account: str, role: str, *, home: str, namespace: str | None) -> None:
    """Make a ServiceAccount, and give it a ClusterRole in a namespace, or in all."""
    metadata = {"name": account, "namespace": home}
    subject = {"kind": "ServiceAccount", **metadata}
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "metadata": {"name": f"{home}-{account}", **({"namespace": namespace} if namespace else {})},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }
    kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}, binding)


@dataclass(kw_only=True)
class Installed(Stage, RightsStage):
    """The chart's console, through ``attune ui``."""

    def token(self) -> str:
        return self.kube("create", "token", "editor", "-n", self.one, "--duration=1h").strip()

    @contextmanager
    def link(self) -> Iterator[str]:
        with attune_ui(self.kube.kubeconfig) as link:
            yield link

    @contextmanager
    def mended(self) -> Iterator[None]:
        run = ("exec", "target", "-n", self.one, "--")
        self.kube(*run, "touch", "/tmp/mended")
        try:
            yield
        finally:
            self.kube(*run, "rm", "/tmp/mended")

    def reader(self, name: str) -> str:
        bind(self.kube, name, "view", home=self.one, namespace=self.one)
        return self.kube("create", "token", name, "-n", self.one, "--duration=1h").strip()

    def withdraw(self, name: str) -> None:
        self.kube.delete("serviceaccount", name, self.one)


@pytest.fixture(scope="module")
def console(pack: None, kube: Kubectl) -> Iterator[None]:
    """The chart with the console, which it is without elsewhere."""
    cluster, repository = Kube.of_checkout(Settings.from_environment()), Path(__file__).parents[2]
    installed.install(cluster, repository, *VALUES, "--set", "api.console.enabled=true")
    yield
    installed.install(cluster, repository, *VALUES)


@pytest.fixture(scope="module")
def stage(console: None, kube: Kubectl, api: Api) -> Iterator[Installed]:
    with temporary_namespace(kube) as one, temporary_namespace(kube) as other:
        made = pod(System(kube, api).pack_sensor()["spec"]["image"], "target", ["python", "-c", TARGET])
        made["metadata"]["namespace"] = one
        kube.apply(made)
        kube("wait", "--for=condition=Ready", "pod/target", "-n", one, "--timeout=120s")
        address = kube.get("pod", "target", one)["status"]["podIP"]
        kube.apply(*rules(one, other, f"http://{address}:{PORT}/hook"))
        bind(kube, "editor", "edit", home=one, namespace=None)
        try:
            with attune_ui(kube.kubeconfig) as link:
                yield Installed(url=link.partition("/console")[0], kube=kube, one=one, other=other)
        finally:
            kube("delete", "clusterrolebinding", f"{one}-editor", "--ignore-not-found")


@pytest.fixture(scope="module")
def rights_stage(stage: Installed) -> RightsStage:
    return stage


class TestConsole(ConsoleChecks):
    """In a cluster."""

    def test_the_sensor_s_page_shows_its_pod(self, window: Visit, stage: Stage) -> None:
        pods = stage.kube.list("pods", SYSTEM, "attune.dev/sensor=core.timer")
        page = window.open("/sensors/attune-system/core.timer")
        page.get_by_text(pods[0]["metadata"]["name"]).wait_for()


class TestRights(RightsChecks):
    """By the cluster's RBAC."""
