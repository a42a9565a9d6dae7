"""What a pod becomes on this machine: command, environment, files; and which pods there are while a Deployment rolls."""

import base64
import sys
from pathlib import Path
from typing import Any

import pytest

from attune_contract import environment
from attune_local.node import container as containers
from attune_local.node import rollout, volumes
from attune_local.node.container import ContainerError
from attune_local.node.images import entrypoint
from attune_local.node.pod import _RETRY
from attune_operator.resources.kinds import CONFIG_MAP, SECRET, Kind, Object

POD: Object = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x"}},
    "spec": {
        "containers": [{"name": "sensor", "image": "attune/sensor-timer:0.1.0"}],
        "volumes": [
            {"name": "credentials", "secret": {"secretName": "s"}},
            {"name": "config", "configMap": {"name": "c"}},
            {"name": "spool", "emptyDir": {}},
        ],
    },
}
OBJECTS: dict[tuple[Kind, str], Object] = {
    (SECRET, "s"): {"data": {"token": base64.b64encode(b"secret").decode()}},
    (CONFIG_MAP, "c"): {"data": {"config.json": "{}"}},
}


def find(kind: Kind, name: str) -> Object | None:
    return OBJECTS.get((kind, name))


@pytest.mark.parametrize(
    "image",
    ["attune/sensor-timer:0.1.0", "attune/sensor-timer", "registry.example:5000/attune/sensor-timer@sha256:abc"],
)
def test_images_of_ours_are_programs_of_this_installation(image: str) -> None:
    assert entrypoint(image) == [sys.executable, "-m", "attune_timer"]


@pytest.mark.parametrize("image", ["my/own:1", "other/sensor-timer:1", "attune/sensor-timers:1"])
def test_other_images_need_a_command(image: str) -> None:
    assert entrypoint(image) is None
    with pytest.raises(ContainerError, match=r"spec\.command"):
        containers.command({"image": image}, {}, {})
    words = containers.command(
        {"image": image, "command": ["./run", "$(WHO)"], "args": ["$$(WHO)", "$(NO)"]}, {"WHO": "me"}, {}
    )
    assert words == ["./run", "me", "$(WHO)", "$(NO)"]


def test_the_environment_is_the_containers_with_paths_of_this_machine(tmp_path: Path) -> None:
    container: dict[str, Any] = {
        "envFrom": [
            {"secretRef": {"name": "s"}, "prefix": "S_"},
            {"configMapRef": {"name": "absent", "optional": True}},
        ],
        "env": [
            {"name": "FILE", "value": "/var/run/attune/credentials/token"},
            {"name": "OTHER", "value": "/var/run/attune/credentials-not/x"},
            {"name": "SUM", "value": "$(FILE)!"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "x", "optional": True}}},
        ],
        "volumeMounts": [{"name": "credentials", "mountPath": "/var/run/attune/credentials"}],
    }
    mounted = containers.mounts(container, volumes.folders(POD, tmp_path))
    asked = containers.variables(container, POD, find, mounted)
    assert asked == {
        "S_token": "secret",
        "FILE": f"{tmp_path}/credentials/token",
        "OTHER": "/var/run/attune/credentials-not/x",
        "SUM": f"{tmp_path}/credentials/token!",
        "NAME": "p",
        "APP": "x",
        "KEY": "secret",
    }
    given = containers.process_environment(
        asked,
        port=1234,
        ports={"http": 8000},
        tmp=tmp_path,
        inherited={"HOME": "/home/me", "ATTUNE_API_URL": "x", "PATH": "/bin"},
    )
    assert given["HOME"] == "/home/me"
    assert "ATTUNE_API_URL" not in given, "what the shell has of ours is not handed on"
    assert given["ATTUNE_METRICS_PORT"] == "1234"
    assert given[environment.port_variable("http")] == "8000"
    assert given[environment.LISTEN_HOST] == "127.0.0.1"
    assert given["PATH"].split(":")[0] == str(Path(sys.executable).parent)


def test_a_source_that_is_missing_is_named() -> None:
    container = {"env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "x"}}}]}
    with pytest.raises(ContainerError, match="The variable KEY: there is no Secret absent"):
        containers.variables(container, POD, find, {})


def test_volumes_become_private_files_that_follow_their_objects(tmp_path: Path) -> None:
    root = tmp_path / "pod"
    volumes.prepare(POD, root, find)
    token = root / "credentials" / "token"
    assert token.read_text() == "secret"
    assert token.stat().st_mode & 0o777 == 0o600
    assert (root / "config" / "config.json").read_text() == "{}"
    (root / "spool" / "kept").write_text("events")
    inode = token.stat().st_ino

    def renewed(kind: Kind, name: str) -> Object | None:
        return {"data": {"other": base64.b64encode(b"new").decode()}} if kind is SECRET else find(kind, name)

    volumes.prepare(POD, root, find)
    assert token.stat().st_ino == inode, "what is the same is not written"
    volumes.prepare(POD, root, renewed)
    assert not token.exists()
    assert (root / "credentials" / "other").read_text() == "new"
    assert (root / "spool" / "kept").read_text() == "events"


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ({"name": "v", "secret": {"secretName": "absent"}}, "There is no Secret absent yet"),
        ({"name": "v", "hostPath": {"path": "/"}}, r"v \(hostPath\)"),
        ({"name": "v", "configMap": {"name": "evil"}}, "no name of a file"),
    ],
)
def test_volumes_that_cannot_be_made_are_named(tmp_path: Path, volume: Object, words: str) -> None:
    def found(kind: Kind, name: str) -> Object | None:
        return {"data": {"../x": "y"}} if name == "evil" else find(kind, name)

    with pytest.raises(ContainerError, match=words):
        volumes.prepare({"spec": {"volumes": [volume]}}, tmp_path / "pod", found)


def deployment(replicas: int, image: str) -> Object:
    return {"metadata": {"generation": 2}, "spec": {"replicas": replicas, "template": {"spec": {"image": image}}}}


class Cluster:
    """Plays a rolling update through, step by step."""

    def __init__(self) -> None:
        self.pods: list[Object] = []
        self._made = 0

    def step(self, wanted: Object, *, ready: bool = True) -> bool:
        """One look; whether anything was done."""
        plan = rollout.plan(wanted, self.pods)
        self.pods = [pod for pod in self.pods if pod["metadata"]["name"] not in plan.delete]
        for _ in range(plan.create):
            self._made += 1
            labels = {rollout.TEMPLATE_HASH: rollout.template_hash(wanted)}
            metadata = {"name": f"p{self._made}", "creationTimestamp": f"{self._made:05}", "labels": labels}
            conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
            self.pods.append({"metadata": metadata, "status": {"conditions": conditions}})
        return bool(plan.create or plan.delete)

    @property
    def serving(self) -> int:
        return sum(map(rollout.is_ready, self.pods))


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_a_roll_never_serves_with_fewer_and_never_has_more_than_one_to_spare(replicas: int) -> None:
    cluster = Cluster()
    while cluster.step(deployment(replicas, "old")):
        pass
    assert cluster.serving == replicas
    new = deployment(replicas, "new")
    while cluster.step(new):
        assert cluster.serving >= replicas
        assert len(cluster.pods) <= replicas + 1
    assert rollout.status(new, cluster.pods) == {
        "observedGeneration": 2,
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": replicas,
        "availableReplicas": replicas,
    }
    while cluster.step(deployment(0, "new")):
        pass
    assert not cluster.pods


def test_a_new_template_that_never_gets_ready_leaves_the_old_pods_serving() -> None:
    cluster = Cluster()
    while cluster.step(deployment(2, "old")):
        pass
    bad = deployment(2, "bad")
    for _ in range(10):
        cluster.step(bad, ready=False)
    assert cluster.serving == 2
    assert len(cluster.pods) == 3
    # And when that is corrected, what never served goes at once.
    while cluster.step(deployment(2, "good")):
        assert cluster.serving >= 2
    assert len(cluster.pods) == 2


def test_pods_that_listen_take_turns() -> None:
    def listening(image: str) -> Object:
        body = deployment(1, image)
        ports = [{"name": "metrics", "containerPort": 8080}, {"name": "http", "containerPort": 8000}]
        body["spec"]["template"]["spec"]["containers"] = [{"ports": ports}]
        return body

    cluster = Cluster()
    while cluster.step(listening("old")):
        pass
    steps = 0
    while cluster.step(listening("new")):
        steps += 1
        assert len(cluster.pods) <= 1
    assert cluster.serving == 1
    assert steps


def test_the_supervisor_of_stdio_sensors_is_the_installed_one() -> None:
    wanted = [sys.executable, "-I", "-m", "attune_stdio", "--", "./watch.sh"]
    copied = ["python3", "-I", f"{environment.STDIO_MOUNT}/{environment.STDIO_ZIPAPP}"]
    for command in (copied, [environment.STDIO_PROGRAM]):
        container = {"image": "x", "command": command, "args": ["--", "./watch.sh"]}
        assert containers.command(container, {}, {}) == wanted


def test_restarts_wait_longer_and_longer_but_never_long() -> None:
    waits = [_RETRY.delay(attempt=failures, chance=1.0) for failures in range(1, 9)]
    assert waits == sorted(waits)
    assert waits[0] == pytest.approx(0.1)
    assert waits[-1] == 10.0


def test_secrets_that_a_sensor_lists_are_found_below_one_folder(tmp_path: Path) -> None:
    hooks = tmp_path / "secret-0"
    hooks.mkdir()
    mounted = {"/var/run/attune/secrets/hooks": hooks, "/var/spool/attune": tmp_path}
    for _ in range(2):  # also when it is there already
        found = volumes.gather(tmp_path / "secrets", "/var/run/attune/secrets", mounted)
    (hooks / "github").write_text("s")
    place = containers.relocated("/var/run/attune/secrets", mounted | found)
    assert (Path(place) / "hooks" / "github").read_text() == "s"
    assert volumes.gather(tmp_path / "none", "/var/run/attune/secrets", {"/var/spool/attune": tmp_path}) == {}
