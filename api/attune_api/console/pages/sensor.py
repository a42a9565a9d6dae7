"""The page of one Sensor: its state and why, its pods, its token's life, what it offers, and how many Rules it serves."""

import hashlib
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from fastapi.responses import Response

from attune_api.console.answers import unchanged
from attune_api.console.cluster import ConsoleCluster, path_of, pods_path
from attune_api.console.rows import sensor_tone
from attune_api.console.views.sensor import PodRow, pod_rows, type_rows
from attune_api.console.views.way import told_conditions
from attune_api.console.visit import Visit, link
from attune_contract.names import SENSOR_LABEL, SENSORS
from attune_contract.telling import sensor_advice, sensor_note, sensor_problem
from attune_kit.kubernetes.client import KubernetesError

_MOST_PODS: Final = 50
_FORBIDDEN: Final = 403


async def show(visit: Visit, namespace: str, name: str) -> Response:
    """``GET /console/sensors/{namespace}/{name}``; asked for by a page that shows it already, only if it has changed."""
    await visit.require("get", namespace, name, resource=SENSORS)
    sensor = await visit.console.cluster.get(visit.bearer, path_of(SENSORS, namespace, name))
    pods, no_pods = await read_pods(visit.console.cluster, visit.bearer, namespace, name)
    seen = _seen(sensor, pods, no_pods)
    if visit.is_fragment and visit.query.get("seen") == seen:
        return unchanged()
    status = sensor.get("status") or {}
    tone, word = sensor_tone(sensor)
    problem = sensor_problem(sensor)
    return visit.page(
        "sensor_live.html" if visit.is_fragment else "sensor.html",
        namespace=namespace,
        name=name,
        tone=tone,
        word=word,
        sentence=problem or sensor_note(sensor) or "",
        advice=sensor_advice(sensor) if problem else "",
        conditions=told_conditions(sensor),
        image=sensor["spec"].get("image") or "",
        counts={kind: int((status.get("rules") or {}).get(kind) or 0) for kind in ("bound", "active", "rejected")},
        last_event=status.get("lastEventTime") or "",
        token=status.get("token") or {},
        ttl=(sensor["spec"].get("token") or {}).get("ttl") or "",
        pods=pods,
        no_pods=no_pods,
        types=type_rows(sensor),
        rules=link("/", sensor=f"{namespace}/{name}"),
        rejected=link("/", sensor=f"{namespace}/{name}", state="bad"),
        again=link(f"/sensors/{namespace}/{name}", seen=seen),
    )


async def read_pods(cluster: ConsoleCluster, bearer: str, namespace: str, name: str) -> tuple[list[PodRow], str]:
    """A Sensor's pods; or why they cannot be read, as a sentence.

    Args:
        cluster: the Kubernetes API.
        bearer: the visitor's token.
        namespace: of the Sensor.
        name: of the Sensor.
    """
    query = {"labelSelector": f"{SENSOR_LABEL}={name}", "limit": str(_MOST_PODS)}
    try:
        found = await cluster.get(bearer, pods_path(namespace), query)
    except KubernetesError as error:
        if error.status == _FORBIDDEN:
            return [], f"You may not see them: that needs the right to list pods in namespace {namespace}."
        return [], "The Kubernetes API does not say now which pods there are."
    return pod_rows(found.get("items") or ()), ""


def _seen(sensor: dict[str, Any], pods: list[PodRow], no_pods: str) -> str:
    """What tells one look from another: what is shown, and the minute, since ages are shown as well."""
    minute = datetime.now(UTC).strftime("%H:%M")
    shown = msgspec.json.encode([sensor["metadata"].get("resourceVersion"), pods, no_pods, minute])
    return hashlib.sha256(shown).hexdigest()[:16]
