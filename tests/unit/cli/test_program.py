"""The command line as such: how it starts, prints and ends."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from attune_cli import app as root
from attune_cli import output as out
from attune_cli.__main__ import program_name
from attune_cli.errors import CliError, ExitCode, NotFoundError
from attune_cli.lazy import Lazy, command_app
from attune_contract.calendar import zones

RUN = CliRunner()


def run_program(*arguments: str, program: str = "attune", **environment: str) -> subprocess.CompletedProcess[str]:
    """The installed program in a process of its own, with nothing of this machine's settings."""
    return subprocess.run(
        [str(Path(sys.executable).with_name(program)), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
    )


def test_help_lists_every_command_and_imports_none() -> None:
    code = (
        "import sys; from attune_cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.startswith(('attune_cli.commands.', 'rich', 'httpx', 'pydantic', 'yaml'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    for name, entry in root.COMMANDS.items():
        assert name in done.stdout
        assert entry.help in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", root.COMMANDS)
def test_every_command_has_help_and_says_in_the_list_what_it_is(name: str) -> None:
    done = RUN.invoke(root.app, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Usage:")


@pytest.mark.parametrize(("program", "called"), [("attune", "attune"), ("kubectl-attune", "kubectl attune")])
def test_it_goes_by_the_name_that_was_typed(program: str, called: str) -> None:
    done = run_program("--help", program=program)
    assert done.returncode == 0, done.stderr
    assert f"Usage: {called} [OPTIONS] COMMAND" in done.stdout
    assert program_name(f"/usr/bin/{program}") == called


def test_version_is_printed_in_each_format() -> None:
    assert RUN.invoke(root.app, ["version"]).stdout.startswith("attune 0.")
    assert RUN.invoke(root.app, ["--version"]).stdout == f"attune {root.version()}\n"
    assert json.loads(RUN.invoke(root.app, ["version", "-o", "json"]).stdout)["attune"] == root.version()
    assert json.loads(RUN.invoke(root.app, ["version", "-o", "json"]).stdout)["tzdata"] == zones.version()
    assert yaml.safe_load(RUN.invoke(root.app, ["version", "--output", "yaml"]).stdout)["attune"] == root.version()


def test_wrong_usage_ends_with_2_and_names_what_was_meant() -> None:
    done = RUN.invoke(root.app, ["verison"])
    assert done.exit_code == ExitCode.USAGE
    assert "'version'" in done.stderr
    assert done.stdout == ""
    assert RUN.invoke(root.app, ["version", "--output", "xml"]).exit_code == ExitCode.USAGE


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    """A command ``fail`` that raises what stands under ``error``."""
    raised: dict[str, BaseException] = {}
    failing_app = command_app()

    @failing_app.command()
    def fail() -> None:
        raise raised["error"]

    module = types.ModuleType("attune_cli_failing")
    module.__dict__["app"] = failing_app
    monkeypatch.setitem(sys.modules, "attune_cli_failing", module)
    monkeypatch.setitem(root.COMMANDS, "fail", Lazy("attune_cli_failing", "Fail."))
    return raised


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (NotFoundError("There is no Rule default/x."), 3, "attune: There is no Rule default/x.\n"),
        (CliError("Two mistakes.", code=ExitCode.REJECTED), 6, "attune: Two mistakes.\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_a_sentence_on_stderr_and_an_exit_status(
    failing: dict[str, BaseException], error: BaseException, code: int, text: str
) -> None:
    failing["error"] = error
    done = RUN.invoke(root.app, ["fail"])
    assert (done.exit_code, done.stderr, done.stdout) == (code, text, "")


def test_a_bug_says_so_and_shows_its_trace_on_request(
    failing: dict[str, BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing["error"] = ZeroDivisionError("division by zero")
    done = RUN.invoke(root.app, ["fail"])
    assert done.exit_code == ExitCode.INTERNAL
    assert "this is a bug: ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
    monkeypatch.setenv("ATTUNE_DEBUG", "1")
    assert "Traceback" in RUN.invoke(root.app, ["fail"]).stderr


def test_a_reader_that_has_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "attune_cli", "version"], stdout=writing, stderr=subprocess.PIPE, timeout=240
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_table_is_lined_up_and_uncut(capsys: pytest.CaptureFixture[str]) -> None:
    out.print_table(["name", "message"], [["a", "x" * 300], ["規則", out.Cell("fine", "good")]])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["NAME   MESSAGE", f"a      {'x' * 300}", "規則   fine"]


def test_what_others_wrote_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out.print_table(["message"], [["\x1b]0;title\x07 one\ntwo"]])
    assert capsys.readouterr().out == "MESSAGE\n\\x1b]0;title\\x07 one two\n"


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert out.colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not out.colours()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert not out.colours()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_come_for_each_shell(shell: str) -> None:
    done = run_program("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    assert "_ATTUNE_COMPLETE" in done.stdout


def test_completion_completes_commands_and_options() -> None:
    def complete(line: str) -> list[str]:
        words = line.split()
        cword = str(len(words) if line.endswith(" ") else len(words) - 1)
        done = run_program(_ATTUNE_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=cword)
        return done.stdout.split()

    assert "version" in complete("attune ver")
    assert "--output" in complete("attune version --ou")
    assert complete("attune version --output js") == ["json"]
