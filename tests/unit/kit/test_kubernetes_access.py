"""How an API server is reached: by a kubeconfig, or as a pod's ServiceAccount."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from attune_kit.kubernetes.access import Access, AccessError, PluginError, files, find_access, load


def kubeconfig_file(path: Path, **user: Any) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team-a"}}],
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1/"}}],
                "users": [{"name": "u", "user": user or {"token": "t"}}],
            }
        )
    )
    return path


def test_of_several_files_the_first_that_says_something_holds(tmp_path: Path) -> None:
    second = kubeconfig_file(tmp_path / "second")
    first = tmp_path / "first"
    first.write_text(yaml.safe_dump({"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:2"}}]}))
    paths = files(None, {"KUBECONFIG": f"{first}{os.pathsep}{tmp_path / 'none'}{os.pathsep}{second}"})
    access = load(paths, context=None)
    assert (access.server, access.namespace, access.bearer()) == ("https://127.0.0.1:2", "team-a", "t")


@pytest.mark.parametrize("text", ["[", "- a", "clusters: 5", "contexts: [{}]", "\x00"])
def test_what_is_no_kubeconfig_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(AccessError):
        load([tmp_path / "config"], context=None)


def test_a_token_file_is_read_again_each_time(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    access = load([kubeconfig_file(tmp_path / "config", tokenFile="token")], context=None)
    assert access.bearer() == "one"
    (tmp_path / "token").write_text("two\n")
    assert access.bearer() == "two"


def plugin(tmp_path: Path, ends: str) -> Access:
    program = tmp_path / "plugin"
    status = json.dumps({"status": {"token": "TOKEN", "expirationTimestamp": ends}})
    program.write_text(
        f"#!/bin/sh\necho x >> {tmp_path}/runs\necho '{status}' | sed s/TOKEN/$WHO-$(wc -l < {tmp_path}/runs | tr -d ' ')/\n"
    )
    program.chmod(0o700)
    spec = {"command": str(program), "env": [{"name": "WHO", "value": "me"}], "interactiveMode": "Never"}
    return load([kubeconfig_file(tmp_path / "config", exec=spec)], context=None)


def test_a_plugin_is_asked_again_only_when_its_credential_ends(tmp_path: Path) -> None:
    access = plugin(tmp_path, "2099-01-01T00:00:00Z")
    assert (access.bearer(), access.bearer()) == ("me-1", "me-1")
    (tmp_path / "runs").unlink()
    access = plugin(tmp_path, "2020-01-01T00:00:00Z")
    assert access.bearer() != access.bearer()


def test_a_plugin_that_is_missing_or_fails_is_named(tmp_path: Path) -> None:
    missing = {"command": "no-such-plugin", "installHint": "Get it at the shop."}
    with pytest.raises(AccessError, match=r"no-such-plugin is not installed\. Get it at the shop\."):
        load([kubeconfig_file(tmp_path / "config", exec=missing)], context=None)
    (tmp_path / "no-program").touch(mode=0o600)
    with pytest.raises(AccessError, match="no-program cannot be run: Permission denied"):
        load([kubeconfig_file(tmp_path / "config", exec={"command": str(tmp_path / "no-program")})], context=None)
    with pytest.raises(PluginError, match="failed"):
        load([kubeconfig_file(tmp_path / "config", exec={"command": "false"})], context=None)
    with pytest.raises(PluginError, match="printed no credential"):
        load([kubeconfig_file(tmp_path / "config", exec={"command": "true"})], context=None)


def test_a_password_is_sent_and_shown_nowhere(tmp_path: Path) -> None:
    access = load([kubeconfig_file(tmp_path / "config", username="u", password="secret")], context=None)
    assert access.headers["Authorization"] == f"Basic {base64.b64encode(b'u:secret').decode()}"
    assert "Basic" not in repr(access)


# -- what a program uses


def service_account(folder: Path) -> Path:
    folder.mkdir()
    (folder / "token").write_text("of-the-pod\n")
    (folder / "namespace").write_text("team-b\n")
    return folder


def test_a_pod_uses_its_service_account_and_reads_the_token_again(tmp_path: Path) -> None:
    account = service_account(tmp_path / "account")
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    access = find_access(environment, account=account)
    assert (access.server, access.namespace, access.bearer()) == ("https://[fd00::1]:6443", "team-b", "of-the-pod")
    (account / "token").write_text("renewed")
    assert access.bearer() == "renewed"


def test_a_kubeconfig_that_is_named_goes_before_the_service_account(tmp_path: Path) -> None:
    config = kubeconfig_file(tmp_path / "config")
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBECONFIG": str(config)}
    assert find_access(environment, account=service_account(tmp_path / "account")).namespace == "team-a"


def test_without_any_access_the_text_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="set KUBECONFIG"):
        find_access({"HOME": str(tmp_path)})
    with pytest.raises(AccessError, match="no ServiceAccount token"):
        find_access({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, account=tmp_path / "none")
