"""The command line against the installed system: kubeconfig, port-forward, tokens, `kubectl attune`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.eventually import eventually
from support.kubectl import Kubectl
from support.system import SYSTEM, System

PROGRAMS = Path(sys.executable).parent


class CommandLine:
    """`attune` as a program, with the cluster's kubeconfig and nothing else of this machine."""

    def __init__(self, kube: Kubectl) -> None:
        path = f"{PROGRAMS}{os.pathsep}{kube.kubectl.parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {"PATH": path, "HOME": "/nonexistent", "KUBECONFIG": str(kube.kubeconfig)}

    def __call__(self, *arguments: str, code: int = 0, program: tuple[str, ...] = ("attune",)) -> str:
        done = subprocess.run(
            [*program, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            env=self.environment,
            cwd="/",
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--output", "json"))


@pytest.fixture
def attune(kube: Kubectl, pack: None) -> CommandLine:
    return CommandLine(kube)


def test_sensors_and_rules_are_looked_at_and_rules_switched(attune: CommandLine, system: System) -> None:
    rule = system.rule("switched", parameters={"interval": 1, "unit": "seconds"})
    rule.wait_condition("Active", "True")
    assert "core.timer" in attune("sensors", "list", "-n", SYSTEM)
    [listed] = attune.json("rules", "list", "-n", system.namespace)["items"]
    assert listed["status"]["sensor"] == f"{SYSTEM}/core.timer"
    assert "is stopped" in attune("rules", "disable", f"{system.namespace}/switched", "--wait")
    assert rule.condition("Active")["reason"] == "Disabled"
    assert "is active" in attune("rules", "enable", "switched", "-n", system.namespace, "--wait")


def test_events_are_followed_by_port_forward_with_a_certificates_kubeconfig(
    attune: CommandLine, system: System
) -> None:
    """The local cluster's kubeconfig holds a certificate, so a token of the ServiceAccount attune-cli is asked for."""
    rule = system.rule("followed", parameters={"interval": 1, "unit": "seconds"})
    rule.wait_events(lambda events: len(events) >= 2, within=30)
    lines = attune(
        "events", "list", "--follow", "--count", "5", "--limit", "2", "-n", system.namespace, "--output", "json"
    ).splitlines()
    counts = [json.loads(line)["payload"]["k"] for line in lines]
    assert counts == list(range(counts[0], counts[0] + 5))


def test_a_rules_history_says_what_became_of_it(attune: CommandLine, system: System) -> None:
    rule = system.rule("remembered", parameters={"interval": 1, "unit": "hours"})
    rule.wait_condition("Active", "True")
    attune("rules", "disable", f"{system.namespace}/remembered", "--wait")

    def written() -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = attune.json("rules", "history", f"{system.namespace}/remembered")["data"]
        assert [entry["type"] for entry in entries] == ["created", "disabled"]
        return entries

    # The operator writes the history after all that a Rule waits for.
    assert eventually(written, within=30)[-1]["changed_by"] == "attune-cli"


def test_status_finds_the_system_well(attune: CommandLine, system: System) -> None:
    def well() -> bool:
        found = json.loads(attune("status", "-n", SYSTEM, "--output", "json"))
        states = {check["name"]: check["state"] for check in found["checks"]}
        assert found["ok"], found
        wanted = {"Cluster": "ok", "operator": "ok", "API": "ok", "NATS": "ok", "Sensors": "ok"}
        return wanted.items() <= states.items()

    # Tests before this one may have restarted parts of it.
    eventually(well, within=60, what="the system is well")


def test_a_sensors_own_token_is_inspected(attune: CommandLine, kube: Kubectl, tmp_path: Path, pack: None) -> None:
    file = tmp_path / "token"

    def good() -> bool:
        template = "go-template={{.data.token | base64decode}}"
        file.write_text(kube("get", "secret", "sensor-core.timer", "-n", SYSTEM, "-o", template))
        found = attune.json("token", "inspect", str(file))
        assert (found["login"], found["signature"]) == (f"sensor:{SYSTEM}/core.timer", "good")
        return found["accepted"] is True

    # Tests before this one replace the signing keys.
    eventually(good, within=60, what="the token in the Secret is taken")


def test_it_is_a_plugin_of_kubectl(attune: CommandLine, kube: Kubectl, system: System) -> None:
    kubectl = (str(kube.kubectl), "attune")
    assert "core.timer" in attune("sensors", "list", "-n", SYSTEM, program=kubectl)
    assert "Usage: kubectl attune" in attune("--help", program=kubectl)
