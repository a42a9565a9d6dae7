"""The chart by the real helm: rendered, and on a real API server."""

import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from attune_cluster.settings import Settings
from attune_cluster.tools import tools

CHART: Final = Path(__file__).parents[2] / "deploy" / "helm" / "attune"
Manifest = dict[str, Any]


def helm(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run helm. With ``check``, a failure is an error that has what helm said."""
    program = tools(Settings.from_environment(), ["helm"])["helm"]
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=300, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"helm {arguments[0]}: {done.stderr}")
    return done


def sets(*values: str) -> list[str]:
    """Values as arguments of helm, like ``api.replicas=2``."""
    return [part for value in values for part in ("--set", value)]


def template(*values: str, namespace: str = "attune-system") -> list[Manifest]:
    """The manifests of a release ``attune`` with these values."""
    text = helm("template", "attune", str(CHART), "--namespace", namespace, *sets(*values)).stdout
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def refusal(*values: str) -> str:
    """What helm says about values that it does not take."""
    done = helm("template", "attune", str(CHART), "--namespace", "attune-system", *sets(*values), check=False)
    assert done.returncode != 0, f"helm takes {values}"
    return done.stderr


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pod templates by their component: operator, api, actions, nats."""
    return {
        m["metadata"]["name"].rpartition("-")[2]: m["spec"]["template"]
        for m in manifests
        if "template" in m.get("spec", {})
    }
