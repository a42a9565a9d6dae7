"""What `attune up` says when it has started."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from attune_local.display import PlainLines, Started, program
from attune_local.display.live import LiveView
from attune_local.objects.store import ObjectStore


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program in a virtual environment of the current folder, as in a clone."""
    path = tmp_path / "clone" / ".venv" / "bin" / "attune"
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.chdir(tmp_path / "clone")
    return path


def test_the_command_line_is_named_as_the_shell_finds_it(installed: Path) -> None:
    assert program(".venv/bin/attune", found=None) == ".venv/bin/attune"
    assert program(str(installed), found=None) == ".venv/bin/attune"
    assert program(str(installed), found=str(installed)) == "attune"
    another = installed.with_name("another")
    assert program(str(installed), found=str(another)) == ".venv/bin/attune"


def test_a_program_elsewhere_has_its_whole_path(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert program(str(installed), found=None) == str(installed)


def started(folder: Path) -> Started:
    return Started(api_url="http://127.0.0.1:1", token_file=folder / "t", data_dir=folder, program=".venv/bin/attune")


def test_it_says_where_to_look_next(tmp_path: Path) -> None:
    said = io.StringIO()
    PlainLines(outputs=False, stdout=io.StringIO(), stderr=said).started(started(tmp_path))
    for command in ("status", "rules list", "events list --follow", "explain", "new rule"):
        assert f".venv/bin/attune {command}" in said.getvalue()


def test_so_does_the_live_view(tmp_path: Path) -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, width=160, height=30)
    view = LiveView(ObjectStore(), console=console)
    view.started(started(tmp_path))
    console.print(view.render(datetime.now(UTC)))
    for command in ("status", "rules list", "explain", "new rule"):
        assert f".venv/bin/attune {command}" in drawn.getvalue()
