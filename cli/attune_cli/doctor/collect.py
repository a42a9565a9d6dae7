"""What belongs into a bundle, and how it is read: of any system, of a cluster, and of an ``attune up``."""

import platform
import ssl
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from attune_cli.doctor.bundle import Bundle
from attune_cli.doctor.charts import release_values
from attune_cli.doctor.tasks import Task
from attune_cli.errors import CliError
from attune_cli.session import Session
from attune_cli.targets.pages import Page, Pages, Part
from attune_contract import __version__
from attune_contract.names import PART_OF_ATTUNE, SENSOR_LABEL
from attune_contract.telling import Object, bare, ref, rule_problem

#: Seconds for one request.
_TIMEOUT: Final = 10.0
#: Bytes of one log.
_LOG_BYTES: Final = 1024 * 1024
#: Rules in the bundle, those with a problem first, and Kubernetes Events, the newest first.
_RULES: Final = 2000
_EVENTS: Final = 2000
#: Objects of one list that are read. An answer has a page of them.
_ITEMS: Final = 10_000
#: Kinds of the chart's objects that say how the parts are set up, by their path's beginning.
_CHART_KINDS: Final = (
    ("/apis/apps/v1", "deployments"),
    ("/apis/apps/v1", "statefulsets"),
    ("/apis/apps/v1", "replicasets"),
    ("/api/v1", "services"),
    ("/api/v1", "serviceaccounts"),
    ("/apis/networking.k8s.io/v1", "networkpolicies"),
    ("/apis/policy/v1", "poddisruptionbudgets"),
)
#: Objects of Sensors, in their namespaces.
_SENSOR_KINDS: Final = (("/apis/apps/v1", "deployments"), ("/api/v1", "services"))


def versions() -> dict[str, str]:
    """Of this command line and its surroundings."""
    return {
        "attune": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "openssl": ssl.OPENSSL_VERSION,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


class Collector:
    """Reads one system.

    Args:
        session: the system.
        bundle: where everything goes.
        pages: reads health and metrics.
        log_lines: so many of the last lines of each log.
    """

    def __init__(self, session: Session, bundle: Bundle, pages: Pages, *, log_lines: int) -> None:
        self._session = session
        self._kube = session.target.kube
        self._bundle = bundle
        self._pages = pages
        self._lines = log_lines
        #: What was read of health and metrics, by part and path, for checks.
        self.read: dict[tuple[Part, str], Page] = {}

    def of_objects(self, sensors: list[Object], rules: list[Object]) -> None:
        """Add Sensors and Rules, and what is wrong with the Rules."""
        self._bundle.add_value("sensors.json", [bare(body) for body in sensors])
        problems = [(body, problem) for body in rules if (problem := rule_problem(body)) is not None]
        self._bundle.add_text("rules-problems.txt", "".join(f"{ref(body)}: {problem}\n" for body, problem in problems))
        wrong = {ref(body) for body, _ in problems}
        ordered = sorted(rules, key=lambda body: ref(body) not in wrong)
        if len(ordered) > _RULES:
            self._bundle.note("rules.json", f"{len(ordered) - _RULES} of {len(ordered)} Rules were left out")
        self._bundle.add_value("rules.json", [bare(body) for body in ordered[:_RULES]])

    def of_pages(self, parts: Iterable[Part]) -> Iterator[Task]:
        """Health and metrics of each part."""
        for part in parts:
            for path in part.ports:
                file = f"pages/{part.role}/{part.name.replace('/', '.')}{path}.txt"
                yield file, partial(self._page, file, part, path)

    def _page(self, file: str, part: Part, path: str) -> None:
        page = self._pages.read(part, path)
        self.read[part, path] = page
        self._bundle.add_text(file, page.text if page.status < 400 else f"HTTP status {page.status}\n{page.text}")

    # -- a cluster

    def of_cluster(self, home: str, namespaces: Iterable[str]) -> Iterator[Task]:
        """What the chart has made, what the operator has made for Sensors, and the logs of both.

        Args:
            home: the chart's namespace.
            namespaces: those that have Sensors or Rules.
        """
        yield "cluster/nodes.json", self._nodes
        yield f"{home}/configmaps.json", partial(self._configmaps, home)
        yield f"{home}/chart-values.json", partial(self._chart, home)
        for prefix, plural in _CHART_KINDS:
            yield self._list(home, prefix, plural, PART_OF_ATTUNE)
        for namespace in sorted({home, *namespaces}):
            yield f"{namespace}/events.json", partial(self._events, namespace)
            for prefix, plural in _SENSOR_KINDS:
                yield self._list(namespace, prefix, plural, SENSOR_LABEL, file=f"sensors-{plural}.json")

    def of_pods(self, pods: Iterable[Object]) -> None:
        """Add pods."""
        self._bundle.add_value("pods.json", [bare(pod) for pod in pods])

    def of_logs(self, pods: Iterable[Object]) -> Iterator[Task]:
        """The logs of pods, also those before the last restart."""
        for pod in pods:
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            statuses = {
                status["name"]: status
                for key in ("containerStatuses", "initContainerStatuses")
                for status in (pod.get("status") or {}).get(key) or ()
            }
            spec = pod.get("spec") or {}
            for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
                log = f"{namespace}/logs/{name}/{container['name']}.log"
                query = {"container": container["name"]}
                yield log, partial(self._log, log, namespace, name, query)
                if statuses.get(container["name"], {}).get("restartCount"):
                    before = log.removesuffix(".log") + ".previous.log"
                    yield before, partial(self._log, before, namespace, name, {**query, "previous": "true"})

    def _log(self, file: str, namespace: str, pod: str, query: dict[str, str]) -> None:
        limits = {"tailLines": str(self._lines), "limitBytes": str(_LOG_BYTES), "timestamps": "false"}
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        text = self._kube.text(path, params={**limits, **query}, what=f"log of {pod}", timeout=_TIMEOUT)
        self._bundle.add_text(file, text)

    def _items(self, file: str, path: str, what: str, **query: str) -> list[Object]:
        """The objects of a list, page by page; what of them was not read is noted for the file."""
        found: list[Object] = []
        try:
            for answer in self._kube.pages(path, query, what=what, timeout=_TIMEOUT):
                found += answer.get("items") or ()
                metadata = answer.get("metadata") or {}
                if metadata.get("continue") and len(found) >= _ITEMS:
                    left = metadata.get("remainingItemCount", "an unknown number of")
                    self._bundle.note(file, f"only the first {len(found)} {what} were read, and {left} more are there")
                    break
        except CliError as error:
            if not found:
                raise
            self._bundle.note(file, f"only the first {len(found)} {what} were read: {error}")
        return found

    def _list(self, namespace: str, prefix: str, plural: str, selector: str, *, file: str = "") -> Task:
        target = f"{namespace}/{file or f'{plural}.json'}"

        def read() -> None:
            items = self._items(target, f"{prefix}/namespaces/{namespace}/{plural}", plural, labelSelector=selector)
            self._bundle.add_value(target, [bare(item) for item in items])

        return target, read

    def _nodes(self) -> None:
        """Of nodes only what pods may suffer from."""
        nodes = self._items("cluster/nodes.json", "/api/v1/nodes", "nodes")
        kept = [
            {
                "name": node["metadata"]["name"],
                "taints": (node.get("spec") or {}).get("taints"),
                "conditions": (node.get("status") or {}).get("conditions"),
                "nodeInfo": (node.get("status") or {}).get("nodeInfo"),
                "allocatable": (node.get("status") or {}).get("allocatable"),
            }
            for node in nodes
        ]
        self._bundle.add_value("cluster/nodes.json", kept)

    def _configmaps(self, home: str) -> None:
        items = self._items(f"{home}/configmaps.json", f"/api/v1/namespaces/{home}/configmaps", "configmaps")
        ours = [
            bare(item)
            for item in items
            if item["metadata"]["name"].startswith("attune-")
            and "grafana_dashboard" not in (item["metadata"].get("labels") or {})
        ]
        self._bundle.add_value(f"{home}/configmaps.json", ours)

    def _events(self, namespace: str) -> None:
        self._newest(f"{namespace}/events.json", f"/api/v1/namespaces/{namespace}/events")

    def _newest(self, file: str, path: str) -> None:
        """The newest Kubernetes Events. The server lists them by name, so that all have to be read."""
        found = sorted(self._items(file, path, "events"), key=_when, reverse=True)
        if len(found) > _EVENTS:
            self._bundle.note(file, f"the {len(found) - _EVENTS} oldest of {len(found)} were left out")
        self._bundle.add_value(file, [_event(event) for event in found[:_EVENTS]])

    def _chart(self, home: str) -> None:
        selector = {"labelSelector": "owner=helm,status=deployed"}
        file = f"{home}/chart-values.json"
        releases = self._items(file, f"/api/v1/namespaces/{home}/secrets", "Helm releases", **selector)
        found = [values for release in releases if (values := release_values(release)) is not None]
        if not found:
            self._bundle.note(file, "no release of Helm is there; it may be installed otherwise")
        else:
            self._bundle.add_value(file, found)

    # -- attune up

    def of_local_objects(self) -> Iterator[Task]:
        """Objects of an ``attune up``. Its Secrets are left alone."""
        for path, plural in (
            ("/apis/apps/v1", "deployments"), ("/api/v1", "configmaps"), ("/api/v1", "namespaces"),
        ):  # fmt: skip
            yield f"{plural}.json", partial(self._local_list, f"{plural}.json", f"{path}/{plural}", plural)
        yield "events.json", partial(self._newest, "events.json", "/api/v1/events")

    def _local_list(self, file: str, path: str, plural: str) -> None:
        items = self._items(file, path, plural)
        self._bundle.add_value(
            file, [bare(item) for item in items if not item["metadata"]["name"].endswith("-scripts")]
        )


def _when(event: Object) -> str:
    """When it was seen last."""
    times = (event.get("series") or {}).get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime")
    return next((str(time) for time in times if time), str(event["metadata"].get("creationTimestamp") or ""))


def _event(event: Object) -> dict[str, Any]:
    kept = (
        "type",
        "reason",
        "message",
        "count",
        "firstTimestamp",
        "lastTimestamp",
        "eventTime",
        "reportingComponent",
        "note",
    )
    about = event.get("involvedObject") or event.get("regarding") or {}
    return {"about": {key: about.get(key) for key in ("kind", "namespace", "name")}} | {
        key: event[key] for key in kept if event.get(key) is not None
    }


def secret_names(session: Session, namespaces: Iterable[str]) -> dict[str, set[str] | None]:
    """The names of Secrets in each namespace, without their contents; None where they may not be listed."""
    # The server leaves out everything but the metadata (Kubernetes API concepts, "Metadata-only fetches").
    headers = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    found: dict[str, set[str] | None] = {}
    for namespace in namespaces:
        path = f"/api/v1/namespaces/{namespace}/secrets"
        try:
            listed = session.kube.items(path, {}, what="secrets", headers=headers, timeout=_TIMEOUT)
            found[namespace] = {item["metadata"]["name"] for item in listed}
        except CliError:
            found[namespace] = None
    return found
