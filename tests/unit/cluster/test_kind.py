"""What `make cluster CLUSTER=kind` does, with programs that stand in for kind, docker and kubectl."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attune_cluster import __main__ as cli
from attune_cluster import images, kind, kind_record
from attune_cluster.console import ClusterError
from attune_cluster.settings import PACKAGE, Settings

FAKE = '''#!{python}
"""kind, docker and kubectl over one file of JSON."""
import fcntl, json, os, pathlib, sys, time
state_file = pathlib.Path({state!r})
program, args = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
lock = open(str(state_file) + ".lock", "w"); fcntl.flock(lock, fcntl.LOCK_EX)
state = json.loads(state_file.read_text())
state["calls"].append([program, *args])
clusters = state["clusters"]
def option(name, default=""):
    return next((a.partition("=")[2] for a in args if a.startswith(f"--{{name}}=")), default)
def end(code=0, out="", err=""):
    state_file.write_text(json.dumps(state))
    if out: print(out)
    if err: print(err, file=sys.stderr)
    sys.exit(code)
def by_id(identity):
    return next(c for c in clusters.values() if c["id"] == identity or c["name"] == identity)
if program == "docker":
    if state.get("docker"): end(1, err=state["docker"])
    if args[0] == "info": end()
    if args[0] == "ps":
        wanted = option("filter").rpartition("=")[2]
        end(out="\\n".join(c["id"] for n, c in clusters.items() if n == wanted))
    if args[0] == "inspect":
        c = by_id(args[-1])
        created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(c["created"]))
        end(out=f"/{{c['name']}} {{'true' if c['running'] else 'false'}} {{created}}.123456789Z")
    if args[0] == "start":
        for identity in args[1:]: by_id(identity)["running"] = True
        end()
    if args[:2] == ["image", "inspect"]:
        found = state["images"].get(args[-1])
        end(0 if found else 1, out=found or "")
    if args[0] == "exec":
        found = by_id(args[1])["images"].get(args[-1])
        end(0 if found else 1, out=found or "")
    if args[0] == "build":
        tag = option("tag"); state["images"][tag] = f"sha256:{{tag}}-{{state['build']}}"
        end(1 if state.get("no_registry") else 0, err="failed to resolve python:3.13-slim" if state.get("no_registry") else "")
if program == "kind":
    name = option("name")
    if args[:2] == ["create", "cluster"]:
        if state.get("no_registry"): end(1, err="failed to pull image kindest/node")
        state["made"] += 1
        clusters[name] = dict(id=f"id-{{state['made']}}", name=f"{{name}}-control-plane", running=True, created=time.time(),
                              images={{}}, contents=[], ready=state.get("ready", True), slow=state.get("slow", 0))
        if state.get("hangs"):
            state_file.write_text(json.dumps(state)); fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(60)
        end()
    if args[:2] == ["delete", "cluster"]: clusters.pop(name, None); end()
    if args[:2] == ["export", "kubeconfig"]:
        if name not in clusters: end(1)
        pathlib.Path(option("kubeconfig")).write_text(f"cluster of {{name}}"); end()
    if args[:2] == ["export", "logs"]: end()
    if args[:2] == ["load", "docker-image"]: clusters[name]["images"][args[-1]] = state["images"][args[-1]]; end()
if program == "kubectl":
    name = pathlib.Path(option("kubeconfig")).read_text().split()[-1]
    c = clusters[name]
    if not c["running"]: end(1)
    if "--raw=/readyz" in args and c["slow"] > 0: c["slow"] -= 1; end(1)
    if "wait" in args and not c["ready"]: end(1)
    end()
end(2, err=f"unexpected {{program}} {{args}}")
'''


class Machine:
    """A checkout, and the engine's and the clusters' state."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = folder / "state.json"
        self.change(clusters={}, images={}, calls=[], made=0, build=1)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("kind", "docker", "kubectl"):
            program = self.bin / name
            program.write_text(FAKE.format(python=sys.executable, state=str(self.file)))
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.bin}:{os.environ['PATH']}")
        monkeypatch.setenv("CLUSTER", "kind")
        monkeypatch.setattr(kind, "STARTING", 100.0)
        monkeypatch.setattr(kind, "NODES", 1.0)
        self.folder = folder

    def settings(self, checkout: str = "one", **changes: Any) -> Settings:
        repository = self.folder / checkout
        repository.mkdir(exist_ok=True)
        return Settings(repository=repository, cache=self.folder / "cache", **changes)

    @property
    def state(self) -> dict[str, Any]:
        with self._locked():
            return dict(json.loads(self.file.read_text()))

    def change(self, **changes: Any) -> None:
        with self._locked():
            before = json.loads(self.file.read_text()) if self.file.exists() else {}
            self.file.write_text(json.dumps({**before, **changes}))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open(f"{self.file}.lock", "w") as lock:  # noqa: PTH123 - as the programs do
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def cluster(self, name: str, **changes: Any) -> dict[str, Any]:
        state = self.state
        state["clusters"][name].update(changes)
        self.change(clusters=state["clusters"])
        return dict(state["clusters"][name])

    def make_by_hand(self, name: str) -> None:
        made = {
            "id": "by-hand", "name": f"{name}-control-plane", "running": True, "created": time.time(), "images": {},
            "contents": ["precious"], "ready": True, "slow": 0,
        }  # fmt: skip
        self.change(clusters={**self.state["clusters"], name: made})

    def calls(self, program: str, *words: str) -> list[list[str]]:
        return [call for call in self.state["calls"] if call[0] == program and call[1 : 1 + len(words)] == list(words)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def name_of(settings: Settings) -> str:
    return f"attune-{settings.identity}"


@pytest.mark.parametrize("changes", [{"slow": 2}, {"running": False}, {"running": False, "slow": 2}])
def test_a_cluster_that_starts_or_is_stopped_is_waited_for_and_kept(machine: Machine, changes: dict[str, Any]) -> None:
    settings = machine.settings()
    cli.up(settings, with_images=False)
    before = machine.cluster(name_of(settings), contents=["precious"], **changes)
    cli.up(settings, with_images=False)
    after = machine.state["clusters"][name_of(settings)]
    assert (after["id"], after["contents"], after["running"]) == (before["id"], ["precious"], True)
    assert not machine.calls("kind", "delete")


def test_a_cluster_that_does_not_answer_is_kept_and_told_what_would_delete_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "STARTING", 1.0)
    settings = machine.settings()
    cli.up(settings, with_images=False)
    machine.cluster(name_of(settings), slow=1000)
    with pytest.raises(
        ClusterError, match=r"Nothing in it was changed.*`make cluster-down` deletes it, with everything"
    ):
        cli.up(settings, with_images=False)
    assert not machine.calls("kind", "delete")


def test_an_interrupted_creation_is_no_cluster(machine: Machine) -> None:
    settings = machine.settings()
    machine.change(hangs=True)
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    program = (
        "import signal; from pathlib import Path; from attune_cluster import kind; from attune_cluster.settings import Settings\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell lets what runs in the background ignore it
        f"kind.up(Settings(repository=Path({str(settings.repository)!r}), cache=Path({str(settings.cache)!r})))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not machine.state["clusters"] and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(120)
    record = kind_record.read(settings)
    assert record is not None
    assert (record.complete, record.container) == (False, "id-1")
    assert kind.status(settings)["usable"] is False
    machine.change(hangs=False)
    cli.up(settings, with_images=False)
    assert machine.state["clusters"][name_of(settings)]["id"] == "id-2"


def test_a_creation_that_was_killed_is_no_cluster_either(machine: Machine) -> None:
    settings = machine.settings()
    machine.make_by_hand(name_of(settings))
    kind_record.write(settings, kind_record.Record(name=name_of(settings), started=time.time() - 10))
    cli.up(settings, with_images=False)
    assert machine.state["clusters"][name_of(settings)]["id"] == "id-1"


def test_nodes_that_never_get_ready_are_no_cluster(machine: Machine) -> None:
    settings = machine.settings()
    machine.change(ready=False)
    with pytest.raises(ClusterError, match="did not get ready"):
        cli.up(settings, with_images=False)
    assert machine.calls("kind", "export", "logs")
    assert kind.status(settings)["usable"] is False
    machine.change(ready=True)
    cli.up(settings, with_images=False)
    assert kind.status(settings)["usable"] is True


def test_what_somebody_else_made_is_used_and_never_deleted(machine: Machine) -> None:
    settings = machine.settings()
    machine.change(no_registry=True)
    with pytest.raises(ClusterError, match=r"KIND_IMAGE.*CLUSTER=local.*CLUSTER=current"):
        cli.up(settings, with_images=False)
    machine.make_by_hand(name_of(settings))
    cli.up(settings, with_images=False)
    cli.down(settings)
    assert machine.state["clusters"][name_of(settings)]["contents"] == ["precious"]


def test_a_cluster_that_took_the_place_of_ours_is_not_deleted(machine: Machine) -> None:
    settings = machine.settings()
    cli.up(settings, with_images=False)
    machine.make_by_hand(name_of(settings))
    cli.down(settings)
    assert machine.state["clusters"][name_of(settings)]["id"] == "by-hand"


def test_ours_is_deleted(machine: Machine) -> None:
    settings = machine.settings()
    cli.up(settings, with_images=False)
    cli.down(settings)
    assert machine.state["clusters"] == {}
    assert not settings.kubeconfig.exists()


def test_after_a_failure_another_type_may_be_chosen(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = machine.settings()
    machine.change(no_registry=True)
    with pytest.raises(ClusterError):
        cli.up(settings, with_images=False)
    monkeypatch.setenv("CLUSTER", "current")
    with pytest.raises(ClusterError, match="CLUSTER=current uses"):
        cli.up(settings, with_images=False)


def test_without_the_engine_a_cluster_is_forgotten_with_a_word(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = machine.settings()
    cli.up(settings, with_images=False)
    machine.change(docker="Cannot connect to the Docker daemon")
    cli.down(settings)
    assert f"kind delete cluster --name {name_of(settings)}" in capsys.readouterr().err
    assert not kind.started(settings)


def test_a_missing_right_is_told_as_it_is(machine: Machine) -> None:
    machine.change(docker="permission denied while trying to connect to the Docker daemon socket")
    with pytest.raises(ClusterError, match="permission denied"):
        kind.check(machine.settings())


def test_each_checkout_has_a_cluster_of_its_own(machine: Machine) -> None:
    one, two = machine.settings("one"), machine.settings("two")
    cli.up(one, with_images=False)
    cli.up(two, with_images=False)
    assert set(machine.state["clusters"]) == {name_of(one), name_of(two)}
    cli.down(two)
    assert set(machine.state["clusters"]) == {name_of(one)}


def test_the_name_is_remembered(machine: Machine) -> None:
    cli.up(machine.settings(kind_cluster="b"), with_images=False)
    machine.make_by_hand("c")
    with pytest.raises(ClusterError, match="kind cluster b was started here"):
        cli.up(machine.settings(kind_cluster="c"), with_images=False)
    plain = machine.settings()
    assert kind.status(plain)["name"] == "b"
    cli.down(plain)
    assert set(machine.state["clusters"]) == {"c"}


def test_status_changes_no_kubeconfig(machine: Machine) -> None:
    settings = machine.settings()
    cli.up(settings, with_images=False)
    machine.make_by_hand("other")
    before = settings.kubeconfig.read_text()
    kind.status(machine.settings(kind_cluster="other"))
    assert settings.kubeconfig.read_text() == before == f"cluster of {name_of(settings)}"
    assert settings.kubeconfig.stat().st_mode & 0o077 == 0


def test_image_and_configuration_of_the_node_may_be_chosen(machine: Machine) -> None:
    cli.up(machine.settings(kind_image="mine:1", kind_config="kind.yaml"), with_images=False)
    [call] = machine.calls("kind", "create", "cluster")
    assert {"--image=mine:1", "--config=kind.yaml"} <= set(call)


def test_only_images_that_changed_are_loaded_and_the_base_may_be_chosen(machine: Machine) -> None:
    settings = machine.settings(python_image="py313")
    (settings.repository / "Dockerfile").write_text("ARG PYTHON_IMAGE\nFROM ${PYTHON_IMAGE} AS operator\n")
    cli.up(settings, with_images=True)
    wanted = len(images.images())
    loads = machine.calls("kind", "load", "docker-image")
    assert len(loads) == wanted
    assert all(len([word for word in call if not word.startswith("-")]) == 4 for call in loads), "one image at a time"
    assert all("--build-arg=PYTHON_IMAGE=py313" in call for call in machine.calls("docker", "build"))
    builds = len(machine.calls("docker", "build"))
    images.build_and_load(settings, "kind")
    assert len(machine.calls("docker", "build")) == builds, "nothing changed"
    first = next(iter(machine.state["clusters"][name_of(settings)]["images"]))
    inside = machine.state["clusters"][name_of(settings)]["images"]
    machine.cluster(name_of(settings), images={**inside, first: "sha256:of-another-checkout"})
    images.build_and_load(settings, "kind")
    assert len(machine.calls("kind", "load", "docker-image")) == wanted + 1


def test_a_build_without_a_registry_says_what_else_there_is(machine: Machine) -> None:
    settings = machine.settings()
    (settings.repository / "Dockerfile").write_text("FROM scratch AS operator\n")
    cli.up(settings, with_images=False)
    machine.change(no_registry=True)
    with pytest.raises(ClusterError, match=r"ATTUNE_PYTHON_IMAGE.*CLUSTER=local"):
        images.build_and_load(settings, "kind")
