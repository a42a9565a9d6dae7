"""Who may have a Rule act as a ServiceAccount: the chart's ValidatingAdmissionPolicy on a real kube-apiserver, as two users."""

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from support.eventually import eventually

from attune_cluster.apiserver import ApiServer
from attune_cluster.settings import Settings
from attune_cluster.tools import tools

pytest_plugins = ["support.operator_fixtures"]
pytestmark = pytest.mark.apiserver

CHART: Final = Path(__file__).parents[3] / "deploy" / "helm" / "attune"
Answer = subprocess.CompletedProcess[str]
#: Runs kubectl as a user: arguments, and an object for its standard input.
As = Callable[..., Answer]


def rule(**spec: Any) -> dict[str, Any]:
    action = {"name": "tell", "http": {"url": "https://a.example/"}}
    spec = {"trigger": {"type": "core.timer"}, "serviceAccountName": "importer", "actions": [action], **spec}
    return {"apiVersion": "attune.dev/v1alpha1", "kind": "Rule", "metadata": {"name": "r"}, "spec": spec}


class World:
    """A namespace in which ann may write Rules and use ServiceAccounts that tests grant, and bob may write Rules only."""

    def __init__(self, kubectl: Path, server: ApiServer) -> None:
        self._kubectl = kubectl
        self._server = server
        self.namespace = f"team-{uuid.uuid4().hex[:8]}"

    def run(self, user: str, *arguments: str, body: Any = None) -> Answer:
        whose = ["--as", user] if user else []
        return subprocess.run(
            [
                *(str(self._kubectl), "--kubeconfig", str(self._server.kubeconfig), "-n", self.namespace),
                *(*whose, *arguments),
            ],
            input=None if body is None else json.dumps(body),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def admin(self, *arguments: str, body: Any = None) -> None:
        done = self.run("", *arguments, body=body)
        assert done.returncode == 0, done.stderr

    def apply(self, user: str, body: Any) -> Answer:
        return self.run(user, "apply", "-f", "-", body=body)

    def grant(self, user: str, verb: str, account: str) -> None:
        name = f"{verb}-{account}"
        rules = [{"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": [account], "verbs": [verb]}]
        self._role(user, name, rules)

    def _role(self, user: str, name: str, rules: list[Any]) -> None:
        api = "rbac.authorization.k8s.io"
        role = {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules}
        binding = {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"{name}-{user}"},
            "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
            "subjects": [{"apiGroup": api, "kind": "User", "name": user}],
        }
        self.admin("apply", "-f", "-", body={"apiVersion": "v1", "kind": "List", "items": [role, binding]})

    def may_write_rules(self, user: str) -> None:
        self._role(user, "rules", [{"apiGroups": ["attune.dev"], "resources": ["rules"], "verbs": ["*"]}])


@pytest.fixture(scope="module")
def policy(kubernetes: ApiServer) -> Path:
    """The policy is in force; returns kubectl."""
    found = tools(Settings.from_environment(), ["helm", "kubectl"])
    text = subprocess.run(
        [
            *(found["helm"], "template", "attune", CHART, "--namespace", "attune-system", "--kube-version", "1.35.0"),
            *("--show-only", "templates/rule-accounts.yaml"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    subprocess.run(
        [found["kubectl"], "--kubeconfig", str(kubernetes.kubeconfig), "apply", "-f", "-"],
        input=text,
        text=True,
        check=True,
        capture_output=True,
    )
    return found["kubectl"]


@pytest.fixture
def world(policy: Path, kubernetes: ApiServer) -> Iterator[World]:
    here = World(policy, kubernetes)
    here.admin("create", "namespace", here.namespace)
    for user in ("ann", "bob"):
        here.may_write_rules(user)
    here.grant("ann", "use", "importer")

    def in_force() -> bool:  # a new policy, and new rights, hold a moment later
        refused = here.run("bob", "create", "--dry-run=server", "-f", "-", body=rule())
        taken = here.run("ann", "create", "--dry-run=server", "-f", "-", body=rule())
        assert refused.returncode != 0
        assert taken.returncode == 0, taken.stderr
        return True

    eventually(in_force, within=60)
    yield here
    here.run("", "delete", "namespace", here.namespace, "--wait=false")


def test_only_who_may_use_the_account_writes_a_rule_that_acts_as_it(world: World) -> None:
    refused = world.apply("bob", rule())
    assert refused.returncode != 0
    assert "you may not have a Rule act as the ServiceAccount importer; ask for the verb use on it" in refused.stderr
    taken = world.apply("ann", rule())
    assert taken.returncode == 0, taken.stderr
    other = world.apply("ann", rule(serviceAccountName="admin"))
    assert "act as the ServiceAccount admin" in other.stderr


def test_who_may_impersonate_the_account_may_use_it(world: World) -> None:
    world.grant("bob", "impersonate", "importer")

    def taken() -> bool:
        done = world.apply("bob", rule())
        assert done.returncode == 0, done.stderr
        return True

    eventually(taken, within=30)


def test_a_right_in_another_namespace_is_none_here(world: World, policy: Path, kubernetes: ApiServer) -> None:
    other = World(policy, kubernetes)
    other.admin("create", "namespace", other.namespace)
    other.grant("bob", "use", "importer")
    assert world.apply("bob", rule()).returncode != 0


def test_rules_without_an_account_are_for_all(world: World) -> None:
    body = rule()
    del body["spec"]["serviceAccountName"]
    done = world.apply("bob", body)
    assert done.returncode == 0, done.stderr
    # And who turns it into one that acts must be allowed to.
    assert world.apply("bob", rule()).returncode != 0


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"actions": [{"name": "tell", "http": {"url": "https://evil.example/"}}]}},
        {"spec": {"when": "true"}},
        {"spec": {"data": {"image": "evil"}}},
        {"spec": {"order": "Strict"}},
        {"spec": {"trigger": {"type": "core.other"}}},
        {"metadata": {"labels": {"image": "evil"}}},
        {"metadata": {"annotations": {"image": "evil"}}},
    ],
    ids=json.dumps,
)
def test_nobody_else_changes_what_such_a_rule_does(world: World, change: dict[str, Any]) -> None:
    assert world.run("ann", "create", "-f", "-", body=rule()).returncode == 0
    patch = ("patch", "rule", "r", "--type=merge", "-p", json.dumps(change))
    refused = world.run("bob", *patch)
    assert "you may not have a Rule act as" in refused.stderr
    taken = world.run("ann", *patch)
    assert taken.returncode == 0, taken.stderr


def test_others_may_switch_it_off_and_delete_it(world: World) -> None:
    assert world.run("ann", "create", "-f", "-", body=rule()).returncode == 0
    switched = world.run("bob", "patch", "rule", "r", "--type=merge", "-p", '{"spec": {"enabled": false}}')
    assert switched.returncode == 0, switched.stderr
    deleted = world.run("bob", "delete", "rule", "r")
    assert deleted.returncode == 0, deleted.stderr
