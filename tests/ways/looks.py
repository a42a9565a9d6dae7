"""What people see, looked at again and again: the tables that kubectl prints, what it describes, and ``attune status``.

kubectl prints what the API server gives as a Table, and describes an object by its fields and its events. Both are asked for
here without starting a kubectl each time, so that looking does not take the processor from what is looked at.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

_GROUP = "/apis/attune.dev/v1alpha1"
_TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
_EVERY = 0.4
#: Seconds after which an answer is worth a remark.
_SLOW = 5.0


@dataclass(frozen=True)
class Line:
    """A line of a place, and the namespace that it is about (empty: the whole system)."""

    namespace: str
    text: str


@dataclass
class Look:
    """What stood in a place at a time (monotonic)."""

    time: float = 0.0
    lines: list[Line] = field(default_factory=list)

    def of(self, namespaces: Iterable[str]) -> list[str]:
        wanted = set(namespaces)
        return [line.text for line in self.lines if line.namespace in wanted]


class Looker:
    """Looks at the cluster all the time. :meth:`latest` is what was seen last.

    Args:
        base: the address of a ``kubectl proxy``.
    """

    def __init__(self, base: Callable[[], str]) -> None:
        self._base = base
        self._looks = {place: Look() for place in ("get", "describe", "kubernetes")}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="looker")
        self._thread.start()

    def latest(self, place: str) -> Look:
        return self._looks[place]

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(_EVERY):
            try:
                with httpx.Client(base_url=self._base(), timeout=5) as client:
                    while not self._stop.wait(_EVERY):
                        self._look(client)
            except (httpx.HTTPError, json.JSONDecodeError, OSError, KeyError):
                continue  # the API server is away, which is one of the ways

    def _look(self, client: httpx.Client) -> None:
        shown: list[Line] = []
        described: list[Line] = []
        for plural in ("rules", "sensors"):
            answer = client.get(f"{_GROUP}/{plural}", params={"includeObject": "Object"}, headers=_TABLE)
            if answer.status_code != 200:
                continue
            now = time.monotonic()
            table = answer.json()
            names = [column["name"] for column in table["columnDefinitions"]]
            for row in table.get("rows", ()):
                body = row["object"]
                namespace = body["metadata"]["namespace"]
                cells = zip(names, row["cells"], strict=True)
                shown.append(
                    Line(
                        namespace,
                        f"{body['kind']} " + "  ".join(f"{name}={cell}" for name, cell in cells if cell is not None),
                    )
                )
                described += [Line(namespace, text) for text in _conditions(body)]
        self._looks["get"] = Look(now, shown)
        now = time.monotonic()
        events = client.get("/api/v1/events").json()["items"]
        pods = client.get("/api/v1/pods").json()["items"]
        others: list[Line] = []
        for event in events:
            about = event["involvedObject"]
            line = Line(
                about.get("namespace", ""),
                f"{about['kind']} {about.get('name')}: Event {event.get('type')} {event.get('reason')}: {event.get('message')}",
            )
            (described if about["kind"] in ("Rule", "Sensor") else others).append(line)
        for pod in pods:
            others += [Line(pod["metadata"]["namespace"], text) for text in _pod(pod)]
        self._looks["describe"] = Look(now, described)
        self._looks["kubernetes"] = Look(now, others)


def _conditions(body: dict[str, Any]) -> Iterable[str]:
    if due := (body.get("status") or {}).get("nextTime"):
        yield f"{body['kind']} {body['metadata']['name']}: Next Time: {due}"
    for found in (body.get("status") or {}).get("conditions") or ():
        what = f"{found['type']}={found['status']} {found['reason']}: {found['message']}"
        yield f"{body['kind']} {body['metadata']['name']}: {what}"


def _pod(body: dict[str, Any]) -> Iterable[str]:
    name, status = body["metadata"]["name"], body.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for found in status.get(kind) or ():
            for state in ("state", "lastState"):
                for how, said in (found.get(state) or {}).items():
                    what = f"{said.get('reason')} {said.get('exitCode', '')} {said.get('message', '')}"
                    yield f"Pod {name}: {found['name']} {how} {what}"
    for found in status.get("conditions") or ():
        yield f"Pod {name}: {found['type']}={found['status']} {found.get('reason', '')} {found.get('message', '')}"


class StatusLooker:
    """Runs ``attune status -n NAMESPACE`` for one namespace after the other, in a process that has loaded it already."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._wanted: list[str] = []
        self._looks: dict[str, Look] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="status")
        self._thread.start()

    def want(self, namespace: str) -> None:
        """Look at this namespace from now on."""
        with self._lock:
            self._wanted.append(namespace)

    def enough(self, namespace: str) -> None:
        """Look at it no more."""
        with self._lock:
            self._wanted.remove(namespace)

    def latest(self, namespace: str) -> Look:
        return self._looks.get(namespace, Look())

    def close(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        command = [sys.executable, "-m", "ways.status_worker"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
        ) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            while not self._stop.wait(0.1):
                with self._lock:
                    wanted = list(self._wanted)
                for namespace in wanted:
                    began = time.monotonic()
                    print(namespace, file=worker.stdin, flush=True)
                    answer = json.loads(worker.stdout.readline())
                    lines = [Line(namespace, line) for line in answer["output"].splitlines() if line.strip()]
                    now = time.monotonic()
                    if now - began > _SLOW:
                        sys.stderr.write(f"attune status -n {namespace} took {now - began:.1f} s\n")
                    self._looks[namespace] = Look(now, lines)
            worker.stdin.close()
