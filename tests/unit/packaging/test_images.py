"""The Dockerfile: what the images hold."""

import re
from collections.abc import Iterator
from pathlib import Path

from attune_cluster.sources import instructions

DOCKERFILE = Path(__file__).parents[3] / "Dockerfile"
OURS = "/opt/attune/app"


def stages() -> Iterator[tuple[str, list[str]]]:
    """Each stage's name and its instructions."""
    name, lines = "", list[str]()
    for line in instructions(DOCKERFILE.read_text()):
        if (begun := re.fullmatch(r"FROM \S+ AS (\S+)", line)) is not None:
            yield name, lines
            name, lines = begun[1], []
        else:
            lines.append(line)
    yield name, lines


def test_all_that_runs_comes_with_its_bytecode() -> None:
    """A running container's file system is read-only: what is not compiled is compiled at each start."""
    found = dict(stages())
    copied = {
        name: [line for line in lines if line.startswith("COPY") and OURS in line] for name, lines in found.items()
    }
    ours = {name: lines for name, lines in copied.items() if lines}
    compiling = {name for name in ours if any("compileall" in line for line in found[name])}
    uncompiled = [
        line
        for name in set(ours) - compiling
        for line in ours[name]
        if line.split()[1].removeprefix("--from=") not in compiling
    ]
    assert len(compiling) > 1
    assert uncompiled == []
    assert "UV_COMPILE_BYTECODE=1" in " ".join(found["build"])
    assert any("compileall" in line for line in found["python"])  # the official image's standard library has none
    assert {line for line in DOCKERFILE.read_text().splitlines() if line.startswith("FROM ${PYTHON_IMAGE}")} == {
        "FROM ${PYTHON_IMAGE} AS build",
        "FROM ${PYTHON_IMAGE} AS python",
    }
