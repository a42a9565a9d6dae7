"""What the doctor checks, and how its bundle is bounded."""

import base64
import gzip
import io
import json
import stat
import tarfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from attune_cli.checks import Check
from attune_cli.doctor import checks
from attune_cli.doctor.bundle import Bundle
from attune_cli.doctor.charts import release_values
from attune_cli.doctor.folder import folder_secrets
from attune_cli.doctor.masking import MASK, Masker
from attune_cli.doctor.tasks import run_all
from attune_cli.errors import RefusedError, UsageError
from attune_cli.metrics import samples, total
from attune_cli.targets.pages import Page, Part, parts_of_pods
from attune_contract.crds import definitions

NOW = datetime(2026, 11, 28, 7, tzinfo=UTC)


def states(found: Any) -> dict[str, str]:
    return {check.name: check.state for check in found}


def only(found: Any) -> Check:
    [check] = list(found)
    assert isinstance(check, Check)
    return check


# -- the bundle


def test_a_bundle_is_for_its_owner_and_says_what_it_lacks(tmp_path: Path) -> None:
    bundle = Bundle(Masker())
    bundle.add_text("logs/api.log", "started\n")
    bundle.note("events.json", "not read: you may not\nlist events")
    target = tmp_path / "bundle.tar.gz"
    bundle.write(target, folder="attune-doctor", now=NOW)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with tarfile.open(target) as archive:
        assert sorted(archive.getnames()) == ["attune-doctor/logs/api.log", "attune-doctor/not-read.txt"]
        notes = archive.extractfile("attune-doctor/not-read.txt")
        assert notes is not None
        assert notes.read() == b"events.json: not read: you may not list events\n"
    assert list(tmp_path.iterdir()) == [target]


def test_a_long_log_keeps_its_end_and_says_so() -> None:
    bundle = Bundle(Masker(), file_bytes=100)
    bundle.add_text("api.log", "".join(f"line {number}\n" for number in range(100)))
    text = bundle.files["api.log"].decode()
    assert text.startswith("line ")
    assert text.endswith("line 99\n")
    assert len(text) <= 100
    assert "bytes were left out" in bundle.notes[0]


def test_a_file_is_bounded_in_bytes() -> None:
    bundle = Bundle(Masker(), file_bytes=100)
    bundle.add_text("api.log", "größer\n" * 12)  # 84 characters, 108 bytes
    assert bundle.files["api.log"].decode() == "größer\n" * 11
    assert bundle.notes == ("api.log: the first 9 bytes were left out",)
    bundle.add_value("object.json", {"a": "ö" * 60})
    assert "object.json" not in bundle.files


def test_a_list_that_is_too_long_keeps_its_beginning_and_says_so() -> None:
    bundle = Bundle(Masker(), file_bytes=1000)
    bundle.add_value("rules.json", [{"name": f"größe-{number}"} for number in range(100)])
    content = bundle.files["rules.json"]
    kept = json.loads(content)
    assert 900 < len(content) <= 1000
    assert kept == [{"name": f"größe-{number}"} for number in range(len(kept))]
    assert bundle.notes == (
        f"rules.json: the last {100 - len(kept)} of 100 were left out: the file would be too large",
    )


def test_a_list_that_fits_is_there_as_a_whole() -> None:
    bundle, rules = Bundle(Masker()), [{"name": f"r-{number}"} for number in range(2000)]
    bundle.add_value("rules.json", rules)
    assert json.loads(bundle.files["rules.json"]) == rules
    assert bundle.notes == ()


def test_values_of_secrets_that_pods_had_as_files_are_known_after_a_crash(tmp_path: Path) -> None:
    pod = tmp_path / "pods" / "team.hooks-1"
    files = {
        "secret-0/password": "hunter-2-and-3",
        "secret-0/deeper/url": "amqp://me@mq/9f3kQ\n",
        "mine/tls.key": "AbCdEfGh12345678IjKl",
        "credentials/token": "token-of-the-sensor",
        "config/config.json": "not-a-secret-at-all",
        "spool/queue": "event-of-somebody",
    }
    for name, text in files.items():
        (pod / name).parent.mkdir(parents=True, exist_ok=True)
        (pod / name).write_text(text)
    (pod / "secrets").mkdir()
    (pod / "secrets" / "hooks").symlink_to(pod / "secret-0", target_is_directory=True)
    log = "".join(f"sent {text.strip()}, refused\n" for text in files.values())
    masked = Masker(folder_secrets(tmp_path)).text(log)
    assert masked.count(f"sent {MASK}, refused") == 4
    assert "sent not-a-secret-at-all, refused" in masked
    assert "sent event-of-somebody, refused" in masked


def test_what_would_make_the_bundle_too_large_is_left_out_and_named() -> None:
    bundle = Bundle(Masker(), file_bytes=100, total_bytes=150)
    bundle.add_text("one", "x" * 90)
    bundle.add_text("two", "x" * 90)
    bundle.add_text("three", "x" * 50)
    assert set(bundle.files) == {"one", "three"}
    assert bundle.notes[0].startswith("two: left out")


def test_a_bundle_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        Bundle(Masker()).write(tmp_path / "no" / "bundle.tar.gz", folder="x", now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_what_fails_costs_the_others_nothing_and_is_noted() -> None:
    bundle = Bundle(Masker())

    def refused() -> None:
        raise RefusedError("you may not list events")

    def broken() -> None:
        raise KeyError("x")

    tasks = [("events", refused), ("odd", broken), ("log", lambda: bundle.add_text("log", "there"))]
    run_all(tasks, bundle, seconds=60)
    assert set(bundle.files) == {"log"}
    assert sorted(bundle.notes) == ["events: not read: you may not list events", "odd: not read: KeyError: 'x'"]


def test_what_hangs_ends_with_the_time_that_is_given() -> None:
    bundle, never = Bundle(Masker()), threading.Event()

    def stuck() -> None:
        never.wait()

    run_all([("stuck", stuck)], bundle, seconds=0.5)
    never.set()
    assert bundle.notes == ("stuck: not read: the 0.5 s were over (--timeout)",)


def test_what_comes_after_the_bundle_was_written_is_dropped(tmp_path: Path) -> None:
    bundle = Bundle(Masker())
    bundle.write(tmp_path / "bundle.tar.gz", folder="x", now=NOW)
    bundle.add_text("late.log", "x")
    assert bundle.files == {}


# -- checks


def crds() -> dict[str, Any]:
    return {body["metadata"]["name"]: json.loads(json.dumps(body)) for body in definitions().values()}


def fields_of(definition: Any) -> Any:
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


def test_definitions_of_this_version_are_ok() -> None:
    assert set(states(checks.definitions(crds(), crds())).values()) == {"ok"}


def test_definitions_that_are_missing_older_or_newer_are_told_apart() -> None:
    found = crds()
    found["sensors.attune.dev"] = None
    del fields_of(found["rules.attune.dev"])["actions"]
    first, second = sorted(checks.definitions(found, crds()), key=lambda check: check.name)
    assert (first.state, second.state) == ("problem", "problem")
    assert "lacks spec.actions" in first.message
    assert second.message == "it is not there"
    newer = crds()
    fields_of(newer["rules.attune.dev"])["colour"] = {"type": "string"}
    assert states(checks.definitions(newer, crds())) == {
        "Definition rules.attune.dev": "note",
        "Definition sensors.attune.dev": "ok",
    }


def part(role: str, name: str) -> Part:
    return Part(role=role, name=f"attune-system/{name}")


def test_parts_that_do_not_answer_or_are_not_ready_are_a_problem() -> None:
    ports = {"/ready": 1, "/metrics": 1}
    good = Part(role="api", name="api", ports=ports, url="http://127.0.0.1:1")
    ill = Part(role="sensor", name="team/s-1", ports=ports, url="http://127.0.0.1:1")
    gone = Part(role="actions", name="actions", ports=ports, url="http://127.0.0.1:1")
    far = Part(role="operator", name="attune-system/op", ports={"/readyz": 1})
    read = {
        (good, "/ready"): Page(200, "ok", None),
        (ill, "/ready"): Page(503, "no connection\nto NATS", None),
        (ill, "/metrics"): Page(200, "", None),
    }
    found = list(checks.readiness([good, ill, gone, far], read))
    assert states(found) == {
        "sensor team/s-1": "problem",
        "actions": "problem",
        "operator attune-system/op": "unknown",
        "Health and metrics": "ok",
    }
    assert found[0].message == "it is not ready: no connection to NATS"


def test_parts_without_nats_are_named() -> None:
    good = (part("api", "api-1"), samples("attune_api_nats_connected 1.0\n"))
    bad = (part("sensor", "sensor-1"), samples("attune_sensor_nats_connected 0.0\n"))
    assert only(checks.connections([good])).state == "ok"
    check = only(checks.connections([good, bad]))
    assert (check.state, check.message) == ("problem", "no connection: attune-system/sensor-1")
    assert list(checks.connections([(part("api", "api-1"), [])])) == []


def test_clocks_that_differ_by_more_than_tokens_allow_are_a_problem() -> None:
    assert only(checks.clocks({"api": timedelta(seconds=9)})).state == "ok"
    check = only(checks.clocks({"api": timedelta(seconds=-75), "sensor": timedelta(seconds=2)}))
    assert (check.state, check.message) == ("problem", "compared with this machine, api is 75 s behind")


def test_each_pod_of_a_sensor_has_its_own_clock() -> None:
    pods = [Part(role="sensor", name=f"team/a-{number}", sensor="team/a", ports={"/ready": 1}) for number in (1, 2, 3)]
    ahead = [timedelta(seconds=75), timedelta(seconds=1), None]
    read = {(pod, "/ready"): Page(200, "ok", offset) for pod, offset in zip(pods, ahead, strict=True)}
    assert checks.offsets(read) == {"team/a-1": timedelta(seconds=75), "team/a-2": timedelta(seconds=1)}
    assert only(checks.clocks(checks.offsets(read))).message == "compared with this machine, team/a-1 is 75 s ahead"


def sensor(name: str, *, expires: timedelta | None = None, **spec: Any) -> dict[str, Any]:
    status = {} if expires is None else {"token": {"expiresAt": (NOW + expires).isoformat()}}
    return {"metadata": {"name": name, "namespace": "team"}, "spec": spec, "status": status}


def test_tokens_near_their_end_are_a_problem_unless_the_sensor_is_paused() -> None:
    good, paused = sensor("good", expires=timedelta(hours=1)), sensor("off", expires=-timedelta(hours=1), paused=True)
    assert only(checks.tokens([good, paused, sensor("new")], NOW)).state == "ok"
    near, over = sensor("near", expires=timedelta(seconds=90)), sensor("over", expires=-timedelta(seconds=1))
    check = only(checks.tokens([good, near, over], NOW))
    assert check.state == "problem"
    assert check.message == "that of team/near ends in 90 s, that of team/over has ended"


def test_secrets_that_pods_need_are_a_problem_and_those_that_may_come_later_a_note() -> None:
    variable = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}
    optional = {"secretRef": {"name": "extra", "optional": True}}
    body = sensor(
        "a", env=[variable], envFrom=[optional], secrets=[{"name": "hooks"}], imagePullSecrets=[{"name": "pull"}]
    )
    assert checks.required_secrets(body) == {"db", "pull"}
    assert states(checks.secrets([body], {"team": {"pull"}})) == {
        "Secret team/db": "problem",
        "Secret team/hooks": "note",
        "Secrets": "ok",
    }
    assert states(checks.secrets([body], {"team": None})) == {"Secrets": "unknown"}
    assert states(checks.secrets([sensor("b")], {})) == {}


def test_rights_that_are_missing_are_named_with_what_they_are_for() -> None:
    allowed = ("list", "rules", "team", "seeing Rules", True)
    denied = ("create", "pods/portforward", "attune-system", "reaching the API", False)
    assert only(checks.rights([allowed])).state == "ok"
    check = only(checks.rights([allowed, denied]))
    assert (check.state, check.message) == (
        "unknown",
        "you may not create pods/portforward in attune-system (reaching the API)",
    )


def test_parts_of_another_version_are_noted() -> None:
    def pod(version: str) -> dict[str, Any]:
        labels = {"app.kubernetes.io/name": "attune-api", "app.kubernetes.io/version": version}
        return {"metadata": {"labels": labels}}

    assert only(checks.versions("0.1.0", [pod("0.1.0")])).state == "ok"
    check = only(checks.versions("0.1.0", [pod("0.1.0"), pod("0.0.9")]))
    assert (check.state, check.message) == ("note", "this command line is 0.1.0, and attune-api is 0.0.9")


# -- what is read


def release(chart: str = "attune") -> dict[str, Any]:
    content = {
        "name": "attune",
        "version": 3,
        "info": {"status": "deployed"},
        "chart": {"metadata": {"name": chart, "version": "0.1.0", "appVersion": "0.1.0"}, "values": {"huge": 1}},
        "config": {"api": {"replicas": 2}},
    }
    packed = base64.b64encode(gzip.compress(json.dumps(content).encode()))
    return {"data": {"release": base64.b64encode(packed).decode()}}


def test_of_a_release_only_the_users_values_are_taken() -> None:
    assert release_values(release()) == {
        "release": "attune",
        "revision": 3,
        "status": "deployed",
        "chart": {"version": "0.1.0", "appVersion": "0.1.0"},
        "values": {"api": {"replicas": 2}},
    }
    assert release_values(release("other")) is None
    assert release_values({"data": {"release": "bm90aGluZw=="}}) is None
    assert release_values({}) is None


def test_parts_and_their_pages_are_found_by_the_pods_labels_and_ports() -> None:
    def pod(name: str, labels: dict[str, str], ports: dict[str, int], phase: str = "Running") -> dict[str, Any]:
        listed = [{"name": port, "containerPort": number} for port, number in ports.items()]
        return {
            "metadata": {"name": name, "namespace": "attune-system", "labels": labels},
            "spec": {"containers": [{"ports": listed, "readinessProbe": {"httpGet": {"scheme": "HTTPS"}}}]},
            "status": {"phase": phase},
        }

    label = "app.kubernetes.io/name"
    found = list(
        parts_of_pods(
            [
                pod("api", {label: "attune-api"}, {"http": 8000}),
                pod("api", {label: "attune-api"}, {"http": 8000, "https": 8443}),
                pod("operator", {label: "attune-operator"}, {"metrics": 9090, "liveness": 8081}),
                pod("nats", {label: "attune-nats"}, {"nats": 4222}),
                pod("timer", {"attune.dev/sensor": "core.timer"}, {"metrics": 8080}),
                pod("old", {"attune.dev/sensor": "core.timer"}, {"metrics": 8080}, phase="Succeeded"),
            ],
            local=False,
        )
    )
    assert [(each.role, each.sensor, dict(each.ports), each.secure) for each in found] == [
        ("api", "", {"/ready": 8000, "/metrics": 8000}, True),
        ("api", "", {"/ready": 8443, "/metrics": 8443}, True),
        ("operator", "", {"/readyz": 8081, "/metrics": 9090}, False),
        ("sensor", "attune-system/core.timer", {"/ready": 8080, "/metrics": 8080}, False),
    ]


def test_a_metrics_page_becomes_sums() -> None:
    page = (
        '# HELP attune_x_total x\n# TYPE attune_x_total counter\nattune_x_total{state="a"} 2.0\n'
        'attune_x_total{state="b"} 3.0\nother 1.0\n'
    )
    found = samples(page)
    assert total(found, "attune_x_total") == 5
    assert total(found, "attune_x_total", state="b") == 3
    assert total(found, "attune_x_total", state="c") is None
    assert samples("no metrics at all {") == []
    assert samples("attune_x_total{state=") == []


def test_the_archive_can_be_read_while_it_is_in_memory(tmp_path: Path) -> None:
    bundle = Bundle(Masker())
    bundle.add_value("ümlaut.json", {"größe": "1 €"})
    bundle.write(tmp_path / "b.tar.gz", folder="b", now=NOW)
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "b.tar.gz").read_bytes())) as archive:
        file = archive.extractfile("b/ümlaut.json")
        assert file is not None
        assert json.loads(file.read()) == {"größe": "1 €"}
