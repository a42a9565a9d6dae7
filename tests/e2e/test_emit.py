"""The Sensor core.event as a pod, and the runner of actions with its Secret: one Rule takes what another emits."""

from support.kubectl import Kubectl
from support.system import REPOSITORY, SYSTEM, System


def test_a_rule_takes_what_another_emits(system: System, pack: None, kube: Kubectl) -> None:
    kube("apply", "-f", str(REPOSITORY / "packs" / "events"))
    kube("wait", "--for=condition=Ready", "sensor/core.event", "-n", SYSTEM, "--timeout=180s", timeout=200)
    # kubelet would bring the Secret to the runner that is there, within two minutes.
    kube("rollout", "restart", "deployment/attune-actions", "-n", SYSTEM)
    kube("rollout", "status", "deployment/attune-actions", "-n", SYSTEM, "--timeout=180s", timeout=200)
    taking = system.rule("takes", trigger="core.event", parameters={"name": "tick"})
    taking.wait_condition("Active", "True", within=60)
    kube.apply(
        {
            "apiVersion": "attune.dev/v1alpha1",
            "kind": "Rule",
            "metadata": {"name": "emits", "namespace": system.namespace},
            "spec": {
                "trigger": {"type": "core.intervaltimer", "parameters": {"interval": 1}},
                "actions": [
                    {
                        "name": "emit",
                        "emit": {"name": "tick", "payload": {"tick": "${event.id}"}},
                        "retry": {"attempts": 50, "backoff": "500ms", "maxBackoff": "2s"},
                    }
                ],
            },
        }
    )
    events = taking.wait_events(lambda found: len(found) >= 2, within=120)
    assert {event.payload["emitted"]["rule"] for event in events} == {f"{system.namespace}/emits"}
    assert all(event.payload["tick"] == event.payload["emitted"]["event"] for event in events)
