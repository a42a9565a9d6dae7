"""helm install, upgrade, uninstall and install again."""

import pytest
from support.eventually import eventually
from support.kubectl import Kubectl
from support.system import REPOSITORY, SYSTEM, System
from support.system_fixtures import VALUES

from attune_cluster.settings import Settings
from attune_demo import system as installed
from attune_demo.kube import Kube

pytestmark = pytest.mark.last(rank=2, reason="uninstalls the installation that all other tests share")
CHART = str(REPOSITORY / "deploy" / "helm" / "attune")


def terminating(kube: Kubectl) -> list[str]:
    """Everything in the cluster of ours that is being deleted."""
    return [
        f"{kind}/{item['metadata']['name']}"
        for kind in ("sensors", "rules", "pods", "persistentvolumeclaims")
        for item in kube.list(kind, SYSTEM)
        if "deletionTimestamp" in item["metadata"]
    ]


def test_upgrade_uninstall_and_install_again(system: System) -> None:
    kube = system.kube
    rule = system.rule("survivor", parameters={"interval": 1})
    before = rule.wait_events(lambda events: len(events) >= 2, within=15)

    # An upgrade upgrades the CRDs: a change to one is put back.
    kube("patch", "crd", "rules.attune.dev", "--type=json", "-p", '[{"op":"remove","path":"/spec/names/shortNames"}]')
    kube.run_helm("upgrade", "attune", CHART, "-n", SYSTEM, "--reuse-values", "--set", "operator.logLevel=debug")
    kube("rollout", "status", "deployment/attune-operator", "-n", SYSTEM, "--timeout=180s")
    eventually(
        lambda: kube.get("crd", "rules.attune.dev", "")["spec"]["names"].get("shortNames") == ["ru"],
        within=10,
        what="the upgraded CRD",
    )
    after_upgrade = rule.wait_events(lambda events: len(events) >= len(before) + 3, within=20)
    assert {event.id for event in before} <= {event.id for event in after_upgrade}

    kube.run_helm("uninstall", "attune", "-n", SYSTEM, "--wait")
    eventually(
        lambda: not kube.list("pods", SYSTEM, "app.kubernetes.io/instance=attune"),
        within=60,
        what="the chart's pods are gone",
    )
    # The definitions and what users made are kept.
    assert kube.get("rule", "survivor", system.namespace)["spec"]["enabled"] is True
    # Without the operator, Sensors and Rules can still be deleted.
    kube.delete("sensor", "core.timer", SYSTEM, "--timeout=180s")
    eventually(lambda: not terminating(kube), within=60, what="nothing hangs in Terminating")
    # What a Sensor owned goes after it, by Kubernetes' garbage collector.
    eventually(lambda: not system.pods("core.timer", SYSTEM), within=60, what="the Sensor's pods are gone")
    eventually(lambda: not terminating(kube), within=60, what="nothing hangs in Terminating")

    system.api.close()
    installed.install(Kube.of_checkout(Settings.from_environment()), REPOSITORY, *VALUES)
    kube.apply(system.pack_sensor())
    kube("wait", "--for=condition=Ready", "sensor/core.timer", "-n", SYSTEM, "--timeout=180s")
    # The events of the first installation are there, and new ones come.
    again = rule.wait_events(lambda events: events[-1].occurred_at > after_upgrade[-1].occurred_at, within=30)
    assert {event.id for event in before} <= {event.id for event in again}
