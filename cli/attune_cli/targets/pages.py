"""Health and metrics of the running parts: which there are, and what their pages say.

In a cluster through a pod's port, as for the API (:mod:`.portforward`); under ``attune up`` on loopback.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final

from attune_cli.errors import CliError, RefusedError, UnreachableError
from attune_cli.metrics import Sample, total
from attune_cli.targets.api import no_certificates
from attune_cli.targets.choose import TLS_PORT, Target, speaks_tls
from attune_cli.targets.http import clock_ahead, unreachable
from attune_cli.targets.httpx_client import httpx
from attune_cli.targets.kube import Object
from attune_contract.names import PART_OF_ATTUNE, SENSOR_LABEL

_NAME_LABEL: Final = "app.kubernetes.io/name"
#: The chart's parts by their label, and their pages by the name of the port that serves them.
_CHART: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "attune-operator": ("operator", {"/readyz": "liveness", "/metrics": "metrics"}),
    "attune-api": ("api", {"/ready": "http", "/metrics": "http"}),
    "attune-actions": ("actions", {"/ready": "metrics", "/metrics": "metrics"}),
}
_LOCAL: Final = {"operator": ("/metrics",), "api": ("/ready", "/metrics"), "actions": ("/ready", "/metrics")}
_SENSOR_PAGES: Final = {"/ready": "metrics", "/metrics": "metrics"}
#: The gauge of each part that is 0 while it has no connection to NATS.
_CONNECTED: Final = {
    "operator": "attune_rule_stream_connected",
    "api": "attune_api_nats_connected",
    "actions": "attune_actions_nats_connected",
    "sensor": "attune_sensor_nats_connected",
}
#: Seconds for one page. A pod that does not answer must not hold up the others.
_TIMEOUT: Final = httpx.Timeout(5.0)
#: A page may have so many bytes; what is longer is cut.
MAX_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One running program.

    Attributes:
        role: ``operator``, ``api``, ``actions`` or ``sensor``.
        name: its pod, ``namespace/name``; under ``attune up`` the role, where there is no pod.
        sensor: the Sensor, ``namespace/name``; empty for others.
        ports: the port of each page, by the page's path.
        secure: whether it speaks TLS.
        url: where it is on this machine; empty in a cluster.
    """

    role: str
    name: str
    sensor: str = ""
    ports: Mapping[str, int] = field(default_factory=dict, hash=False)
    secure: bool = False
    url: str = ""


def cut_off(part: Part, samples: list[Sample]) -> bool | None:
    """Whether a part has no connection to NATS, as it says itself; None where it says nothing of it."""
    connected = total(samples, _CONNECTED.get(part.role, ""))
    return None if connected is None else connected == 0


def parts_of_pods(pods: Iterable[Mapping[str, Any]], *, local: bool) -> Iterator[Part]:
    """The parts that run in pods. Pods that are over, or have no node yet, are left out.

    Args:
        pods: as Kubernetes has them.
        local: whether they are processes of an ``attune up``.
    """
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        labels = metadata.get("labels") or {}
        if status.get("phase") != "Running" or metadata.get("deletionTimestamp"):
            continue
        sensor = labels.get(SENSOR_LABEL)
        role, pages = ("sensor", _SENSOR_PAGES) if sensor else _CHART.get(labels.get(_NAME_LABEL, ""), ("", {}))
        if not role:
            continue
        numbers = _local_ports(status) if local else _container_ports(pod)
        if role == "api" and TLS_PORT in numbers:
            pages = dict.fromkeys(pages, TLS_PORT)
        ports = {page: numbers[port] for page, port in pages.items() if port in numbers}
        yield Part(
            role=role,
            name=f"{metadata['namespace']}/{metadata['name']}",
            sensor=f"{metadata['namespace']}/{sensor}" if sensor else "",
            ports=ports,
            secure=role == "api" and any(speaks_tls(container) for container in _containers(pod)),
            url=f"http://127.0.0.1:{next(iter(ports.values()))}" if local and ports else "",
        )


def _containers(pod: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return (pod.get("spec") or {}).get("containers") or ()


def _container_ports(pod: Mapping[str, Any]) -> dict[str, int]:
    ports = [port for container in _containers(pod) for port in container.get("ports") or ()]
    return {str(port["name"]): int(port["containerPort"]) for port in ports if port.get("name")}


def _local_ports(status: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for container in status.get("containerStatuses") or ():
        found |= {str(name): int(port) for name, port in (container.get("localPorts") or {}).items()}
    return found


def local_parts(pages: Mapping[str, str]) -> Iterator[Part]:
    """The parts of an ``attune up`` that are no pods."""
    for role, url in pages.items():
        yield Part(role=role, name=role, ports=dict.fromkeys(_LOCAL.get(role, ("/metrics",)), 0), url=url)


class Pages:
    """Reads pages. May be used by several threads at once."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._local = httpx.Client(verify=no_certificates(), timeout=_TIMEOUT, trust_env=False)
        self._clients: dict[tuple[str, int], httpx.Client] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._local.close()
        self.keep(())

    def keep(self, parts: Iterable[Part]) -> None:
        """Close the connections to all others. Nobody may read from them meanwhile."""
        kept = {part.name for part in parts}
        with self._lock:
            gone = [self._clients.pop(key) for key in list(self._clients) if key[0] not in kept]
        for client in gone:
            client.close()

    def read(self, part: Part, path: str) -> "Page":
        """What a page says, whatever its HTTP status is.

        Raises:
            CliError: no answer.
        """
        if path not in part.ports:
            raise UnreachableError(f"{part.name} has no port for {path}.")
        try:
            client, url = self._client(part, part.ports[path])
            with client.stream("GET", url + path) as answer:
                return _read(answer)
        except httpx.HTTPError as error:
            raise unreachable(f"{path} of {part.role}", part.name, error) from None

    def _client(self, part: Part, port: int) -> tuple[httpx.Client, str]:
        if part.url:
            return self._local, part.url
        from attune_cli.targets.portforward import pod_transport

        namespace, _, pod = part.name.partition("/")
        key = (part.name, port)
        with self._lock:
            if (client := self._clients.get(key)) is None:
                transport = pod_transport(self._target.kube.access, namespace=namespace, pod=pod, port=port)
                client = self._clients[key] = httpx.Client(transport=transport, timeout=_TIMEOUT, trust_env=False)
        return client, f"{'https' if part.secure else 'http'}://{pod}.{namespace}"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer.

    Attributes:
        status: of HTTP.
        text: the page.
        ahead: how far the server's clock is ahead of ours; None where it does not say. HTTP says it in whole seconds.
    """

    status: int
    text: str
    ahead: timedelta | None


def _read(answer: httpx.Response) -> Page:
    taken, parts = 0, []
    for chunk in answer.iter_bytes():
        parts.append(chunk)
        taken += len(chunk)
        if taken > MAX_BYTES:
            break
    text = b"".join(parts)[:MAX_BYTES].decode(errors="replace")
    return Page(answer.status_code, text, clock_ahead(answer))


def find_parts(target: Target, *, system_namespace: str, namespace: str | None) -> tuple[list[Part], list[str]]:
    """All parts that the caller may see, and why others are not among them.

    Args:
        target: the system.
        system_namespace: of the chart.
        namespace: whose Sensors' pods; None for all, or those of the target's namespace if the caller may not list all.
    """

    def ours() -> list[Object]:
        return target.kube.pods(system_namespace, PART_OF_ATTUNE)

    pods, problems = find_pods(target, ours=ours, namespace=namespace)
    return parts_of(target, pods), problems


def find_pods(
    target: Target, *, ours: Callable[[], list[Object]], namespace: str | None, instead: Iterable[str] = ()
) -> tuple[list[Object], list[str]]:
    """All pods of the chart and of Sensors that the caller may see, and why others are not among them.

    Args:
        target: the system.
        ours: lists the pods of the chart.
        namespace: whose Sensors' pods; None for all.
        instead: other namespaces whose Sensors' pods are listed, too, if the caller may not list those of all.

    Raises:
        CliError: an ``attune up`` cannot be asked.
    """
    if target.kind == "local":
        return target.kube.pods(None), []
    found: dict[str, Object] = {}
    problems: list[str] = []

    def add(pods: Callable[[], list[Object]]) -> None:
        try:
            found.update((f"{pod['metadata']['namespace']}/{pod['metadata']['name']}", pod) for pod in pods())
        except CliError as error:
            problems.append(str(error))

    def of_sensors() -> list[Object]:
        try:
            return target.kube.pods(namespace, SENSOR_LABEL)
        except RefusedError:
            if namespace is not None or target.namespace is None:
                raise
        for other in sorted({*instead} - {target.namespace}):
            add(partial(target.kube.pods, other, SENSOR_LABEL))
        return target.kube.pods(target.namespace, SENSOR_LABEL)

    add(ours)
    add(of_sensors)
    return list(found.values()), problems


def parts_of(target: Target, pods: Iterable[Object]) -> list[Part]:
    """The parts that run in pods, and under ``attune up`` those that run in none."""
    if target.kind == "local":
        return [*local_parts(target.pages), *parts_of_pods(pods, local=True)]
    return list(parts_of_pods(pods, local=False))
