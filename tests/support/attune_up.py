"""A real ``attune up`` as a process, and its Kubernetes-shaped API used as tests use kubectl."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from support.eventually import eventually
from support.kubectl import CommandFailedError, Kubectl, Manifest, condition
from support.system import Api

from attune_contract import environment
from attune_contract.local import Endpoints, read_endpoints
from attune_local.processes import MARK
from attune_operator.resources.kinds import EVENT, NAMESPACE, RULE, SENSOR, WATCHED, Kind

ATTUNE = Path(sys.executable).with_name("attune")
_KINDS = {kind.kind.lower(): kind for kind in (SENSOR, RULE, NAMESPACE, EVENT, *WATCHED)}


def kind_named(name: str) -> Kind:
    """A kind by its name or its plural, as kubectl takes them."""
    for kind in _KINDS.values():
        if name.lower() in (kind.kind.lower(), kind.plural):
            return kind
    raise LookupError(name)


def _sent(method: str, url: str, **options: Any) -> httpx.Response:
    """One request; that nobody answers is an OSError, which waiting tests expect."""
    try:
        return httpx.request(method, url, timeout=60, **options)
    except httpx.TransportError as error:
        raise ConnectionError(f"{method} {url}: {error}") from error


class LocalKube(Kubectl):
    """What tests do with kubectl, done with ``attune up``'s API."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, Path("kubectl"), Path("helm"))

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """``wait`` for a condition; whatever else needs kubectl itself is not for both backends."""
        match arguments:
            case ["wait", wanted, target, "-n", namespace, *_]:
                kind, _, name = target.partition("/")
                reached = wanted.removeprefix("--for=condition=")
                eventually(
                    lambda: condition(self.get(kind, name, namespace), reached)["status"] == "True",
                    within=180, what=f"{target} {reached}",
                )  # fmt: skip
                return ""
        raise AssertionError(f"kubectl {' '.join(arguments)} is not possible without a cluster")

    def _endpoints(self) -> Endpoints:
        found = read_endpoints(self.kubeconfig)
        if found is None:
            raise LookupError("attune up does not run (yet)")
        return found

    def request(
        self, method: str, path: str, *, body: Any = None, content_type: str = "application/json"
    ) -> httpx.Response:
        endpoint = self._endpoints().kubernetes
        token = Path(endpoint.token_file).read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
        content = None if body is None else json.dumps(body)
        return _sent(method, f"{endpoint.url}{path}", headers=headers, content=content)

    def _answer(self, response: httpx.Response) -> Manifest:
        answer: Manifest = response.json()
        if response.status_code >= 400:
            result = subprocess.CompletedProcess([], response.status_code, "", answer.get("message", response.text))
            raise CommandFailedError([response.request.method, str(response.request.url)], result)
        return answer

    def apply(self, *manifests: Manifest) -> None:
        for manifest in manifests:
            kind, metadata = kind_named(manifest["kind"]), manifest["metadata"]
            path = kind.path(metadata.get("namespace", "default"), metadata["name"])
            content_type = "application/apply-patch+yaml"
            self._answer(
                self.request("PATCH", f"{path}?fieldManager=kubectl", body=manifest, content_type=content_type)
            )

    def get(self, kind: str, name: str, namespace: str) -> Manifest:
        return self._answer(self.request("GET", kind_named(kind).path(namespace, name)))

    def find(self, kind: str, name: str, namespace: str) -> Manifest | None:
        response = self.request("GET", kind_named(kind).path(namespace, name))
        return None if response.status_code == 404 else self._answer(response)

    def list(self, kind: str, namespace: str, selector: str = "") -> list[Manifest]:
        query = f"?labelSelector={selector}" if selector else ""
        items: list[Manifest] = self._answer(self.request("GET", kind_named(kind).path(namespace) + query))["items"]
        return items

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest) -> None:
        path = kind_named(kind).path(namespace, name)
        self._answer(self.request("PATCH", path, body=patch, content_type="application/merge-patch+json"))

    def delete(self, kind: str, name: str, namespace: str, *_: str) -> None:
        response = self.request("DELETE", kind_named(kind).path(namespace, name))
        if response.status_code != 404:
            self._answer(response)


class AttuneUp:
    """One ``attune up`` in a folder. It may be stopped, killed and started again."""

    def __init__(
        self, folder: Path, *paths: str, arguments: Sequence[str] = (), environment: dict[str, str] | None = None
    ):
        self.folder = folder
        self.paths = paths or (".",)
        self.arguments = list(arguments)
        self.environment = environment or {}
        self.data_dir = folder / ".attune"
        self.kube = LocalKube(self.data_dir)
        self.stdout = folder / "stdout.txt"
        self.stderr = folder / "stderr.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start it; returns when everything answers."""
        with self.stdout.open("ab") as stdout, self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                [str(ATTUNE), "up", *self.paths, "--output", "json", *self.arguments],
                cwd=self.folder, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment},
            )  # fmt: skip
        if wait:
            pid = self.process.pid

            def answers() -> bool:
                assert self.process is not None
                assert self.process.poll() is None, self.stderr.read_text()
                found = read_endpoints(self.data_dir)
                return found is not None and found.pid == pid

            eventually(answers, within=180, what="attune up answers")

    def stop(self) -> int:
        """Ctrl-C; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(120)

    def kill(self) -> None:
        """kill -9, of it alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def marked(self) -> dict[int, str]:
        """The processes that it started, with their command lines."""
        mark = f"{MARK}={self.data_dir}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def pid_of(self, word: str) -> int:
        """The process whose command line holds this word.

        Raises:
            LookupError: there is none (now), or more than one.
        """
        found = [pid for pid, command in self.marked().items() if word in command]
        if len(found) != 1:
            raise LookupError(f"{len(found)} processes with {word!r}")
        return found[0]

    def api(self, path: str, **options: Any) -> httpx.Response:
        """Ask the API, as the admin."""
        endpoints = read_endpoints(self.data_dir)
        assert endpoints is not None
        token = Path(endpoints.api.token_file).read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        return _sent("GET", f"{endpoints.api.url}{path}", headers=headers, **options)

    def events(self, rule_uid: str = "") -> list[dict[str, Any]]:
        """Every stored event (of a rule), oldest first."""
        found: list[dict[str, Any]] = []
        query = {"order": "asc", "limit": "1000"} | ({"rule_uid": rule_uid} if rule_uid else {})
        while True:
            answer = self.api("/api/v1/events", params={**query, "after_seq": str(found[-1]["seq"] if found else 0)})
            assert answer.status_code == 200, answer.text
            page = answer.json()["data"]
            found += page
            if len(page) < 1000:
                return found

    def shown(self) -> list[dict[str, Any]]:
        """The events that it printed; one that is being printed is none yet."""
        return [json.loads(line) for line in self.stdout.read_text().rpartition("\n")[0].splitlines()]

    def said(self) -> str:
        """What it wrote to stderr."""
        return self.stderr.read_text()


class LocalApi(Api):
    """The API of an ``attune up``, with the admin's token."""

    def __init__(self, up: AttuneUp) -> None:
        super().__init__(up.kube, (up.data_dir / "admin.token").read_text().strip())
        self._up = up

    def _connected(self) -> httpx.Client:
        if self._client is None:
            endpoints = read_endpoints(self._up.data_dir)
            assert endpoints is not None
            self._client = self._stack.enter_context(httpx.Client(base_url=endpoints.api.url, timeout=30))
        return self._client


def kill_pod_process(up_data_dir: Path, pod: str) -> None:
    """SIGKILL the process that is the pod's container."""
    instance = f"{environment.SENSOR_INSTANCE}={pod}".encode()
    mark = f"{MARK}={up_data_dir}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if {instance, mark} <= set((entry / "environ").read_bytes().split(b"\0")):
                    os.kill(int(entry.name), signal.SIGKILL)


@contextmanager
def attune_up(folder: Path, *paths: str, **options: Any) -> Iterator[AttuneUp]:
    """A running ``attune up``; ended, with all that it started, afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    up = AttuneUp(folder, *paths, **options)
    try:
        up.start()
        yield up
    finally:
        if up.process is not None and up.process.poll() is None:
            up.process.send_signal(signal.SIGINT)
            try:
                up.process.wait(120)
            except subprocess.TimeoutExpired:
                up.process.kill()
                up.process.wait(60)
        deadline = time.monotonic() + 60
        while up.marked() and time.monotonic() < deadline:
            time.sleep(0.1)
