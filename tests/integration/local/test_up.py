"""``attune up`` as its users meet it: files in, events out, faults in between; everything is the real thing."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.attune_up import ATTUNE, AttuneUp, attune_up
from support.eventually import eventually
from support.kubectl import condition

from attune_contract.local import read_endpoints
from attune_local.objects import ObjectStore
from attune_local.ports import free_port
from attune_operator.public.objects import SENSOR

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]

PACK = Path(__file__).parents[3] / "packs" / "core"
SHELL_SENSOR = Path(__file__).parents[3] / "examples" / "stdio" / "shell.yaml"
RULE = """apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {{name: {name}, namespace: default}}
spec:
  enabled: {enabled}
  trigger:
    type: core.intervaltimer
    parameters: {{interval: {interval}, unit: milliseconds, missed: all, maxMissed: 10000}}
"""

HOOK = """apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {name: hook, namespace: default}
spec:
  trigger:
    type: core.webhook
    parameters: {path: /here, auth: {type: none}}
"""


def rule(name: str, *, interval: int = 200, enabled: bool = True) -> str:
    return RULE.format(name=name, interval=interval, enabled=str(enabled).lower())


def filled(folder: Path) -> Path:
    """A folder with the core pack's sensor and a rule that fires five times a second."""
    shutil.copy(PACK / "core.timer.yaml", folder)
    (folder / "rule.yaml").write_text(rule("steady"))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with manifests, in which nothing runs yet."""
    return filled(tmp_path)


@pytest.fixture
def up(folder: Path) -> Iterator[AttuneUp]:
    """One for the test alone, which may do to it what it likes."""
    with attune_up(folder) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttuneUp]:
    """One for all tests that only add files of their own."""
    with attune_up(filled(tmp_path_factory.mktemp("shared"))) as running:
        yield running


def body(up: AttuneUp, name: str = "steady") -> dict[str, Any]:
    return up.kube.get("rule", name, "default")


def uid(up: AttuneUp, name: str = "steady") -> str:
    return str(body(up, name)["metadata"]["uid"])


def active(up: AttuneUp, name: str = "steady") -> dict[str, Any]:
    """The condition Active of the present generation."""
    found = body(up, name)
    said = condition(found, "Active")
    assert said["observedGeneration"] == found["metadata"]["generation"], said
    return said


def wait_active(up: AttuneUp, name: str = "steady", *, status: str = "True", within: float = 30) -> None:
    eventually(lambda: active(up, name)["status"] == status, within=within, what=f"{name} is Active={status}")


def wait_events(up: AttuneUp, rule_uid: str, count: int, *, within: float = 30) -> list[dict[str, Any]]:
    found = eventually(
        lambda: events if len(events := up.events(rule_uid)) >= count else None, within=within, what=f"{count} events"
    )
    assert found is not None
    return found


def assert_unbroken(events: list[dict[str, Any]], milliseconds: int = 200) -> None:
    """One event an interval: none missing, none twice."""
    times = sorted(datetime.fromisoformat(event["occurred_at"]) for event in events)
    gaps = {round((later - earlier).total_seconds() * 1000) for earlier, later in pairwise(times)}
    assert gaps <= {milliseconds}, gaps
    assert len({event["id"] for event in events}) == len(events)


def test_events_come_as_json_lines_and_ctrl_c_leaves_nothing(up: AttuneUp) -> None:
    stored = wait_events(up, uid(up), 5)
    assert_unbroken(stored)
    eventually(lambda: len(up.shown()) >= 5, within=10, what="events on stdout")
    assert set(up.shown()[0]) == set(stored[0])
    modules = " ".join(up.marked().values())
    assert all(word in modules for word in ("nats-server", "attune_api", "attune_timer"))
    assert up.stop() == 0
    assert not up.marked()
    assert not (up.data_dir / "endpoints.json").exists()
    # What was stored is what was printed, each once.
    printed = [event["id"] for event in up.shown()]
    assert len(printed) == len(set(printed))
    assert {event["id"] for event in stored} <= set(printed)


def test_exit_after_ends_it_in_order(folder: Path) -> None:
    command = [str(ATTUNE), "up", ".", "--output", "json", "--exit-after", "4s", "--quiet"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not AttuneUp(folder).marked()


def test_an_edit_a_new_and_a_removed_file_take_effect_within_a_second(shared: AttuneUp) -> None:
    up, folder = shared, shared.folder
    wait_active(up)
    (folder / "new.yaml").write_text(rule("new"))
    eventually(lambda: up.kube.find("rule", "new", "default") is not None, within=5, what="the new Rule is there")
    wait_active(up, "new", within=5)

    (folder / "new.yaml").write_text(rule("new", enabled=False))
    eventually(lambda: active(up, "new")["reason"] == "Disabled", within=5, what="the edit took effect")

    (folder / "new.yaml").unlink()
    eventually(lambda: up.kube.find("rule", "new", "default") is None, within=20, what="the Rule is gone")


def test_a_bad_manifest_is_one_sentence_with_file_and_line_and_disturbs_nothing(shared: AttuneUp) -> None:
    up, folder = shared, shared.folder
    wait_active(up)
    (folder / "bad.yaml").write_text(rule("bad").replace("type: core.intervaltimer", "tipe: core.intervaltimer"))
    eventually(lambda: "bad.yaml:7: spec.trigger.tipe: unknown field" in up.said(), within=5)
    (folder / "also.yaml").write_text(rule("also"))
    wait_active(up, "also", within=10)
    # A file that becomes bad keeps what came of it.
    (folder / "also.yaml").write_text("kind: [\n")
    eventually(lambda: "also.yaml:" in up.said(), within=5)
    assert active(up, "also")["status"] == "True"


def test_wrong_parameters_are_told_with_the_line(shared: AttuneUp) -> None:
    up, folder = shared, shared.folder
    (folder / "wrong.yaml").write_text(rule("wrong").replace("interval: 200", "interval: -1"))
    eventually(lambda: "wrong.yaml:8: Rule default/wrong:" in up.said(), within=10, what="the sentence")


def test_a_sensor_that_exits_at_once_is_told_with_the_line(shared: AttuneUp) -> None:
    up, folder = shared, shared.folder
    (folder / "broken.yaml").write_text(
        """apiVersion: attune.dev/v1alpha1
kind: Sensor
metadata: {name: broken}
spec:
  image: my/own:1
  command: [sh, -c, "echo no database here >&2; exit 3"]
  triggerTypes: [{name: my.thing}]
"""
    )
    eventually(lambda: "broken.yaml:6: Sensor default/broken: " in up.said(), within=15, what="the sentence")
    sentence = next(line for line in up.said().splitlines() if line.startswith("broken.yaml:6:"))
    assert "ended with status 3; its last output: no database here" in sentence
    (folder / "unknown.yaml").write_text(
        "apiVersion: attune.dev/v1alpha1\nkind: Sensor\nmetadata: {name: unknown}\n"
        "spec: {image: 'my/own:1', triggerTypes: [{name: my.other}]}\n"
    )
    eventually(lambda: "unknown.yaml:4: Sensor default/unknown: The image my/own:1" in up.said(), within=15)


def test_a_port_that_is_taken_and_a_folder_in_use_are_said(shared: AttuneUp) -> None:
    up, folder = shared, shared.folder

    def refused(*arguments: str) -> str:
        ended = subprocess.run(
            [str(ATTUNE), "up", *arguments], cwd=folder, capture_output=True, text=True, timeout=240, check=False
        )
        assert ended.returncode == 1
        assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
        return ended.stderr

    assert "runs already with the data folder" in refused(".")
    assert up.process is not None
    assert f"process {up.process.pid}" in refused(".")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        assert f"Port {port} " in refused(".", "--data-dir", "other", "--api-port", port)
    assert "no file or folder absent" in refused("absent", "--data-dir", "other")


def test_a_program_that_prints_is_a_sensor_here_too(shared: AttuneUp) -> None:
    up, folder = shared, shared.folder
    shutil.copy(SHELL_SENSOR, folder)
    eventually(lambda: active(up, "shell-three-times")["reason"] == "Completed", within=60, what="it has printed all")
    stored = wait_events(up, uid(up, "shell-three-times"), 3)
    assert [event["payload"]["n"] for event in stored] == [1, 2, 3]


def test_a_webhook_becomes_an_event_here_too(shared: AttuneUp) -> None:
    up, folder = shared, shared.folder
    port = free_port()  # the manifest's own may be taken on this machine
    manifest = (PACK / "core.webhook.yaml").read_text()
    assert "port: 8000" in manifest
    (folder / "core.webhook.yaml").write_text(manifest.replace("port: 8000", f"port: {port}"))
    (folder / "hook.yaml").write_text(HOOK)
    wait_active(up, "hook", within=60)
    eventually(lambda: f"http at 127.0.0.1:{port}" in up.said(), within=10, what="it is said where to send")
    answer = httpx.post(f"http://127.0.0.1:{port}/here", json={"said": "hello"}, timeout=120)
    assert answer.status_code == 202, answer.text
    [event] = wait_events(up, uid(up, "hook"), 1)
    assert event["id"] == answer.json()["id"]
    assert event["payload"]["body"] == {"said": "hello"}
    assert httpx.post(f"http://127.0.0.1:{port}/elsewhere", json={}, timeout=120).status_code == 404


def test_two_in_different_folders_do_not_meet(shared: AttuneUp, folder: Path) -> None:
    up = shared
    with attune_up(folder) as other:
        wait_events(up, uid(up), 3)
        wait_events(other, uid(other), 3)
        assert uid(other) not in {event["rule_uid"] for event in up.events()}
        assert {event["rule_uid"] for event in other.events()} == {uid(other)}
        assert other.stop() == 0
    assert_unbroken(wait_events(up, uid(up), len(up.events(uid(up))) + 3))


@pytest.mark.parametrize("victim", ["attune_timer", "nats-server", "attune_api"])
def test_a_killed_process_is_started_again_and_no_event_is_lost(up: AttuneUp, victim: str) -> None:
    wait_active(up)
    wait_events(up, uid(up), 5)
    killed = up.pid_of(victim)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: up.pid_of(victim) != killed, within=30, what="it runs again")
    at = datetime.now().astimezone()

    def went_on() -> list[dict[str, Any]] | None:
        found = up.events(uid(up))
        return found if datetime.fromisoformat(found[-1]["occurred_at"]) > at else None

    events = eventually(went_on, within=60, what="events after the kill")
    assert events is not None
    assert_unbroken(events)
    # What is changed now still reaches the sensor.
    up.kube.patch("rule", "steady", "default", {"spec": {"enabled": False}})
    eventually(lambda: active(up)["reason"] == "Disabled", within=30, what="it is disabled")


def test_attune_up_killed_leaves_no_orphan_and_the_next_run_goes_on(up: AttuneUp) -> None:
    wait_active(up)
    before = wait_events(up, uid(up), 5)
    rule_uid = uid(up)
    up.kill()
    eventually(lambda: not up.marked(), within=15, what="nothing is left running")
    up.start()
    assert uid(up) == rule_uid
    at = datetime.now().astimezone()

    def went_on() -> list[dict[str, Any]] | None:
        found = up.events(rule_uid)
        return found if datetime.fromisoformat(found[-1]["occurred_at"]) > at else None

    events = eventually(went_on, within=60, what="events of the next run")
    assert events is not None
    assert {event["id"] for event in before} <= {event["id"] for event in events}
    assert_unbroken(events)


def test_leftovers_of_a_run_whose_guard_was_killed_too_are_ended_by_the_next(up: AttuneUp) -> None:
    wait_active(up)
    rule_uid = uid(up)
    left = up.marked()
    assert up.process is not None
    [guard] = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _parent(entry) == up.process.pid and b"guard.py" in (entry / "cmdline").read_bytes()
    ]
    os.kill(guard, signal.SIGSTOP)  # it cannot clear up, and does not see that it should
    up.kill()
    os.kill(guard, signal.SIGKILL)
    assert set(up.marked()) == set(left)
    up.start()
    assert not set(up.marked()) & set(left)
    wait_events(up, rule_uid, len(up.events(rule_uid)) + 3)


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def test_a_rule_that_was_disabled_by_command_stays_so_until_its_manifest_says_otherwise(
    up: AttuneUp, folder: Path
) -> None:
    wait_active(up)
    up.kube.patch("rule", "steady", "default", {"spec": {"enabled": False}})
    eventually(lambda: active(up)["reason"] == "Disabled", within=10)
    (folder / "rule.yaml").write_text("# a remark\n" + rule("steady"))
    (folder / "other.yaml").write_text(rule("other"))
    wait_active(up, "other", within=10)
    assert body(up)["spec"]["enabled"] is False
    assert up.stop() == 0
    up.start()
    assert body(up)["spec"]["enabled"] is False
    (folder / "rule.yaml").write_text(rule("steady", interval=400))
    eventually(lambda: body(up)["spec"]["trigger"]["parameters"]["interval"] == 400, within=10)
    assert body(up)["spec"]["enabled"] is False, "the file says nothing else about that"
    (folder / "rule.yaml").write_text(rule("steady", interval=500, enabled=False))
    eventually(lambda: body(up)["spec"]["trigger"]["parameters"]["interval"] == 500, within=10)
    (folder / "rule.yaml").write_text(rule("steady", interval=500))
    wait_active(up, within=10)


def test_fresh_forgets_everything(up: AttuneUp) -> None:
    wait_events(up, uid(up), 1)
    before = uid(up)
    assert up.stop() == 0
    up.arguments.append("--fresh")
    up.start()
    assert uid(up) != before
    assert {event["rule_uid"] for event in up.events()} <= {uid(up)}


def test_a_thousand_rules_in_one_folder(folder: Path) -> None:
    rules = folder / "rules"
    rules.mkdir()
    for number in range(1000):
        (rules / f"rule-{number}.yaml").write_text(rule(f"rule-{number}", interval=600_000))
    began = time.monotonic()
    with attune_up(folder, ".", "rules") as up:
        started = time.monotonic()
        eventually(lambda: _active_count(up) == 1001, within=60, what="all Rules are active")
        active = time.monotonic()
        (rules / "rule-500.yaml").write_text(rule("rule-500", interval=300_000))
        eventually(lambda: body(up, "rule-500")["metadata"]["generation"] == 2, within=10, every=0.05)
        wait_active(up, "rule-500", within=10)
        edited = time.monotonic()
    # Shown with -s; docs/attune-up.md has what was seen.
    print(
        f"\nstarted after {started - began:.2f} s, 1,001 Rules active {active - started:.2f} s later "
        f"({active - began:.2f} s in all), an edited one again after {edited - active:.2f} s"
    )


def _active_count(up: AttuneUp) -> int:
    count = 0
    for found in up.kube.list("rules", "default"):
        said = [c for c in (found.get("status") or {}).get("conditions", ()) if c["type"] == "Active"]
        count += bool(said) and said[0]["status"] == "True"
    return count


def test_who_has_no_token_gets_nothing(shared: AttuneUp) -> None:
    up = shared
    endpoints = read_endpoints(up.data_dir)
    assert endpoints is not None
    assert httpx.get(f"{endpoints.kubernetes.url}/api/v1/secrets", timeout=60).status_code == 401
    assert httpx.get(f"{endpoints.api.url}/api/v1/events", timeout=60).status_code == 401
    for path in (Path(endpoints.kubernetes.token_file), Path(endpoints.api.token_file), up.data_dir / "objects.db"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_an_object_that_no_cluster_takes_keeps_nothing_from_running_or_from_ending(folder: Path) -> None:
    """Earlier builds stored such a Sensor, made tokens for it without a pause, and heard no Ctrl-C any more."""
    data = folder / ".attune"
    data.mkdir(mode=0o700)
    store = ObjectStore(data / "objects.db")
    sensor = {
        "apiVersion": "attune.dev/v1alpha1",
        "kind": "Sensor",
        "metadata": {"name": "../x", "namespace": "default"},
        "spec": {"runner": "Stdio", "command": ["cat"], "triggerTypes": [{"name": "acme.x"}]},
    }
    store.create(SENSOR, sensor, manager="test")
    store.close()
    with attune_up(folder) as up:
        eventually(lambda: active(up)["status"] == "True", within=60, what="the rule is active")
        time.sleep(2)
        log = (data / "logs" / "attune-up.log").read_text()
        assert log.count("token_issued") < 20
        began = time.monotonic()
        assert up.stop() == 0
        assert time.monotonic() - began < 30
