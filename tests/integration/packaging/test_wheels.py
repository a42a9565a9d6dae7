"""What ``pip install`` brings: the distributions are built, and installed in fresh virtual environments."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
UV = REPOSITORY / ".uv" / "bin" / "uv"
#: The tutorial's sensor in the SDK's harness: one rule, one file, one event.
DRIVER = """
import asyncio, pathlib, sys
from attune_sensor import AckState
from attune_sensor.testing import SensorHarness
from file_sensor import sensor

async def main():
    folder = pathlib.Path(sys.argv[1])
    async with SensorHarness(sensor.handler, trigger_types=["acme.file"]) as harness:
        rule = harness.apply("acme.file", {"directory": str(folder), "every": 0.01})
        await harness.wait_for(rule, AckState.ACTIVE)
        (folder / "first").touch()
        print((await harness.next_event()).payload)

asyncio.run(main())
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")
    }
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    run(UV, "build", "--wheel", "--all-packages", "--out-dir", folder, cwd=REPOSITORY)
    return folder


def installed(wheels: Path, environment: Path, wheel: str) -> Path:
    """A fresh environment with one of the wheels and what it needs; returns its folder of programs."""
    (file,) = wheels.glob(f"{wheel}-*.whl")
    run(UV, "venv", "--python", sys.executable, environment)
    run(UV, "pip", "install", "--python", environment / "bin" / "python", "--find-links", wheels, file)
    return environment / "bin"


def names(programs: Path) -> set[str]:
    """The distributions that are installed."""
    text = run(UV, "pip", "list", "--python", programs / "python", "--format", "json")
    return {entry["name"] for entry in json.loads(text)}


@pytest.mark.timeout(900)
def test_the_sdk_alone_runs_the_tutorials_sensor(wheels: Path, tmp_path: Path) -> None:
    programs = installed(wheels, tmp_path / "venv", "attune_sensor")
    found = names(programs)
    assert {name for name in found if name.startswith("attune")} == {"attune-contract", "attune-kit", "attune-sensor"}
    assert not found & {"pydantic", "fastapi", "sqlalchemy", "kopf", "kubernetes", "typer"}
    tutorial = (REPOSITORY / "docs" / "sensor-tutorial.md").read_text()
    (program,) = re.findall(r"^```python\n(# file_sensor\.py\n.*?)^```$", tutorial, re.DOTALL | re.MULTILINE)
    (tmp_path / "file_sensor.py").write_text(program)
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "watched").mkdir()
    assert run(programs / "python", "driver.py", tmp_path / "watched", cwd=tmp_path) == "{'name': 'first'}\n"


@pytest.mark.timeout(900)
def test_the_whole_brings_every_program(wheels: Path, tmp_path: Path) -> None:
    programs = installed(wheels, tmp_path / "venv", "attune")
    ours = {path.name for path in programs.iterdir() if "attune" in path.name}
    assert ours == {
        "attune",
        "attune-actions",
        "attune-amqp",
        "attune-api",
        "attune-aws",
        "attune-files",
        "attune-http",
        "attune-kafka",
        "attune-kubernetes",
        "attune-mqtt",
        "attune-nats",
        "attune-operator",
        "attune-patterns",
        "attune-postgres",
        "attune-redis",
        "attune-stdio",
        "attune-timer",
        "attune-webhook",
        "kubectl-attune",
    }
    rule = REPOSITORY / "packs" / "core" / "echo-every-second.yaml"
    run(programs / "attune", "lint", rule)  # by the core pack, which is in the wheel
    run(programs / "attune", "up", "--help")
    run(programs / "attune", "conformance", "--help")
    modules = [
        "actions.app",
        "amqp",
        "api",
        "aws",
        "files",
        "http",
        "kafka",
        "kubernetes",
        "mqtt",
        "nats",
        "operator.app",
        "patterns",
        "postgres",
        "redis",
        "stdio",
        "timer",
        "webhook",
        "conformance",
        "local.up",
    ]
    run(programs / "python", "-c", ";".join(f"import attune_{module}" for module in modules), cwd=tmp_path)


@pytest.mark.timeout(900)
def test_the_command_line_alone_says_what_it_lacks(wheels: Path, tmp_path: Path) -> None:
    programs = installed(wheels, tmp_path / "venv", "attune_cli")
    assert not names(programs) & {"attune-api", "attune-sensor", "kubernetes"}
    for command, extra in (("up", "local"), ("conformance", "conformance")):
        done = subprocess.run(
            [programs / "attune", command, str(REPOSITORY / "packs" / "core")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert f"pip install 'attune-cli[{extra}]'" in done.stderr
