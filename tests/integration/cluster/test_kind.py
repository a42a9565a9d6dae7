"""The real kind and the real Docker engine, where they are: a cluster that survives what happens to its containers."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from attune_cluster import docker
from attune_cluster.settings import PACKAGE

REASON = docker.problem()
pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(REASON is not None, reason=f"needs a Docker engine: {REASON}"),
]


class Checkout:
    """A checkout of its own with a kind cluster of its own."""

    def __init__(self, folder: Path) -> None:
        self.name = f"attune-test-{uuid.uuid4().hex[:6]}"
        self.folder = folder

    def run(self, call: str) -> "subprocess.CompletedProcess[str]":
        program = (
            "from pathlib import Path; from attune_cluster import kind; from attune_cluster.settings import Settings\n"
            f"settings = Settings.from_environment(repository=Path({str(self.folder)!r}))\n"
            f"print(kind.{call}(settings))"
        )
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "KIND_CLUSTER": self.name}
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=600, check=False
        )

    def kubectl(self, *arguments: str) -> str:
        kubeconfig = self.folder / ".cluster" / "kubeconfig"
        command = ["kubectl", f"--kubeconfig={kubeconfig}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    made = Checkout(tmp_path)
    yield made
    made.run("down")


def test_a_cluster_keeps_what_is_in_it_over_restarts_of_its_containers(checkout: Checkout) -> None:
    done = checkout.run("up")
    assert done.returncode == 0, done.stderr
    checkout.kubectl("create", "configmap", "precious", "--from-literal=a=b")
    container = docker.containers(checkout.name)[0]
    for action in (["restart", container.id], ["stop", container.id]):
        subprocess.run(["docker", *action], check=True, capture_output=True, timeout=120)
        done = checkout.run("up")
        assert done.returncode == 0, done.stderr
        assert docker.containers(checkout.name)[0].id == container.id
        assert "precious" in checkout.kubectl("get", "configmaps", "-o", "name")
    assert checkout.run("down").returncode == 0
    assert docker.containers(checkout.name) == []
