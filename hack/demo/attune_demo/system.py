"""The chart in the cluster: install, sample, uninstall."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attune_cluster.console import ClusterError, say, step, wait_until
from attune_demo.kube import Kube

RELEASE = "attune"
NAMESPACE = "attune-system"
READER = "attune-demo-reader"


def install(kube: Kube, repository: Path, *extra: str) -> None:
    """Install the chart, or upgrade it, and return when all its pods are ready."""
    chart = repository / "deploy" / "helm" / "attune"
    with step("installing the chart (helm upgrade --install)"):
        # The whole namespace is held to the restricted Pod Security level: ours pass it, and so do the sensors.
        kube.run_kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(namespace_manifest()))
        kube.run_helm("upgrade", "--install", RELEASE, str(chart), "--namespace", NAMESPACE, *extra)
    with step("waiting for operator, NATS and API", detail=lambda: _pods(kube)):
        for kind in (f"deployment/{RELEASE}-operator", f"statefulset/{RELEASE}-nats", f"deployment/{RELEASE}-api"):
            try:
                kube.run_kubectl("rollout", "status", kind, "-n", NAMESPACE, "--timeout=300s")
            except ClusterError as error:
                raise ClusterError(f"{kind} did not become ready: {_pods(kube)}\n{error}") from error


def namespace_manifest() -> dict[str, Any]:
    """The namespace that the chart is installed in."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def sample(kube: Kube, repository: Path) -> None:
    """Apply the core pack and return when its sensor is ready and its rule active."""
    with step("applying packs/core: the sensor core.timer and the rule echo-every-second"):
        kube.run_kubectl("apply", "-f", str(repository / "packs" / "core"))
    with step("waiting until the sensor says that it runs the rule", detail=lambda: _pods(kube)):
        for condition, target, namespace in (
            ("Ready", "sensor/core.timer", NAMESPACE),
            ("Active", "rule/echo-every-second", "default"),
        ):
            kube.run_kubectl("wait", f"--for=condition={condition}", target, "-n", namespace, "--timeout=180s")


def reader_token(kube: Kube) -> str:
    """A token that may read events: of a ServiceAccount with Kubernetes' own role `view`."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": READER, "namespace": NAMESPACE}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": READER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": READER, "namespace": NAMESPACE}],
    }
    items = {"apiVersion": "v1", "kind": "List", "items": [account, binding]}
    kube.run_kubectl("apply", "-f", "-", stdin=json.dumps(items))
    return kube.run_kubectl("create", "token", READER, "-n", NAMESPACE, "--duration=1h").strip()


@contextlib.contextmanager
def api(kube: Kube) -> Iterator[tuple[str, ssl.SSLContext | None]]:
    """The API's address on loopback, and trust in its certificate; None where it has no TLS."""
    service = f"service/{RELEASE}-api"
    ports = {port["name"]: port["port"] for port in kube.get(service, "-n", NAMESPACE)["spec"]["ports"]}
    if "https" not in ports:
        with kube.port_forward(service, ports["http"], NAMESPACE) as port:
            yield f"http://127.0.0.1:{port}", None
        return
    secret = kube.get(f"secret/{RELEASE}-tls", "-n", NAMESPACE)
    trusted = ssl.create_default_context(cadata=base64.b64decode(secret["data"]["ca.crt"]).decode())
    trusted.check_hostname = False  # a tunnel's name is localhost
    with kube.port_forward(service, ports["https"], NAMESPACE) as port:
        yield f"https://127.0.0.1:{port}", trusted


def uninstall(kube: Kube) -> None:
    """Remove the sample, every Sensor and the chart. Resource definitions and the volumes with the events stay."""
    with step("removing sensors and rules"):
        definitions = kube.run_kubectl("get", "crd", "-o", "name")
        for kind in ("rules", "sensors"):
            if f"/{kind}.attune.dev" in definitions:
                kube.run_kubectl("delete", kind, "--all", "--all-namespaces", "--timeout=60s")
    with step("uninstalling the chart"):
        kube.run_kubectl("delete", "clusterrolebinding", READER, "--ignore-not-found")
        kube.run_helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait")
        gone = wait_until(
            lambda: not kube.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/part-of=attune")["items"], seconds=60
        )
    if not gone:
        raise ClusterError(f"Pods are still ending in {NAMESPACE}: {_pods(kube)}")


def status(kube: Kube) -> None:
    """Print what runs."""
    for arguments in (
        ("get", "pods", "-n", NAMESPACE, "-o", "wide"),
        ("get", "sensors,rules", "--all-namespaces"),
    ):
        say(f"$ kubectl {' '.join(arguments)}")
        print(kube.run_kubectl(*arguments), flush=True)


def _pods(kube: Kube) -> str:
    try:
        pods = kube.get("pods", "-n", NAMESPACE)["items"]
    except ClusterError:
        return "no answer from the cluster"
    return ", ".join(f"{pod['metadata']['name']} {_state(pod)}" for pod in pods) or "no pods yet"


def _state(pod: dict[str, Any]) -> str:
    for container in pod["status"].get("containerStatuses", []):
        waiting = container["state"].get("waiting")
        if waiting:
            return str(waiting.get("reason", "waiting"))
        if container.get("ready"):
            return "ready"
    return str(pod["status"].get("phase", "unknown"))
