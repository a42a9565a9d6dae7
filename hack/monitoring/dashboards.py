"""Writes the chart's Grafana dashboards: python hack/monitoring/dashboards.py deploy/helm/attune/files/monitoring/dashboards

A dashboard's JSON is long and alike in every panel, so it is made from what differs: a title, a unit and the queries.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_WIDTH: Final = 24
#: Columns and rows of Grafana's grid that a panel takes.
_PANEL: Final = (8, 8)
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        title: what it shows.
        queries: PromQL by the legend of its series.
        unit: Grafana's name of the unit.
    """

    title: str
    queries: dict[str, str]
    unit: str = "short"


@dataclass(frozen=True)
class Dashboard:
    """One page.

    Attributes:
        name: its file's name, and part of its uid.
        title: what the list of dashboards says.
        panels: its charts, three in a row.
        variables: variables that filter, by the query that gives their values.
    """

    name: str
    title: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str], ...] = ()


def _p99(metric: str, by: str = "", where: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile(0.99, sum by ({labels}) (rate({metric}_bucket{where}[$__rate_interval])))"


def _rate(metric: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{where}[$__rate_interval]))"


_SENSOR: Final = '{namespace=~"$namespace", pod=~"$pod"}'

DASHBOARDS: Final = (
    Dashboard(
        "overview",
        "Attune / Overview",
        (
            Panel("Rules by state", {"{{reason}}": "max by (reason) (attune_rules)"}),
            Panel("Sensors by readiness", {"ready: {{ready}}": "max by (ready) (attune_sensors)"}),
            Panel("Events stored and refused", {"{{status}}": _rate("attune_api_events_total", "status")}, "ops"),
            Panel(
                "Seconds until an event is stored (p99)",
                {
                    "answer to a request": _p99("attune_api_request_seconds"),
                    "transaction": _p99("attune_api_group_commit_seconds"),
                },
                "s",
            ),
            Panel(
                "Events that wait",
                {
                    "for the database": "sum(attune_api_events_waiting)",
                    "on sensors' disks": "sum(attune_sensor_spool_events)",
                },
            ),
            Panel("Runs of actions", {"{{state}}": _rate("attune_actions_runs_total", "state")}, "ops"),
            Panel(
                "Connected to NATS",
                {
                    "operator": "min(attune_rule_stream_connected)",
                    "API": "min(attune_api_nats_connected)",
                    "actions": "min(attune_actions_nats_connected)",
                    "sensors": "min(attune_sensor_nats_connected)",
                },
            ),
            Panel(
                "Time until the first token expires",
                {"in Secrets": "min(attune_token_expiry_timestamp_seconds) - time()"},
                "s",
            ),
            Panel(
                "Memory",
                {"{{pod}}": 'sum by (pod) (process_resident_memory_bytes{pod=~".*attune.*|sensor-.*"})'},
                "bytes",
            ),
        ),
    ),
    Dashboard(
        "rules",
        "Attune / Rules",
        (
            Panel("Rules by state", {"{{reason}}": "max by (reason) (attune_rules)"}),
            Panel("Messages to sensors", {"{{type}}": _rate("attune_rule_messages_total", "type")}, "ops"),
            Panel("Sensors' answers", {"{{state}}": _rate("attune_rule_acks_total", "state")}, "ops"),
            Panel(
                "From a change to its being in force (p99)",
                {"on the stream": _p99("attune_rule_publish_seconds"), "confirmed": _p99("attune_rule_ack_seconds")},
                "s",
            ),
            Panel(
                "Statuses",
                {
                    "written: {{outcome}}": _rate("attune_rule_status_writes_total", "outcome"),
                    "waiting": "max(attune_rule_status_waiting)",
                },
            ),
            Panel(
                "Conflicts and errors",
                {
                    "conflicts": "sum(rate(attune_rule_conflicts_total[$__rate_interval]))",
                    "errors": "sum(rate(attune_rule_errors_total[$__rate_interval]))",
                    "refused by the stream": "sum(rate(attune_rule_publish_failures_total[$__rate_interval]))",
                },
                "ops",
            ),
        ),
    ),
    Dashboard(
        "sensor",
        "Attune / Sensor",
        (
            Panel("Rules", {"{{pod}} {{state}}": f"sum by (pod, state) (attune_sensor_rules{_SENSOR})"}),
            Panel(
                "Events",
                {"{{pod}} {{result}}": _rate("attune_sensor_events_total", "pod, result", _SENSOR)},
                "ops",
            ),
            Panel(
                "Seconds until the API answered (p99)",
                {"{{pod}} {{code}}": _p99("attune_sensor_api_request_seconds", "pod, code", _SENSOR)},
                "s",
            ),
            Panel(
                "Events that wait",
                {
                    "{{pod}} in memory": f"sum by (pod) (attune_sensor_queued_events{_SENSOR})",
                    "{{pod}} on disk": f"sum by (pod) (attune_sensor_spool_events{_SENSOR})",
                },
            ),
            Panel(
                "Time until the token expires",
                {"{{pod}}": f"min by (pod) (attune_sensor_token_expiry_timestamp_seconds{_SENSOR}) - time()"},
                "s",
            ),
            Panel(
                "Rules that could not be started",
                {"{{pod}}": _rate("attune_sensor_rule_failures_total", "pod", _SENSOR)},
                "ops",
            ),
            Panel("Memory", {"{{pod}}": f"sum by (pod) (process_resident_memory_bytes{_SENSOR})"}, "bytes"),
            Panel(
                "Processor",
                {"{{pod}}": _rate("process_cpu_seconds_total", "pod", _SENSOR)},
                "percentunit",
            ),
            Panel("Connected to NATS", {"{{pod}}": f"min by (pod) (attune_sensor_nats_connected{_SENSOR})"}),
            Panel(
                "Timers: seconds from due to reported",
                {
                    "{{pod}} p99": _p99("attune_timer_lateness_seconds", "pod", _SENSOR),
                    "{{pod}} mean": f"{_rate('attune_timer_lateness_seconds_sum', 'pod', _SENSOR)}"
                    f" / {_rate('attune_timer_lateness_seconds_count', 'pod', _SENSOR)}",
                },
                "s",
            ),
        ),
        (
            ("namespace", "label_values(attune_sensor_nats_connected, namespace)"),
            ("pod", 'label_values(attune_sensor_nats_connected{namespace=~"$namespace"}, pod)'),
        ),
    ),
    Dashboard(
        "actions",
        "Attune / Actions",
        (
            Panel("Runs", {"{{kind}} {{state}}": _rate("attune_actions_runs_total", "kind, state")}, "ops"),
            Panel("Attempts", {"{{kind}} {{outcome}}": _rate("attune_actions_attempts_total", "kind, outcome")}, "ops"),
            Panel("Seconds of an attempt (p99)", {"{{kind}}": _p99("attune_actions_attempt_seconds", "kind")}, "s"),
            Panel("From event to run (p99)", {"delay": _p99("attune_actions_delay_seconds")}, "s"),
            Panel(
                "In hand",
                {
                    "{{stream}}": "sum by (stream) (attune_actions_in_hand_messages)",
                    "under way": "sum(attune_actions_under_way_runs)",
                },
            ),
            Panel("Targets that get no requests", {"{{pod}}": "max by (pod) (attune_actions_open_circuits)"}),
        ),
    ),
)


def dashboard(page: Dashboard) -> dict[str, Any]:
    """Grafana's model of a page."""
    width, height = _PANEL
    in_row = _WIDTH // width
    return {
        "uid": f"attune-{page.name}",
        "title": page.title,
        "tags": ["attune"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
                *(
                    {
                        "name": name,
                        "type": "query",
                        "datasource": _SOURCE,
                        "query": {"query": query, "refId": name},
                        "includeAll": True,
                        "multi": True,
                        "allValue": ".*",
                        "current": {"text": "All", "value": "$__all"},
                        "refresh": 2,
                        "sort": 1,
                    }
                    for name, query in page.variables
                ),
            ]
        },
        "panels": [
            {
                "id": number + 1,
                "type": "timeseries",
                "title": panel.title,
                "datasource": _SOURCE,
                "gridPos": {"x": number % in_row * width, "y": number // in_row * height, "w": width, "h": height},
                "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
                "targets": [
                    {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
                    for index, (legend, query) in enumerate(panel.queries.items())
                ],
            }
            for number, panel in enumerate(page.panels)
        ],
    }


def files() -> dict[str, str]:
    """What the folder should hold, by file name."""
    return {f"{page.name}.json": json.dumps(dashboard(page), indent=1) + "\n" for page in DASHBOARDS}


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the dashboards, or check that they are up to date.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs")
    options = parser.parse_args()
    wanted = files()
    present = {path.name: path.read_text() for path in options.folder.glob("*.json")}
    if options.check:
        if present != wanted:
            sys.stderr.write(f"{options.folder} is not up to date: run `make dashboards`.\n")
            return 1
        return 0
    for name in present.keys() - wanted.keys():
        (options.folder / name).unlink()
    for name, text in wanted.items():
        (options.folder / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
