"""``attune events`` and ``attune token`` against the real API, found as ``attune up`` is found."""

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.api_process import ApiProcess, Minter, report
from support.cli import answer, attune

from attune_cli.errors import ExitCode
from attune_contract.local import Endpoint, Endpoints, write_endpoints
from attune_local.ports import free_port

pytest_plugins = ["support.api_fixtures"]

RULE = "7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10"
OTHER = "0d0f6c5e-0000-4d5e-9d2f-3f1b8f8f9a11"


def found_at(api: ApiProcess, directory: Path) -> tuple[str, ...]:
    """The flags by which a command finds the API. Nobody serves Sensors and Rules there."""
    directory.mkdir(exist_ok=True)
    nobody = directory / "kubernetes.token"
    nobody.write_text("none\n")
    write_endpoints(
        directory,
        Endpoints(
            pid=os.getpid(),
            kubernetes=Endpoint(url=f"http://127.0.0.1:{free_port()}", token_file=str(nobody)),
            api=Endpoint(url=api.url, token_file=str(api.directory / "admin-token")),
        ),
    )
    return "--data-dir", str(directory)


def store(api: ApiProcess, *reports: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {api.minter.token()}"}
    done = httpx.post(
        f"{api.url}/api/v1/events/batch", json={"events": reports}, headers=headers, trust_env=False, timeout=60
    )
    assert [result["status"] for result in done.json()["data"]] == ["stored"] * len(reports), done.text


@pytest.fixture(scope="module")
def flags(shared_api: ApiProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Three events of one rule, one of another whose payload is meant to confuse."""
    store(shared_api, *(report(k) for k in range(3)))
    odd = {"text": "line\u2028separator \x1b[31m", "user": {"name": "ann"}}
    store(shared_api, report(7, rule_uid=OTHER, rule_namespace="team-a", rule_name="other", payload=odd))
    return found_at(shared_api, tmp_path_factory.mktemp("data"))


def listed(*arguments: str) -> list[Any]:
    done = attune("events", "list", *arguments, "--output", "json")
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def test_events_come_as_a_table_the_newest_last(flags: tuple[str, ...]) -> None:
    lines = attune("events", "list", *flags).stdout.split("\n")
    assert lines[0].split() == ["SEQ", "OCCURRED", "TYPE", "RULE", "PAYLOAD"]
    assert [line.split()[3] for line in lines[1:-1]] == ["default/echo-every-second"] * 3 + ["team-a/other"]
    assert lines[-2].endswith('line\\u2028separator \\u001b[31m","user":{"name":"ann"}}')


def test_json_is_one_event_a_line_with_the_apis_fields(flags: tuple[str, ...]) -> None:
    events = listed(*flags)
    assert [event["payload"].get("k") for event in events] == [0, 1, 2, None]
    assert events[3]["payload"]["text"] == "line\u2028separator \x1b[31m"
    assert {"id", "seq", "trigger_type", "rule_uid", "occurred_at", "received_at", "sensor_ref"} <= events[0].keys()


@pytest.mark.parametrize(
    ("filters", "seen"),
    [
        (("--limit", "2"), [2, None]),
        (("--limit", "0"), [0, 1, 2, None]),
        (("-n", "team-a"), [None]),
        (("--rule", "echo-every-second", "-n", "default"), [0, 1, 2]),
        (("--rule", "team-a/other"), [None]),
        (("--rule-uid", RULE), [0, 1, 2]),
        (("--type", "core.crontimer"), []),
        (("--since", "2026-11-23T12:00:01Z", "--until", "2026-11-23T12:00:02Z"), [1]),
        (("--payload", "user.name=ann"), [None]),
        (("--payload", "k=2"), [2]),
        (("--sensor", "attune-system/core.timer", "--limit", "1"), [None]),
    ],
)
def test_events_are_found_by_filters(flags: tuple[str, ...], filters: tuple[str, ...], seen: list[int | None]) -> None:
    assert [event["payload"].get("k") for event in listed(*filters, *flags)] == seen


def test_one_event_is_shown_and_events_are_counted(flags: tuple[str, ...]) -> None:
    event = listed(*flags)[0]
    assert answer("events", "show", event["id"], *flags) == event
    assert "rule_name: echo-every-second" in attune("events", "show", event["id"], *flags).stdout
    counts = answer("events", "count", "--since", "2026-11-23T00:00:00Z", "--until", "2026-11-24T00:00:00Z", *flags)
    assert [(rule["rule_name"], rule["total"]) for rule in counts["data"]] == [("echo-every-second", 3), ("other", 1)]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("events", "show", "00000000-0000-4000-8000-000000000000"), ExitCode.NOT_FOUND, "There is no event"),
        (("events", "list", "--since", "soon"), ExitCode.USAGE, "'soon' is not a time"),
        (("events", "list", "--payload", "nothing"), ExitCode.USAGE, "PATH=VALUE"),
        (("events", "list", "--payload", "a..b=1"), ExitCode.REJECTED, "empty name"),
        (("events", "list", "--count", "3"), ExitCode.USAGE, "--follow"),
        (("events", "list", "-f", "--until", "1m"), ExitCode.USAGE, "--until"),
        (("rules", "list"), ExitCode.UNREACHABLE, "cannot be reached"),
        (("events", "list", "--api-url", "http://127.0.0.1:1"), ExitCode.USAGE, "--api-token-file"),
        (("token", "create", "a/b", "--type", "c.d"), ExitCode.USAGE, "--out-file"),
        (("token", "create", "a/b", "--type", "c.d", "--print", "--ttl", "1y"), ExitCode.USAGE, "not a duration"),
        (("token", "create", "a/b", "--type", "c.d", "--print", "--ttl", "100h"), ExitCode.REJECTED, "72 h"),
    ],
)
def test_what_goes_wrong_has_its_exit_status_and_a_sentence(
    flags: tuple[str, ...], arguments: tuple[str, ...], code: ExitCode, text: str
) -> None:
    done = attune(*arguments, *flags, code=code)
    assert text in done.stderr
    assert done.stdout == ""


def test_an_admin_token_that_is_wrong_is_refused(
    flags: tuple[str, ...], shared_api: ApiProcess, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not it")
    direct = ("--api-url", shared_api.url, "--api-token-file", str(wrong))
    done = attune("events", "list", *direct, *flags, code=ExitCode.REFUSED)
    assert f"You are signed in by the token in {wrong}" in done.stderr


def follow(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "attune_cli", "events", "list", "--follow", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )


def test_following_goes_on_over_a_killed_api_and_misses_nothing(api: ApiProcess, tmp_path: Path) -> None:
    flags = found_at(api, tmp_path / "data")
    store(api, *(report(k) for k in range(3)))
    with follow("--limit", "2", "--count", "42", "-o", "json", *flags) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        # Its two lines say that it is under way; the stream is opened after them, at the place that they were listed at.
        seen = [json.loads(following.stdout.readline()) for _ in range(2)]
        store(api, *(report(k) for k in range(3, 20)))
        seen += [json.loads(following.stdout.readline()) for _ in range(17)]
        api.kill()
        assert "The stream broke (" in following.stderr.readline()
        api.start()
        store(api, *(report(k) for k in range(20, 43)))
        seen += [json.loads(following.stdout.readline()) for _ in range(23)]
        assert following.wait(120) == 0
        assert "The stream continues." in following.stderr.read()
    assert [event["payload"]["k"] for event in seen] == list(range(1, 43))


def test_following_ends_by_ctrl_c_as_shells_count_it(api: ApiProcess, tmp_path: Path) -> None:
    store(api, report(0))
    with follow(*found_at(api, tmp_path / "data")) as following:
        assert following.stdout is not None
        assert following.stdout.readline().split() == ["SEQ", "OCCURRED", "TYPE", "RULE", "PAYLOAD"]
        following.stdout.readline()
        timer = threading.Timer(0, following.send_signal, [2])
        timer.start()
        assert following.wait(120) == ExitCode.INTERRUPTED


def test_a_token_is_made_and_written_for_its_owner_alone(
    flags: tuple[str, ...], shared_api: ApiProcess, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    done = attune("token", "create", "edge/thermometer", "--type", "edge.temperature", "--out-file", file, *flags)
    token = file.read_text().strip()
    assert token not in done.stdout + done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    assert "it may report edge.temperature, and expires in 23h" in done.stderr or "in 24h" in done.stderr
    who = httpx.get(
        f"{shared_api.url}/auth/whoami", headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60
    )
    assert who.json()["data"]["login"] == "sensor:edge/thermometer"
    printed = attune("token", "create", "edge/thermometer", "--type", "edge.temperature", "--print", *flags).stdout
    assert printed.count(".") == 2
    assert "token" not in answer("token", "create", "a/b", "--type", "c.d", "--out-file", file, *flags)


def test_a_good_token_is_inspected(flags: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "token"
    attune(
        "token", "create", "edge/thermometer", "--type", "edge.temperature", "--ttl", "1h", "--out-file", file, *flags
    )
    found = answer("token", "inspect", file, *flags)
    assert found["login"] == "sensor:edge/thermometer"
    assert found["trigger_types"] == ["edge.temperature"]
    assert (found["signature"], found["accepted"], found["problems"]) == ("good", True, [])
    text = attune("token", "inspect", file, *flags).stdout
    assert "yes, by the API now" in text
    assert file.read_text().strip() not in text


def test_what_is_wrong_with_a_token_is_said(flags: tuple[str, ...], shared_api: ApiProcess, tmp_path: Path) -> None:
    file = tmp_path / "token"
    past = int((datetime.now(UTC) - timedelta(hours=1)).timestamp())

    def problems(token: str, *more: object) -> str:
        file.write_text(token)
        done = attune("token", "inspect", file, "-o", "json", *more, *flags, code=ExitCode.PROBLEM)
        return " ".join(json.loads(done.stdout)["problems"])

    assert "it expired at" in problems(shared_api.minter.token(exp=past))
    assert "its signature was not made with the key key-1" in problems(Minter().token())
    assert "signed with the key strange, but the public keys are key-1" in problems(Minter("strange").token())
    assert "not a sensor's token" in problems(shared_api.minter.token(token_type="other"))
    assert "it is not for attune-api" in problems(shared_api.minter.token(aud="else"), "--offline")
    assert "signed with the key strange" in problems(Minter("strange").token(), "--jwks", shared_api.jwks_file)


def test_a_token_is_read_offline_and_from_stdin(shared_api: ApiProcess, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "attune_cli", "token", "inspect", "-", "--offline", "-o", "json"]
    done = subprocess.run(command, input=shared_api.minter.token(), capture_output=True, text=True, timeout=240)
    found = json.loads(done.stdout)
    assert (done.returncode, found["signature"], found["accepted"]) == (0, "not checked", None)
    (tmp_path / "no-token").write_text("hello")
    attune("token", "inspect", tmp_path / "no-token", "--offline", code=ExitCode.USAGE)


def test_status_says_what_does_not_answer_and_looks_at_the_rest(flags: tuple[str, ...]) -> None:
    done = attune("status", "-o", "json", *flags, code=ExitCode.PROBLEM)
    found = json.loads(done.stdout)
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert states == {"Sensors": "problem", "Rules": "problem", "API answers": "ok", "You": "ok", "Events": "ok"}
    assert found["target"]["kind"] == "local"
    assert not found["ok"]
