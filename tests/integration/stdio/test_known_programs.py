"""Usual programs, as they are: each manifest in examples/stdio is run against the real program and its real server."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import known_programs
from support.eventually import until
from support.known_programs import JOURNAL_REMOTE, Setup
from support.postgres import PostgresServer
from support.stdio_programs import events_of

from attune_cluster.apiserver import ApiServer
from attune_contract.resources import Rule, Sensor
from attune_local.node.container import expanded
from attune_operator.resources import stdio
from attune_sensor.testing import SensorHarness
from attune_stdio.handler import handler_for
from attune_stdio.settings import StdioSettings

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "stdio"
Open = Callable[[Path], AbstractAsyncContextManager[Setup]]

#: By manifest: what its first two events carry, and the programs that the test needs.
PROGRAMS: dict[str, tuple[list[dict[str, Any]], tuple[str, ...]]] = {
    "mosquitto-sub": (
        [{"topic": "plant/a/t", "text": f'{{"n": {n}}}\nand "more"'} for n in (1, 2)],
        ("mosquitto_sub", "mosquitto"),
    ),
    "redis-cli": (
        [{"channel": "news", "text": f'message {n}, "quoted"\nsecond line'} for n in (1, 2)],
        ("redis-cli", "redis-server"),
    ),
    "inotifywait": ([{"path": f'DIRECTORY/file {n}, "quoted"'} for n in (1, 2)], ("inotifywait",)),
    "tail": (
        [{"at": f"2026-11-23T12:00:0{n}+0100", "level": "ERROR", "message": f"number {n}"} for n in (1, 2)],
        ("tail",),
    ),
    "kcat": (
        [{"topic": "orders", "key": "k0", "value": "before"}]
        + [{"topic": "orders", "key": f"k{n}", "value": f'not JSON, "{n}"'} for n in (1, 2)],
        ("kcat",),
    ),
    "tshark": ([{"protocols": "eth:ethertype:ip:udp:data", "bytes": 42 + n} for n in (1, 2)], ("tshark",)),
    "journalctl": (
        [{"unit": "app.service", "message": f"message {n}", "priority": 3} for n in (1, 2)],
        ("journalctl", str(JOURNAL_REMOTE)),
    ),
    "kubectl": ([{"change": "ADDED", "name": f"map-{n}"} for n in (1, 2)], ()),
    "grep": ([{"text": f"ERROR number {n}"} for n in (1, 2)], ("grep",)),
    "mawk": ([{"disk": "sdb", "used": 90 + n} for n in (1, 2)], ("mawk",)),
    "jq": ([{"level": "error", "message": f"number {n}"} for n in (1, 2)], ("jq",)),
    "vmstat": ([], ("vmstat",)),
    "psql": ([{"channel": "jobs", "text": f'job {n} "x"'} for n in (1, 2)], ("psql",)),
}


@pytest.fixture
def postgres_url() -> Iterator[str]:
    server = PostgresServer()
    server.start()
    try:
        yield server.url("postgres").replace("+asyncpg", "")
    finally:
        server.stop()
        server.remove()


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    with ApiServer(tmp_path / "kubernetes") as server:
        yield server.kubeconfig


def manifest(name: str) -> tuple[Sensor, Rule]:
    documents = list(yaml.safe_load_all((EXAMPLES / f"{name}.yaml").read_text()))
    for document in documents:
        document["metadata"]["namespace"] = "default"
    return Sensor.from_object(documents[0]), Rule.from_object(documents[1])


def settings_of(sensor: Sensor, variables: dict[str, str]) -> StdioSettings:
    """What the supervisor is started with, by the operator and the kubelet."""
    own = {name: expanded(value, variables) for name, value in stdio.variables(sensor).items()}
    arguments = [expanded(word, variables) for word in stdio.arguments(sensor)]
    return StdioSettings.read(arguments, own)


def test_twelve_of_thirteen_need_no_wrapper() -> None:
    wrapped = set()
    for name in PROGRAMS:
        sensor, _ = manifest(name)
        if (sensor.spec.command or [""])[0] in {"sh", "bash", "python3"} or sensor.spec.scripts:
            wrapped.add(name)
    assert len(PROGRAMS) == 13
    assert wrapped == {"psql"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.apiserver] if name == "kubectl" else []) for name in PROGRAMS]
)
async def test_a_program_makes_events_as_it_is(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    wanted, needs = PROGRAMS[name]
    if missing := [program for program in needs if shutil.which(program) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed here; `make integration` installs it")
    if name == "tshark" and os.geteuid() != 0:
        pytest.skip("capturing packets needs root")
    sensor, _ = manifest(name)
    [declared] = sensor.spec.trigger_types
    opened: AbstractAsyncContextManager[Setup]
    if name == "psql":
        opened = known_programs.psql(tmp_path, request.getfixturevalue("postgres_url"))
    elif name == "kubectl":
        opened = known_programs.kubectl(tmp_path, request.getfixturevalue("kubeconfig"))
    else:
        open_: Open = getattr(known_programs, name.replace("-", "_"))
        opened = open_(tmp_path)
    async with opened as setup:
        handler = handler_for(
            settings_of(sensor, setup.variables), environment={"PATH": os.environ["PATH"], **setup.variables}
        )
        async with SensorHarness(handler, trigger_types=(declared.name,)) as run:
            rule = run.apply(declared.name, setup.parameters)
            if not wanted:
                await until(lambda: len(events_of(run.api, rule)) >= 3, within=60)
                assert events_of(run.api, rule)[0].keys() == {"running", "blocked", "freeKiB"}
                return
            wanted = [
                {key: value.replace("DIRECTORY", str(tmp_path)) if isinstance(value, str) else value
                 for key, value in each.items()} for each in wanted
            ]  # fmt: skip
            # Until it watches, which no program says, what happens is not seen: so it happens until it was.
            for number in (1, 2):
                for _ in range(40):
                    await setup.happen(number)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1.5):
                            await until(lambda: wanted[number - 3] in events_of(run.api, rule))  # noqa: B023
                            break
            found = events_of(run.api, rule)
            assert [each for each in found if each not in [*wanted, *setup.beside]] == [], run.message(rule)
            assert [each for each in wanted if each not in found] == [], (run.message(rule), found)
            assert "holds its output back" not in run.message(rule)
            times = {event.occurred_at for event in run.api.events}
            assert all(moment.tzinfo is not None for moment in times)
