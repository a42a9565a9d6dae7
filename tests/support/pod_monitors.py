"""PodMonitors as configuration of a Prometheus without the Prometheus Operator: what the operator makes of them.

Debian's Prometheus cannot ask Kubernetes for pods, so they come from a file, with the labels that it would have given them.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]


def _label(name: str) -> str:
    """A label of Kubernetes as Prometheus names it."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _keep(source: str, regex: str) -> Manifest:
    return {"source_labels": [source], "action": "keep", "regex": regex}


def _selected(monitor: Manifest) -> Iterator[Manifest]:
    """Rules that keep the pods of the monitor's selector."""
    selector = monitor["spec"]["selector"]
    for name, value in selector.get("matchLabels", {}).items():
        yield _keep(f"__meta_kubernetes_pod_label_{_label(name)}", re.escape(value))
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "Exists", expression
        yield _keep(f"__meta_kubernetes_pod_labelpresent_{_label(expression['key'])}", "true")


def targets(pods: list[Manifest]) -> list[Manifest]:
    """The ports of pods as targets, with the labels of Prometheus' discovery of Kubernetes (role ``pod``)."""
    found = []
    for pod in pods:
        metadata, status = pod["metadata"], pod["status"]
        if not status.get("podIP"):
            continue
        common = {
            "__meta_kubernetes_namespace": metadata["namespace"],
            "__meta_kubernetes_pod_name": metadata["name"],
            "__meta_kubernetes_pod_phase": status["phase"],
        }
        for name, value in metadata.get("labels", {}).items():
            common[f"__meta_kubernetes_pod_label_{_label(name)}"] = value
            common[f"__meta_kubernetes_pod_labelpresent_{_label(name)}"] = "true"
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", ()):
                own = {
                    "__meta_kubernetes_pod_container_name": container["name"],
                    "__meta_kubernetes_pod_container_port_name": port.get("name", ""),
                }
                found.append({"targets": [f"{status['podIP']}:{port['containerPort']}"], "labels": common | own})
    return found


def _tls(endpoint: Manifest, authority: Path) -> Manifest:
    """How the endpoint's certificate is checked."""
    if endpoint.get("scheme") != "https":
        return {}
    tls = endpoint["tlsConfig"]
    assert tls["ca"]["secret"]["key"] == "ca.crt", tls
    return {"scheme": "https", "tls_config": {"ca_file": str(authority), "server_name": tls["serverName"]}}


def scrape_configs(monitors: list[Manifest], *, file: Path, interval: str, authority: Path) -> list[Manifest]:
    """A scrape configuration for each endpoint of the monitors.

    Args:
        monitors: PodMonitors.
        file: where :func:`targets` are, as JSON; Prometheus follows its changes.
        interval: between two scrapes, in place of the monitors' own.
        authority: the file with `ca.crt` of the chart's Secret.
    """
    found = []
    for monitor in monitors:
        metadata, spec = monitor["metadata"], monitor["spec"]
        where = spec.get("namespaceSelector", {})
        names = [] if where.get("any") else where.get("matchNames", [metadata["namespace"]])
        for number, endpoint in enumerate(spec["podMetricsEndpoints"]):
            relabelled = [
                {"source_labels": ["__meta_kubernetes_pod_phase"], "action": "drop", "regex": "Failed|Succeeded"},
                *([_keep("__meta_kubernetes_namespace", "|".join(map(re.escape, names)))] if names else ()),
                *_selected(monitor),
                _keep("__meta_kubernetes_pod_container_port_name", re.escape(endpoint["port"])),
                {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
                {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
                {"source_labels": ["__meta_kubernetes_pod_container_name"], "target_label": "container"},
            ]
            relabelled += [
                {"source_labels": [f"__meta_kubernetes_pod_label_{_label(name)}"], "target_label": _label(name)}
                for name in spec.get("podTargetLabels", ())
            ]
            found.append(
                {
                    "job_name": f"podMonitor/{metadata['namespace']}/{metadata['name']}/{number}",
                    "metrics_path": endpoint["path"],
                    "scrape_interval": interval,
                    "scrape_timeout": interval,
                    "file_sd_configs": [{"files": [str(file)], "refresh_interval": "5s"}],
                    "relabel_configs": relabelled,
                    **_tls(endpoint, authority),
                }
            )
    return found
