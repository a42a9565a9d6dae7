"""The command line against a running ``attune up``: from a new sensor to its events, and a rule's life."""

import json
import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.attune_up import ATTUNE, AttuneUp, attune_up
from support.cli import answer, attune
from support.eventually import eventually

from attune_cli.errors import ExitCode

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]

RULE = "default/acme.files-sample"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttuneUp]:
    """What `attune new sensor` wrote, run as it says."""
    folder = tmp_path_factory.mktemp("new") / "acme.files"
    attune("new", "sensor", "acme.files", "--directory", folder)
    (folder / "watched").mkdir()
    (folder / "watched" / "first.csv").touch()
    rule = (folder / "rule.yaml").read_text()
    (folder / "rule.yaml").write_text(rule.replace("/etc", str(folder / "watched")).replace("host*", "*.csv"))
    with attune_up(folder) as running:
        yield running


@pytest.fixture
def flags(up: AttuneUp) -> tuple[str, str]:
    return "--data-dir", str(up.data_dir)


def names(events: list[dict[str, Any]]) -> list[str]:
    return [event["payload"]["name"] for event in events]


def listed(*arguments: str) -> list[dict[str, Any]]:
    done = attune("events", "list", *arguments, "--output", "json")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_new_sensor_runs_and_reports(up: AttuneUp, flags: tuple[str, str]) -> None:
    eventually(lambda: names(listed(*flags)) == ["first.csv"], within=60, what="the first event")
    [sensor] = answer("sensors", "list", *flags)["items"]
    assert sensor["metadata"]["name"] == "acme.files"
    assert (
        "directory (string, required): The directory to watch."
        in attune("sensors", "show", "default/acme.files", *flags).stdout
    )
    # Sensors are looked for where the packs' are; this one is elsewhere.
    done = attune("sensors", "show", "acme.files", *flags, code=ExitCode.NOT_FOUND)
    assert "There is no Sensor attune-system/acme.files. Did you mean default/acme.files?" in done.stderr
    (up.folder / "watched" / "second.csv").touch()
    eventually(lambda: names(listed("--rule", RULE, *flags))[-1:] == ["second.csv"], within=30, what="the second")


def test_top_measures_once_for_scripts(flags: tuple[str, str]) -> None:
    def measured() -> bool:
        found = answer("top", "--once", "--interval", "0.3", *flags)
        [row] = found["sensors"]
        assert (row["sensor"], row["ready"], row["pods"]) == ("default/acme.files", "True", 1)
        assert found["stored_per_second"] is not None
        assert found["outbox_lag"] is not None
        assert found["runs_under_way"] is not None
        assert found["problems"] == []
        return True

    eventually(measured, within=60, what="all parts give metrics, and nothing is wrong")
    text = attune("top", "--once", "--interval", "0.3", *flags).stdout
    assert "default/acme.files" in text
    assert "\x1b" not in text


def test_top_on_a_terminal_leaves_it_as_it_was(flags: tuple[str, str]) -> None:
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    arguments = [str(ATTUNE), "top", "--interval", "0.3", *flags]
    process = subprocess.Popen(arguments, stdin=its, stdout=its, stderr=its, env={**os.environ, "TERM": "xterm"})
    os.close(its)
    shown = b""
    try:
        while b"acme.files" not in shown and (more := _some(ours)):  # the test's own timeout ends it
            shown += more
        process.send_signal(signal.SIGINT)
        while more := _some(ours):
            shown += more
        assert process.wait(60) == ExitCode.INTERRUPTED
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert shown.rfind(b"\x1b[?1049l") > shown.rfind(b"\x1b[?1049h") > -1, "the other screen is left"
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l"), "the cursor is there again"
    assert b"Traceback" not in shown


def _some(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # everybody else has closed it (pty(7))
        return b""


def test_a_rule_is_switched_and_its_history_tells(flags: tuple[str, str]) -> None:
    attune("rules", "disable", RULE, "--wait", "--timeout", "60", *flags)
    [rule] = answer("rules", "list", *flags)["items"]
    assert rule["spec"]["enabled"] is False
    attune("rules", "enable", RULE, "--wait", "--timeout", "60", *flags)

    def told() -> list[str]:
        return [entry["type"] for entry in answer("rules", "history", RULE, *flags)["data"]]

    eventually(lambda: told() == ["created", "disabled", "enabled"], within=30, what="three entries")
    assert "default/acme.files" in attune("rules", "history", RULE, "--limit", "1", *flags).stdout
    attune("rules", "history", "default/never-was", *flags, code=ExitCode.NOT_FOUND)


def test_status_is_well_and_a_key_can_be_replaced(up: AttuneUp, flags: tuple[str, str]) -> None:
    def well() -> bool:
        found: dict[str, Any] = json.loads(attune("status", "--output", "json", *flags).stdout)
        assert found["ok"], found
        return True

    eventually(well, within=60, what="everything to be well")
    secret = f"{answer('keys', 'rotate', *flags)['secret']}"
    namespace, _, name = secret.partition("/")
    annotations = up.kube.get("secret", name, namespace)["metadata"]["annotations"]
    assert "attune.dev/rotate-keys" in annotations


def test_the_sensors_own_token_is_inspected(flags: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    attune("token", "create", "default/acme.files", "--out-file", file, *flags)
    found = answer("token", "inspect", file, *flags)
    assert (found["login"], found["trigger_types"], found["accepted"]) == (
        "sensor:default/acme.files",
        ["acme.files"],
        True,
    )
