"""Ways that lie in a Sensor's pods, or in the namespace that they should run in."""

from __future__ import annotations

from typing import Any

from ways.stage import Stage, every_second, program, python, rule, timer
from ways.way import Manifest, Way, add


def _pod(name: str, what: str, cause: str, *before: Manifest, kubelet: str = "", but: str = "", **spec: Any) -> Way:
    """A timer Sensor whose pod cannot run, and a Rule that it should serve."""

    def breaks(stage: Stage) -> None:
        if before:
            stage.apply(*before)
            stage.begin()
        stage.apply(timer(**spec), every_second())

    return Way(name=name, what=what, cause=cause, kubelet=kubelet, but=but, breaks=breaks, within=90)


def _refusing_pods(stage: Stage) -> None:
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": stage.namespace},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}},
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
                ],
            },
            "validations": [{"expression": "false", "message": "pods need the label cost-centre"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": stage.namespace},
        "spec": {"policyName": stage.namespace, "validationActions": ["Deny"]},
    }
    stage.kube.apply(policy, binding)
    stage.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "reached"}})
    _until_refused(stage)
    stage.begin()
    stage.apply(timer(), every_second())


def _until_refused(stage: Stage) -> None:
    """The API server reads new policies now and then."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": stage.namespace},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "x",
                    "image": "x",
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    stage.until(lambda: "cost-centre" in stage.kube.attempt_apply(pod, dry_run=True), "the policy refuses pods")


def _no_policy(stage: Stage) -> None:
    for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
        stage.kube("delete", kind, stage.namespace, "--ignore-not-found")


def _webhook_down(resource: str, group: str) -> Way:
    def breaks(stage: Stage) -> None:
        hook = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": stage.namespace},
            "webhooks": [
                {
                    "name": "mesh.example.com",
                    "failurePolicy": "Fail",
                    "sideEffects": "None",
                    "admissionReviewVersions": ["v1"],
                    "timeoutSeconds": 2,
                    "clientConfig": {"service": {"name": "mesh", "namespace": stage.namespace, "path": "/"}},
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}},
                    "rules": [
                        {
                            "apiGroups": [group],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE", "UPDATE"],
                            "resources": [resource],
                        }
                    ],
                }
            ],
        }
        stage.kube.apply(hook)
        thing = _probe(resource, stage.namespace)
        stage.until(lambda: "mesh.example.com" in stage.kube.attempt_apply(thing, dry_run=True), "the webhook is asked")
        stage.begin()
        stage.apply(timer(), every_second())

    return Way(
        name=f"webhook-of-{resource}-down",
        what=f"a mutating webhook for {resource} does not answer",
        cause=r"mesh\.example\.com",
        breaks=breaks,
        mends=lambda stage: stage.kube.delete("mutatingwebhookconfiguration", stage.namespace, ""),
    )


def _probe(resource: str, namespace: str) -> Manifest:
    container = {"containers": [{"name": "x", "image": "x"}]}
    if resource == "pods":
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "probe", "namespace": namespace},
            "spec": container,
        }
    labels = {"matchLabels": {"a": "b"}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": container}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "probe", "namespace": namespace},
        "spec": {"selector": labels, "template": template},
    }


_QUOTA = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
_LIMITS = {
    "apiVersion": "v1",
    "kind": "LimitRange",
    "metadata": {"name": "small"},
    "spec": {"limits": [{"type": "Container", "max": {"memory": "16Mi"}}]},
}
_FOREIGN = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "sensor-timer"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}},
    },
}
_UNREADY = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/live" else 503)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("", int(os.environ["ATTUNE_METRICS_PORT"])), Handler).serve_forever()
"""
_PORT_TAKEN = """
import socket, os, sys
first = socket.create_server(("", int(os.environ["ATTUNE_METRICS_PORT"])))
socket.create_server(("", int(os.environ["ATTUNE_METRICS_PORT"])))
"""
_FAT = "x = [bytearray(1 << 20) for _ in range(4000)]"


def _python_way(name: str, what: str, cause: str, code: str, *, kubelet: str = "", **spec: Any) -> Way:
    def breaks(stage: Stage) -> None:
        stage.apply(python(code, **spec), rule("way.python", {}))

    return Way(name=name, what=what, cause=cause, kubelet=kubelet, breaks=breaks, within=90)


add(
    _pod(
        "image-missing",
        "the image does not exist",
        r"image acme/none:1 cannot be pulled",
        image="acme/none:1",
        kubelet=r"pull",
    ),
    _pod(
        "image-name-invalid",
        "the image's name is none",
        r"InvalidImageName|couldn't parse image|invalid reference",
        image="acme/None::1",
        kubelet=r"InvalidImageName",
    ),
    _pod(
        "pull-secret-missing",
        "the pull secret does not exist, and the image is private",
        r"image registry\.invalid/private:1 cannot be pulled",
        image="registry.invalid/private:1",
        imagePullSecrets=[{"name": "nothing-there"}],
        kubelet=r"pull",
    ),
    _pod(
        "command-missing",
        "the container's command does not exist",
        r"/nowhere",
        command=["/nowhere"],
        kubelet=r"/nowhere",
    ),
    _pod(
        "unschedulable-memory",
        "no node has the memory",
        r"cannot be scheduled.*insufficient memory",
        resources={"requests": {"memory": "900Gi"}},
        kubelet=r"insufficient memory",
    ),
    _pod(
        "node-selector",
        "no node has the label",
        r"cannot be scheduled.*(selector|affinity)",
        nodeSelector={"disk": "quantum"},
        kubelet=r"node\(s\)",
    ),
    _pod(
        "priority-class-missing",
        "the priority class does not exist",
        r"priority ?class.*nothing-there|nothing-there.*priority ?class",
        priorityClassName="nothing-there",
    ),
    _pod(
        "secret-missing",
        "a Secret of the environment does not exist",
        r"secret \"nothing-there\" not found",
        envFrom=[{"secretRef": {"name": "nothing-there"}}],
        kubelet=r"nothing-there",
    ),
    _pod(
        "config-map-missing",
        "a ConfigMap of the environment does not exist",
        r"configmap \"nothing-there\" not found",
        envFrom=[{"configMapRef": {"name": "nothing-there"}}],
        kubelet=r"nothing-there",
    ),
    _pod(
        "key-missing",
        "a Secret of the environment has no such key",
        r"key nothing",
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "there"}},
        env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "there", "key": "nothing"}}}],
        kubelet=r"nothing",
    ),
    _pod(
        "account-missing",
        "the ServiceAccount does not exist",
        r"serviceaccount \"?nothing-there\"? not found",
        serviceAccountName="nothing-there",
    ),
    _pod("quota-exceeded", "the namespace's quota is used up", r"exceeded quota", _QUOTA),
    _pod(
        "limit-range",
        "the namespace allows less memory",
        r"maximum memory usage per Container is 16Mi",
        _LIMITS,
        resources={"limits": {"memory": "64Mi"}},
    ),
    _pod("name-taken", "another Deployment has the name", r"NameTaken|does not belong to this Sensor", _FOREIGN),
    _pod(
        "resources-invalid",
        "requests are larger than limits",
        r"must be less than or equal to memory limit",
        resources={"requests": {"memory": "128Mi"}, "limits": {"memory": "64Mi"}},
    ),
    _python_way(
        "sensor-crashes",
        "the sensor's program crashes",
        r"ended with status 1.*queue is full of bees",
        "raise SystemExit('queue is full of bees')",
        kubelet=r"bees|terminated",
    ),
    _python_way(
        "sensor-out-of-memory",
        "the sensor's container gets no more memory",
        r"more memory than its limit",
        _FAT,
        resources={"limits": {"memory": "64Mi"}},
        kubelet=r"OOMKilled",
    ),
    _python_way("probe-fails", "the sensor says that it is not ready", r"/ready fails", _UNREADY, kubelet=r"running"),
    _python_way(
        "port-taken",
        "the sensor's port is taken in its pod",
        r"address already in use",
        _PORT_TAKEN,
        kubelet=r"in use|terminated",
    ),
    Way(
        name="policy-refuses-pods",
        what="a policy of the cluster refuses the pods",
        cause=r"pods need the label cost-centre",
        breaks=_refusing_pods,
        mends=_no_policy,
    ),
    _webhook_down("deployments", "apps"),
    _webhook_down("pods", ""),
    Way(
        name="pod-deleted-and-quota",
        what="a pod is gone, and the quota allows no new one",
        cause=r"exceeded quota",
        before=lambda stage: [program("sleep 1000"), rule("way.program", {})],
        breaks=lambda stage: _replace_pod(stage, _QUOTA),
    ),
    Way(
        name="update-fails",
        what="the Sensor's new image does not exist; the old pod still serves",
        cause=r"image acme/none:2 cannot be pulled.*1 pod keeps serving",
        kubelet=r"pull",
        but="the Rule goes on firing",
        before=lambda stage: [timer(), every_second()],
        breaks=lambda stage: stage.patch("sensor", "timer", {"spec": {"image": "acme/none:2"}}),
    ),
)


def _replace_pod(stage: Stage, quota: Manifest) -> None:
    stage.apply(quota)
    stage.begin()
    stage.kube("delete", "pods", "--all", "-n", stage.namespace, "--wait=false")
