"""``attune sensors`` and ``attune rules`` against a real kube-apiserver, by kubeconfig."""

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli import answer, attune
from support.definitions import definitions_served
from support.eventually import eventually

from attune_cli.errors import ExitCode
from attune_cli.targets import kube
from attune_cluster.apiserver import ApiServer

pytestmark = pytest.mark.apiserver

REPOSITORY = Path(__file__).parents[3]
_ATTUNE = "/apis/attune.dev/v1alpha1"


class Cluster:
    """Somebody with all rights, and what the operator would write."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.request = server.api().request
        self.flags = ("--kubeconfig", str(server.kubeconfig))

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        plural = f"{body['kind'].lower()}s"
        path = f"{_ATTUNE}/namespaces/{body['metadata']['namespace']}/{plural}"
        made: dict[str, Any] = self.request("POST", path, body)
        return made

    def rule(self, namespace: str, name: str, **spec: Any) -> dict[str, Any]:
        trigger = {"type": "core.intervaltimer", "parameters": {"interval": 1, "unit": "seconds"}}
        return self.create(
            {
                "apiVersion": "attune.dev/v1alpha1",
                "kind": "Rule",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"trigger": trigger, **spec},
            }
        )

    def get(self, plural: str, namespace: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.request("GET", f"{_ATTUNE}/namespaces/{namespace}/{plural}/{name}")
        return found

    def say(self, plural: str, namespace: str, name: str, **status: Any) -> None:
        """Write a status as the operator does."""
        body = self.get(plural, namespace, name)
        body["status"] = status
        self.request("PUT", f"{_ATTUNE}/namespaces/{namespace}/{plural}/{name}/status", body)


def said(kind: str, status: str, reason: str, message: str = "", generation: int = 1) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-24T06:00:00Z",
        "observedGeneration": generation,
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ApiServer(tmp_path_factory.mktemp("kubernetes")) as server:
        cluster = Cluster(server)
        definitions_served(server.api())
        for namespace in ("attune-system", "team-a", "team-b"):
            cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        cluster.create(yaml.safe_load((REPOSITORY / "packs" / "core" / "core.timer.yaml").read_text()))
        cluster.say(
            "sensors",
            "attune-system",
            "core.timer",
            observedGeneration=1,
            conditions=[said("Ready", "True", "Available", "1 of 1 pods are ready.")],
            rules={"bound": 2, "active": 1, "rejected": 0},
            token={"keyId": "key-7", "expiresAt": "2099-01-01T00:00:00Z", "rotatesAt": "2098-01-01T00:00:00Z"},
        )
        cluster.rule("team-a", "fires")
        cluster.say(
            "rules",
            "team-a",
            "fires",
            sensor="attune-system/core.timer",
            conditions=[said("Accepted", "True", "Accepted"), said("Active", "True", "Active")],
        )
        cluster.rule("team-a", "waits")
        cluster.say(
            "rules",
            "team-a",
            "waits",
            sensor="attune-system/core.timer",
            conditions=[
                said("Accepted", "True", "Accepted"),
                said("Active", "False", "AwaitingSensor", "The sensor has not answered yet."),
            ],
        )
        cluster.rule("team-b", "off", enabled=False)
        yield cluster


def test_sensors_are_listed_with_their_state(cluster: Cluster) -> None:
    lines = attune("sensors", "list", "-A", *cluster.flags).stdout.splitlines()
    assert re.split(" {3,}", lines[0])[1:] == [
        "NAME",
        "READY",
        "REASON",
        "RULES",
        "ACTIVE",
        "LAST EVENT",
        "TOKEN EXPIRES",
        "AGE",
    ]
    assert lines[1].split()[:6] == ["attune-system", "core.timer", "True", "Available", "2", "1"]
    assert len(lines) == 2


def test_the_status_of_a_namespace_names_the_sensor_elsewhere_that_cannot_work(cluster: Cluster) -> None:
    path = f"{_ATTUNE}/namespaces/attune-system/sensors/core.timer"
    before = cluster.request("GET", path)["status"]
    assert "serves your Rules" not in attune("status", "-n", "team-a", *cluster.flags, code=ExitCode.PROBLEM).stdout
    unwell = said("Healthy", "False", "ApiUnavailable", "cannot reach http://attune-api")
    cluster.say("sensors", "attune-system", "core.timer", **{**before, "conditions": [*before["conditions"], unwell]})
    try:
        text = attune("status", "-n", "team-a", *cluster.flags, code=ExitCode.PROBLEM).stdout
        assert "Sensor attune-system/core.timer" in text
        assert "it serves your Rules. Healthy: cannot reach http://attune-api" in " ".join(text.split())
        everywhere = attune("status", "-A", *cluster.flags, code=ExitCode.PROBLEM).stdout
        assert "serves your Rules" not in everywhere, "it is among the Sensors already"
        assert "Healthy: cannot reach http://attune-api" in " ".join(everywhere.split())
    finally:
        cluster.say("sensors", "attune-system", "core.timer", **before)


def test_the_namespace_is_the_contexts_unless_one_is_named(cluster: Cluster) -> None:
    done = attune("sensors", "list", *cluster.flags)
    assert (done.stdout, done.stderr) == ("", "There are no Sensors in namespace default (-A shows all).\n")
    assert "core.timer" in attune("sensors", "list", "-n", "attune-system", *cluster.flags).stdout
    assert answer("sensors", "list", *cluster.flags)["items"] == []


def test_a_name_in_another_namespace_is_suggested(cluster: Cluster) -> None:
    done = attune("rules", "show", "waits", *cluster.flags, code=ExitCode.NOT_FOUND)
    assert done.stderr == "attune: There is no Rule default/waits. Did you mean team-a/waits?\n"
    done = attune("rules", "show", "default/waits", *cluster.flags, code=ExitCode.NOT_FOUND)
    assert done.stderr == "attune: There is no Rule default/waits.\n"


def test_a_sensor_shows_its_conditions_token_and_parameters(cluster: Cluster) -> None:
    text = attune("sensors", "show", "attune-system/core.timer", *cluster.flags).stdout
    assert "Ready=True (Available)" in text
    assert "1 of 1 pods are ready." in text
    assert "2 bound, 1 active, 0 rejected" in text
    assert "key key-7" in text
    assert "core.intervaltimer (also core.timer)" in text
    assert "interval (" in text
    body = answer("sensors", "show", "core.timer", "-n", "attune-system", *cluster.flags)
    assert body["spec"]["triggerTypes"][0]["name"] == "core.intervaltimer"
    assert "managedFields" not in body["metadata"]


def test_rules_are_listed_and_filtered(cluster: Cluster) -> None:
    def names(*arguments: str) -> list[str]:
        return [
            body["metadata"]["name"]
            for body in answer("rules", "list", *arguments, *cluster.flags)["items"]
            if body["metadata"]["namespace"].startswith("team-")
        ]

    assert names("-A") == ["fires", "waits", "off"]
    assert names("-n", "team-b") == ["off"]
    assert names("-A", "--problems") == ["waits"]
    assert names("-A", "--sensor", "attune-system/core.timer") == ["fires", "waits"]
    assert names("-A", "--type", "core.crontimer") == []
    line = next(line for line in attune("rules", "list", "-A", *cluster.flags).stdout.splitlines() if "waits" in line)
    assert line.split()[2:7] == ["core.intervaltimer", "attune-system/core.timer", "true", "False", "AwaitingSensor"]


def test_lists_come_whole_however_long(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "PAGE", 2)
    cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": "many"}})
    for number in range(5):
        cluster.rule("many", f"rule-{number}")
    assert len(answer("rules", "list", "-n", "many", *cluster.flags)["items"]) == 5


def test_a_rule_shows_why_it_does_not_run(cluster: Cluster) -> None:
    text = attune("rules", "show", "waits", "-n", "team-a", *cluster.flags).stdout
    assert "interval: 1" in text
    assert "Active=False (AwaitingSensor)" in text
    assert "The sensor has not answered yet." in text


def test_rules_are_switched_and_it_is_noted_by_whom(cluster: Cluster) -> None:
    cluster.rule("team-a", "switched")
    done = attune("rules", "disable", "team-a/switched", *cluster.flags)
    assert done.stdout == "Rule team-a/switched disabled.\n"
    body = cluster.get("rules", "team-a", "switched")
    assert body["spec"]["enabled"] is False
    assert any(entry["manager"] == "attune-cli" for entry in body["metadata"]["managedFields"])
    generation = body["metadata"]["generation"]
    assert "is already disabled" in attune("rules", "disable", "team-a/switched", *cluster.flags).stdout
    assert cluster.get("rules", "team-a", "switched")["metadata"]["generation"] == generation
    attune("rules", "enable", "team-a/switched", *cluster.flags)
    assert cluster.get("rules", "team-a", "switched")["spec"]["enabled"] is True


def test_waiting_ends_when_the_sensor_has_said_it_of_this_generation(cluster: Cluster) -> None:
    cluster.rule("team-a", "waited-for")
    state = {"conditions": [said("Active", "True", "Active")]}
    cluster.say("rules", "team-a", "waited-for", **state)

    def operator() -> None:
        eventually(lambda: not cluster.get("rules", "team-a", "waited-for")["spec"]["enabled"], within=60, every=0.01)
        generation = cluster.get("rules", "team-a", "waited-for")["metadata"]["generation"]
        stopped = said("Active", "False", "Disabled", "The rule is disabled.", generation)
        cluster.say("rules", "team-a", "waited-for", conditions=[stopped])

    thread = threading.Thread(target=operator)
    thread.start()
    done = attune("rules", "disable", "team-a/waited-for", "--wait", *cluster.flags)
    thread.join()
    assert done.stdout.splitlines()[-1] == "Rule team-a/waited-for is stopped."


def test_waiting_in_vain_says_what_is_in_the_way(cluster: Cluster) -> None:
    cluster.rule("team-a", "refused", enabled=False)
    rejected = said("Active", "False", "Rejected", "The sensor cannot do that.", 2)
    cluster.say("rules", "team-a", "refused", conditions=[rejected])
    done = attune("rules", "enable", "team-a/refused", "--wait", *cluster.flags, code=ExitCode.PROBLEM)
    assert "The sensor cannot do that." in done.stderr
    cluster.rule("team-a", "nobody-looks", enabled=False)
    done = attune(
        "rules", "enable", "team-a/nobody-looks", "--wait", "--timeout", "0", *cluster.flags, code=ExitCode.PROBLEM
    )
    assert "is the operator running?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("rules", "show", "team-a/nothing"), ExitCode.NOT_FOUND, "There is no Rule team-a/nothing."),
        (("rules", "enable", "a/b/c"), ExitCode.USAGE, "is not a name"),
        (("rules", "show", "team-a/fires", "-n", "team-b"), ExitCode.USAGE, "two different namespaces"),
        (("rules", "list", "-A", "-n", "team-a"), ExitCode.USAGE, "not both"),
        (("rules", "list", "--context", "other"), ExitCode.USAGE, "there are attune"),
        (("rules", "list", "-l", "=="), ExitCode.REJECTED, "refused"),
    ],
)
def test_what_goes_wrong_has_its_exit_status_and_a_sentence(
    cluster: Cluster, arguments: tuple[str, ...], code: ExitCode, text: str
) -> None:
    done = attune(*arguments, *cluster.flags, code=code)
    assert text in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def changed(cluster: Cluster, path: Path, change: Callable[[dict[str, Any]], None]) -> tuple[str, str]:
    """A kubeconfig like the cluster's, with something changed; as flags."""
    body = yaml.safe_load(cluster.server.kubeconfig.read_text())
    change(body)
    path.write_text(yaml.safe_dump(body))
    return "--kubeconfig", str(path)


def test_a_token_that_is_not_known_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    def forge(body: dict[str, Any]) -> None:
        body["users"][0]["user"] = {"token": "forged"}

    flags = changed(cluster, tmp_path / "config", forge)
    done = attune("rules", "list", *flags, code=ExitCode.REFUSED)
    assert "does not know you" in done.stderr


def test_an_account_without_rights_is_told_what_it_may_not(cluster: Cluster, tmp_path: Path) -> None:
    accounts = "/api/v1/namespaces/team-a/serviceaccounts"
    cluster.request("POST", accounts, {"metadata": {"name": "nobody"}})
    token = cluster.request("POST", f"{accounts}/nobody/token", {"spec": {"expirationSeconds": 3600}})["status"][
        "token"
    ]
    flags = changed(cluster, tmp_path / "config", lambda body: body["users"][0].update(user={"token": token}))
    done = attune("rules", "list", *flags, code=ExitCode.REFUSED)
    assert 'cannot list resource "rules"' in done.stderr


def test_a_server_that_is_away_and_one_that_is_not_trusted(cluster: Cluster, tmp_path: Path) -> None:
    flags = changed(
        cluster, tmp_path / "away", lambda body: body["clusters"][0]["cluster"].update(server="https://127.0.0.1:1")
    )
    done = attune("rules", "list", *flags, code=ExitCode.UNREACHABLE)
    assert "https://127.0.0.1:1 cannot be reached" in done.stderr
    flags = changed(
        cluster,
        tmp_path / "strange",
        lambda body: body["clusters"][0]["cluster"].pop("certificate-authority-data"),
    )
    done = attune("rules", "list", *flags, code=ExitCode.UNREACHABLE)
    assert "not trusted" in done.stderr


def test_the_first_of_several_kubeconfigs_holds_and_a_plugin_gives_the_token(cluster: Cluster, tmp_path: Path) -> None:
    accounts = "/api/v1/namespaces/team-a/serviceaccounts"
    cluster.request("POST", accounts, {"metadata": {"name": "plugged"}})
    bind = {
        "metadata": {"name": "plugged"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "team-a", "name": "plugged"}],
    }
    cluster.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", bind)
    token = cluster.request("POST", f"{accounts}/plugged/token", {"spec": {"expirationSeconds": 3600}})["status"][
        "token"
    ]
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"#!/bin/sh\n"
        f'case "$KUBERNETES_EXEC_INFO" in *ExecCredential*) ;; *) exit 1;; esac\n'
        f'echo \'{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",'
        f' "status": {{"token": "{token}"}}}}\'\n'
    )
    plugin.chmod(0o700)
    first = tmp_path / "first"
    first.write_text(
        yaml.safe_dump(
            {
                "current-context": "plugged",
                "contexts": [
                    {"name": "plugged", "context": {"cluster": "attune", "user": "me", "namespace": "team-b"}}
                ],
                "users": [{"name": "me", "user": {"exec": {"command": "./plugin"}}}],
            }
        )
    )
    both = f"{first}:{tmp_path / 'missing'}:{cluster.server.kubeconfig}"
    names = [body["metadata"]["name"] for body in answer("rules", "list", KUBECONFIG=both, ATTUNE_DATA_DIR="")["items"]]
    assert names == ["off"]


def test_a_cluster_without_attune_is_told_apart(tmp_path: Path) -> None:
    with ApiServer(tmp_path / "bare") as server:
        done = attune("rules", "list", "--kubeconfig", server.kubeconfig, code=ExitCode.NOT_FOUND)
    assert "is Attune installed there?" in done.stderr
