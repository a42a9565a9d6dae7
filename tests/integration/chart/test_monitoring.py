"""The chart's alerts and dashboards, by Prometheus' own tools, against the metrics that the parts really have."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

import attune_actions.metrics
import attune_api.metrics
import attune_operator.rules.metrics
import attune_operator.runtime.metrics  # noqa: F401 - defines metrics
import attune_sensor._metrics
from attune_cluster.settings import Settings
from attune_cluster.tools import tools
from attune_contract.resources import Sensor
from attune_operator.resources.common import Environment
from attune_operator.resources.deployment import deployment
from attune_timer.lateness import Lateness

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "attune"
FILES = CHART / "files" / "monitoring"
ALERTS = FILES / "alerts.yaml"
CASES = Path(__file__).parent / "alerts_test.yaml"
Manifest = dict[str, Any]
_ALL = [
    *("--set", "monitoring.podMonitor.enabled=true", "--set", "monitoring.podMonitor.labels.release=prometheus"),
    *("--set", "monitoring.prometheusRule.enabled=true", "--set", "monitoring.dashboards.enabled=true"),
]


def rendered(*arguments: str) -> list[Manifest]:
    helm = tools(Settings.from_environment(), ["helm"])["helm"]
    command: list[str | Path] = [helm, "template", "attune", CHART, "--namespace", "attune-system", *arguments]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def promtool(*arguments: str | Path, cwd: Path | None = None) -> None:
    program = shutil.which("promtool")
    assert program is not None, "promtool comes with Debian's package prometheus"
    ran = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, cwd=cwd)
    assert ran.returncode == 0, f"promtool {' '.join(map(str, arguments))}:\n{ran.stdout}{ran.stderr}"


def alerts() -> list[Manifest]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def test_the_alerts_are_valid_and_fire_when_they_should_and_not_otherwise(tmp_path: Path) -> None:
    promtool("check", "rules", ALERTS)
    shutil.copy(ALERTS, tmp_path / "alerts.yaml")
    shutil.copy(CASES, tmp_path / "alerts_test.yaml")
    promtool("test", "rules", "alerts_test.yaml", cwd=tmp_path)


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    quiet = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    names = {rule["alert"] for rule in alerts()}
    assert fires == names
    assert quiet == names


def test_each_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"].endswith("."), rule["alert"]
        assert rule["annotations"]["description"].endswith("."), rule["alert"]


# -- what is asked for exists ------------------------------------------------------------------------------------------


def series_of(registry: CollectorRegistry) -> Iterator[tuple[str, frozenset[str]]]:
    """Each series' name and its labels."""
    for collector in set(registry._collector_to_names):
        if not isinstance(collector, MetricWrapperBase):
            for metric in collector.collect():
                yield from ((sample.name, frozenset(sample.labels)) for sample in metric.samples)
            continue
        [metric] = list(collector.describe())
        labels = frozenset(collector._labelnames)
        if metric.type == "counter":
            yield f"{metric.name}_total", labels
        elif metric.type == "histogram":
            yield f"{metric.name}_bucket", labels | {"le"}
            yield from ((f"{metric.name}_{part}", labels) for part in ("sum", "count"))
        else:
            yield metric.name, labels


def known() -> dict[str, frozenset[str]]:
    timers = CollectorRegistry()
    Lateness(timers)
    registries = (
        REGISTRY,
        timers,
        attune_api.metrics.Metrics().registry,
        attune_actions.metrics.Metrics().registry,
        attune_sensor._metrics.Metrics().registry,
    )
    return {name: labels for registry in registries for name, labels in series_of(registry)}


def queries() -> dict[str, str]:
    """Every PromQL expression by where it stands. Grafana's variables have values."""
    found = {rule["alert"]: rule["expr"] for rule in alerts()}
    for path in sorted((FILES / "dashboards").glob("*.json")):
        page = json.loads(path.read_text())
        for panel in page["panels"]:
            for target in panel["targets"]:
                place = f"{path.stem}: {panel['title']} {target['refId']}"
                found[place] = target["expr"].replace("$__rate_interval", "5m")
        for variable in page["templating"]["list"]:
            if variable["type"] == "query":
                asked = variable["query"]["query"].removeprefix("label_values(").rpartition(",")[0]
                found[f"{path.stem}: variable {variable['name']}"] = asked
    return found


#: Labels that Prometheus adds to what it scrapes from a pod.
_SCRAPED = {"namespace", "pod"}


def test_queries_are_promql(tmp_path: Path) -> None:
    rules = [{"record": "one:two", "labels": {"place": place}, "expr": query} for place, query in queries().items()]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    promtool("check", "rules", path)


@pytest.mark.parametrize("place", queries())
def test_queries_ask_for_metrics_and_labels_that_exist(place: str) -> None:
    query, metrics = queries()[place], known()
    names = re.findall(r"\b(?:attune|process)_[a-z0-9_]+", query)
    assert names
    labels = {"le"} if "histogram_quantile" in query else set()
    for name in names:
        assert name in metrics, f"{name}: no part has this metric"
        labels |= metrics[name]
    by = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
    matched = set(re.findall(r"([a-z_]+)(?:=~?|!=|!~)\"", query))
    assert by | matched <= labels | _SCRAPED


# -- what the chart makes of it ----------------------------------------------------------------------------------------


def test_nothing_of_it_unless_asked_for() -> None:
    kinds = {manifest["kind"] for manifest in rendered()}
    assert not {"PodMonitor", "PrometheusRule"} & kinds


def test_the_rules_are_those_of_the_file() -> None:
    [rule] = [manifest for manifest in rendered(*_ALL) if manifest["kind"] == "PrometheusRule"]
    assert rule["spec"] == yaml.safe_load(ALERTS.read_text())


def test_the_dashboards_are_those_of_the_folder() -> None:
    maps = [
        manifest
        for manifest in rendered(*_ALL)
        if manifest["kind"] == "ConfigMap" and manifest["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    data = {name: text for manifest in maps for name, text in manifest["data"].items()}
    assert data == {path.name: path.read_text() for path in (FILES / "dashboards").glob("*.json")}
    assert len({json.loads(text)["uid"] for text in data.values()}) == len(data)


def selected(monitor: Manifest, labels: dict[str, str]) -> bool:
    selector = monitor["spec"]["selector"]
    wanted = selector.get("matchLabels", {})
    exist = [each["key"] for each in selector.get("matchExpressions", [])]
    return all(labels.get(key) == value for key, value in wanted.items()) and all(key in labels for key in exist)


def ports(pod: Manifest) -> set[str]:
    return {port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", [])}


@pytest.mark.parametrize("tls", ["transition", "true", "false"])
def test_each_part_is_scraped_once_at_a_port_that_it_has(tls: str) -> None:
    manifests = rendered(*_ALL, "--set", f"tls.enabled={tls}")
    monitors = [manifest for manifest in manifests if manifest["kind"] == "PodMonitor"]
    assert all(monitor["metadata"]["labels"]["release"] == "prometheus" for monitor in monitors)
    pods = {
        manifest["metadata"]["name"]: manifest["spec"]["template"]
        for manifest in manifests
        if manifest["kind"] == "Deployment"
    }
    sensor = Sensor.from_object(
        {
            "apiVersion": "attune.dev/v1alpha1",
            "kind": "Sensor",
            "metadata": {"name": "core.timer", "namespace": "default", "uid": "uid-1"},
            "spec": {"image": "timer:1", "triggerTypes": [{"name": "core.intervaltimer"}]},
        }
    )
    around = Environment(nats_url="nats://nats:4222", api_url="http://api")
    pods["sensor"] = deployment(sensor, around, issued_at=None)["spec"]["template"]
    assert set(pods) == {"attune-operator", "attune-api", "attune-actions", "sensor"}
    for name, pod in pods.items():
        [monitor] = [each for each in monitors if selected(each, pod["metadata"]["labels"])]
        [endpoint] = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] in ports(pod), name
        assert endpoint.get("scheme", "http") == ("https" if tls != "false" and name == "attune-api" else "http")
