"""Lists of Kubernetes that are long, or that not everybody may read, with an HTTP server in the API server's place."""

import json
import re
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import yaml
from support.cli import attune
from support.http_server import Request, served

from attune_cli.doctor import collect
from attune_cli.doctor.bundle import Bundle
from attune_cli.doctor.collect import Collector, secret_names
from attune_cli.doctor.masking import Masker
from attune_cli.doctor.tasks import run_all
from attune_cli.errors import ExitCode
from attune_cli.looked import Lister
from attune_cli.session import Session
from attune_cli.targets import kube, portforward
from attune_cli.targets.choose import TargetOptions
from attune_cli.targets.pages import Pages, Part, find_parts

Answer = Callable[[str, dict[str, str]], tuple[int, Any]]


@contextmanager
def cluster(answer: Answer, folder: Path) -> Iterator[Session]:
    """A session with a server that answers so; the context's namespace is ``team``."""

    def respond(request: Request) -> tuple[int, bytes]:
        url = urlsplit(request.path)
        status, body = answer(url.path, dict(parse_qsl(url.query)))
        return status, json.dumps(body).encode()

    with served(respond) as port:
        config = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        }
        path = folder / "config"
        path.write_text(yaml.safe_dump(config))
        session = Session(TargetOptions(kubeconfig=path))
        try:
            yield session
        finally:
            session.target.close()


# -- the bundle's lists


def event(number: int) -> dict[str, Any]:
    """The later by the clock, the earlier by its name."""
    return {
        "metadata": {"name": f"e-{10_000 - number}", "namespace": "team"},
        "involvedObject": {"kind": "Rule", "name": f"r-{number}"},
        "lastTimestamp": f"2026-11-28T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z",
    }


def paged(events: list[dict[str, Any]], *, broken_from: int | None = None) -> Answer:
    """A server that lists by name."""
    ordered = sorted(events, key=lambda one: str(one["metadata"]["name"]))

    def answer(path: str, query: dict[str, str]) -> tuple[int, Any]:
        if not path.endswith("/events"):
            return 200, {"items": []}
        start, size = int(query.get("continue", "0")), int(query["limit"])
        if broken_from is not None and start >= broken_from:
            return 410, {"message": "The provided continue parameter is too old."}
        left = len(ordered) - start - size
        more = {"continue": str(start + size), "remainingItemCount": left} if left > 0 else {}
        return 200, {"metadata": more, "items": ordered[start : start + size]}

    return answer


def events_of(answer: Answer, folder: Path) -> tuple[list[str], list[str]]:
    """The Rules of the Events in the bundle, and what it says is missing of them."""
    with cluster(answer, folder) as session:
        bundle = Bundle(Masker())
        pages = Pages(session.target)
        collector = Collector(session, bundle, pages, log_lines=1)
        tasks = [task for task in collector.of_cluster("attune-system", ["team"]) if task[0] == "team/events.json"]
        run_all(tasks, bundle, seconds=60)
        pages.close()
    found = json.loads(bundle.files["team/events.json"])
    return [one["about"]["name"] for one in found], [note for note in bundle.notes if "events.json" in note]


def test_of_many_events_the_newest_are_there_whatever_they_are_called(tmp_path: Path) -> None:
    found, notes = events_of(paged([event(number) for number in reversed(range(2300))]), tmp_path)
    assert found == [f"r-{number}" for number in reversed(range(300, 2300))]
    assert notes == ["team/events.json: the 300 oldest of 2300 were left out"]


def test_few_events_are_all_there_and_nothing_is_said(tmp_path: Path) -> None:
    assert events_of(paged([event(1), event(2)]), tmp_path) == (["r-2", "r-1"], [])


def test_a_list_that_is_too_long_to_be_read_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "_ITEMS", 1000)
    found, notes = events_of(paged([event(number) for number in range(1300)]), tmp_path)
    assert len(found) == 1000
    assert notes == ["team/events.json: only the first 1000 events were read, and 300 more are there"]


def test_a_list_that_breaks_off_keeps_what_was_read(tmp_path: Path) -> None:
    found, notes = events_of(paged([event(number) for number in range(1300)], broken_from=500), tmp_path)
    assert len(found) == 500
    assert len(notes) == 1
    assert notes[0].startswith("team/events.json: only the first 500 events were read: ")


def test_the_doctor_reads_each_list_once_and_says_what_it_could_not_read(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(path: str, query: dict[str, str]) -> tuple[int, Any]:
        asked.append(f"{path} {query.get('labelSelector', '')}".strip())
        match path.rpartition("/")[2]:
            case "version":
                return 200, {"gitVersion": "v1.33.0"}
            case "sensors":
                body = {"metadata": {"namespace": "team", "name": "core.timer"}, "spec": {}}
                return 200, {"items": [body, {**body, "metadata": {"namespace": "other", "name": "core.timer"}}]}
            case "pods" if query.get("labelSelector") == "attune.dev/sensor":
                if "/other/" not in path:
                    return 403, {"message": f"you may not list {path}"}
                container = {"name": "sensor", "ports": [{"name": "metrics", "containerPort": 8080}]}
                return 200, {"items": [{**pod("other", "timer-1"), "spec": {"containers": [container]}}]}
            case "pods" if query.get("labelSelector") == "app.kubernetes.io/part-of=attune":
                return 200, {"items": []}
        return 403, {"message": f"you may not list {path}"}

    bundle = tmp_path / "bundle.tar.gz"
    with cluster(answer, tmp_path):
        attune("doctor", "--kubeconfig", tmp_path / "config", "--out", bundle, code=ExitCode.PROBLEM)
    lists = ("/version", "/sensors", "/pods app.kubernetes.io/part-of=attune", "/pods attune.dev/sensor")
    read = Counter(one for one in asked if one.endswith(lists))
    assert set(read) == {
        "/version",
        "/apis/attune.dev/v1alpha1/sensors",
        "/api/v1/namespaces/attune-system/pods app.kubernetes.io/part-of=attune",
        "/api/v1/pods attune.dev/sensor",
        "/api/v1/namespaces/team/pods attune.dev/sensor",
        "/api/v1/namespaces/other/pods attune.dev/sensor",
    }
    assert set(read.values()) == {1}
    with tarfile.open(bundle) as archive:
        files = {entry.name.partition("/")[2]: archive.extractfile(entry) for entry in archive}
        texts = {path: file.read().decode() for path, file in files.items() if file is not None}
    assert [one["metadata"]["namespace"] for one in json.loads(texts["pods.json"])] == ["other"]
    assert json.loads(texts["cluster/version.json"]) == {"gitVersion": "v1.33.0"}
    notes = texts["not-read.txt"]
    for path, what in (
        ("rules.json", "team/rules"), ("pods.json", "team/pods"), ("pages", "team/pods"),
        ("pages/sensor/other.timer-1/metrics.txt", "port-forward"),
    ):  # fmt: skip
        assert re.search(rf"^{path}: not read: .*{what}", notes, re.MULTILINE), notes


# -- Sensors and Rules


def test_that_one_may_not_list_all_namespaces_is_remembered_for_a_while(tmp_path: Path) -> None:
    asked: list[str] = []

    def tenant(path: str, _query: dict[str, str]) -> tuple[int, Any]:
        asked.append(path.removeprefix("/apis/attune.dev/v1alpha1"))
        if allowed or "/namespaces/team/" in path:
            return 200, {"items": [{"metadata": {"name": path.rpartition("/")[2]}}]}
        return 403, {"message": "you may not"}

    def found(plural: str) -> list[str]:
        asked.clear()
        assert [body["metadata"]["name"] for body in lister.list(plural)] == [plural]
        return asked

    now, allowed = 0.0, False
    with cluster(tenant, tmp_path) as session:
        lister = Lister(session, None, False, clock=lambda: now)
        assert found("sensors") == ["/sensors", "/namespaces/team/sensors"]
        assert found("rules") == ["/rules", "/namespaces/team/rules"]
        now = 29.0
        assert found("sensors") == ["/namespaces/team/sensors"]
        now = 30.0
        assert found("sensors") == ["/sensors", "/namespaces/team/sensors"]
        allowed, now = True, 60.0
        assert found("sensors") == ["/sensors"]


# -- parts


def pod(namespace: str, name: str) -> dict[str, Any]:
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": {"attune.dev/sensor": "core.timer"}},
        "spec": {"containers": [{"ports": [{"name": "metrics", "containerPort": 8080}]}]},
        "status": {"phase": "Running"},
    }


def tenant(path: str, _query: dict[str, str]) -> tuple[int, Any]:
    """Who may list pods of one namespace only."""
    if path == "/api/v1/namespaces/team/pods":
        return 200, {"items": [pod("team", "timer-1")]}
    return 403, {"message": f"you may not list {path}"}


def test_who_may_not_list_all_pods_sees_those_of_the_contexts_namespace(tmp_path: Path) -> None:
    with cluster(tenant, tmp_path) as session:
        parts, problems = find_parts(session.target, system_namespace="attune-system", namespace=None)
        assert [part.name for part in parts] == ["team/timer-1"]
        assert len(problems) == 1
        assert "attune-system" in problems[0]
        parts, problems = find_parts(session.target, system_namespace="attune-system", namespace="other")
        assert parts == []
        assert len(problems) == 2


def in_pages(names: list[str], made: Callable[[str], Any]) -> Answer:
    """A server whose lists, wherever, have these objects."""

    def answer(_path: str, query: dict[str, str]) -> tuple[int, Any]:
        start, size = int(query.get("continue", "0")), int(query["limit"])
        more = {"continue": str(start + size)} if start + size < len(names) else {}
        return 200, {"metadata": more, "items": [made(name) for name in names[start : start + size]]}

    return answer


def test_pods_and_secrets_are_found_however_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "PAGE", 2)
    names = [f"timer-{number}" for number in range(5)]
    with cluster(in_pages(names, lambda name: pod("team", name)), tmp_path) as session:
        parts, problems = find_parts(session.target, system_namespace="attune-system", namespace=None)
        assert [part.name for part in parts] == [f"team/{name}" for name in names]
        assert problems == []
        assert secret_names(session, ["team"]) == {"team": set(names)}


class Transport(httpx.MockTransport):
    """In the place of a connection to a pod. While one is made, whoever makes another one catches up."""

    made: list["Transport"]
    both: threading.Barrier

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(lambda _: httpx.Response(200, text="attune_x 1"))
        self.closed = False
        self.made.append(self)
        with suppress(threading.BrokenBarrierError):
            self.both.wait(0.5)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pages]:
    monkeypatch.setattr(Transport, "made", [], raising=False)
    monkeypatch.setattr(Transport, "both", threading.Barrier(2), raising=False)
    monkeypatch.setattr(portforward, "PodTransport", Transport)
    with cluster(tenant, tmp_path) as session:
        found = Pages(session.target)
        yield found
        found.close()
    assert all(made.closed for made in Transport.made)


def sensor(name: str) -> Part:
    return Part(role="sensor", name=f"team/{name}", ports={"/ready": 8080, "/metrics": 8080})


def test_two_that_read_from_one_pod_at_once_share_a_connection(pages: Pages) -> None:
    readers = [threading.Thread(target=pages.read, args=(sensor("a"), path)) for path in ("/ready", "/metrics")]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(Transport.made) == 1


def test_connections_to_pods_that_are_gone_are_closed(pages: Pages) -> None:
    for name in ("a", "b"):
        pages.read(sensor(name), "/metrics")
    pages.keep([sensor("b")])
    assert [made.closed for made in Transport.made] == [True, False]
    pages.read(sensor("b"), "/metrics")
    assert len(Transport.made) == 2
