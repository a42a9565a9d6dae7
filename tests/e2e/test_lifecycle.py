"""helm uninstall, install again as it was before TLS was the default, and upgrade to that."""

from datetime import datetime, timedelta

import pytest
from support.eventually import eventually
from support.kubectl import Kubectl, condition
from support.system import REPOSITORY, SYSTEM, Api, System
from support.system_fixtures import VALUES

from attune_cluster.settings import Settings
from attune_demo import system as installed
from attune_demo.kube import Kube

pytestmark = pytest.mark.last(rank=2, reason="uninstalls the installation that all other tests share")


def terminating(kube: Kubectl) -> list[str]:
    """Everything in the cluster of ours that is being deleted."""
    return [
        f"{kind}/{item['metadata']['name']}"
        for kind in ("sensors", "rules", "pods", "persistentvolumeclaims")
        for item in kube.list(kind, SYSTEM)
        if "deletionTimestamp" in item["metadata"]
    ]


def test_uninstall_install_without_tls_and_upgrade_to_the_default(system: System) -> None:
    kube = system.kube
    rule = system.rule("survivor", parameters={"interval": 1})
    before = rule.wait_events(lambda events: len(events) >= 2, within=15)

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

    # As it was before TLS was the default, with a client of that time.
    system.api.close()
    kube("delete", "secret", "attune-tls", "attune-tls-authority", "-n", SYSTEM)
    checkout = Kube.of_checkout(Settings.from_environment())
    installed.install(checkout, REPOSITORY, *VALUES, "--set", "tls.enabled=false")
    kube.apply(system.pack_sensor())
    kube("wait", "--for=condition=Ready", "sensor/core.timer", "-n", SYSTEM, "--timeout=180s")
    old = Api(kube, system.api.token, secure=False)
    try:
        rule.api = old
        # The events of the first installation are there, and new ones come.
        again = rule.wait_events(lambda events: events[-1].occurred_at > before[-1].occurred_at, within=30)
        assert {event.id for event in before} <= {event.id for event in again}
        upgrade(system, checkout, old)
    finally:
        old.close()


def upgrade(system: System, checkout: Kube, old: Api) -> None:
    """The upgrade to the default, under a Rule that fires: all go over to TLS, and nothing is lost or comes twice."""
    kube = system.kube
    rule = system.rule("carried", parameters={"interval": 1})
    rule.api = old
    rule.wait_events(lambda events: len(events) >= 2, within=30)
    former = system.wait_ready_pod("core.timer", SYSTEM)["metadata"]["uid"]
    # An upgrade upgrades the CRDs: a change to one is put back.
    kube("patch", "crd", "rules.attune.dev", "--type=json", "-p", '[{"op":"remove","path":"/spec/names/shortNames"}]')

    installed.install(checkout, REPOSITORY, *VALUES)

    eventually(
        lambda: kube.get("crd", "rules.attune.dev", "")["spec"]["names"].get("shortNames") == ["ru"],
        within=10,
        what="the upgraded CRD",
    )
    pod = system.wait_ready_pod("core.timer", SYSTEM, other_than=former, within=120)
    environment = {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0]["env"]}
    assert environment["ATTUNE_API_URL"] == f"https://attune-api.{SYSTEM}.svc:443"
    ready = datetime.fromisoformat(condition(pod, "Ready")["lastTransitionTime"])
    # The client of before goes on by plain HTTP, and finds what came by HTTPS.
    rule.wait_unbroken(
        timedelta(seconds=1), enough=lambda events: events[-1].occurred_at > ready + timedelta(seconds=5), within=90
    )
