"""The samples in examples/stdio and the code in docs/runners.md, run by the real supervisor."""

import json
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.eventually import until
from support.stdio_programs import events_of, harness

from attune_contract.resources import Rule, Sensor
from attune_contract.schemas.json_schema import JsonSchema
from attune_sensor import AckState, event_id
from attune_sensor._api_client import Accepted, Outcome
from attune_sensor._last_events import LastEvent
from attune_sensor.testing import FakeApi, SensorHarness
from attune_stdio.settings import Mode

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLES = REPOSITORY / "examples" / "stdio"
RUNNERS = REPOSITORY / "docs" / "runners.md"


def sample(name: str, scripts: Path) -> tuple[Sensor, Rule]:
    """The Sensor and the Rule of a sample; its scripts are written to a directory, as they are in a pod."""
    documents = list(yaml.safe_load_all((EXAMPLES / name).read_text()))
    for document in documents:
        document["metadata"]["namespace"] = "default"
    sensor, rule = Sensor.from_object(documents[0]), Rule.from_object(documents[1])
    scripts.mkdir()
    for file, text in (sensor.spec.scripts or {}).items():
        (scripts / file).write_text(text)
        (scripts / file).chmod(0o555)
    return sensor, rule


@pytest.mark.parametrize("name", ["node.yaml", "python.yaml", "shell.yaml"])
async def test_a_sample_makes_events(name: str, tmp_path: Path) -> None:
    sensor, rule = sample(name, tmp_path / "scripts")
    command = (*(sensor.spec.command or ()), *(sensor.spec.args or ()))
    if command[0] == "node" and shutil.which("node") is None:
        pytest.skip("Node.js is not installed here; the cluster's test has it in its image")
    [declared] = sensor.spec.trigger_types
    parameters = rule.spec.trigger.parameters
    schema = JsonSchema(json.dumps(declared.parameters_schema).encode())
    assert schema.violations(json.dumps(parameters).encode(), limit=1) == []
    mode = Mode(sensor.spec.stdio.mode) if sensor.spec.stdio is not None else Mode.PER_RULE
    async with harness(command, mode=mode, scripts=tmp_path / "scripts", trigger_types=(declared.name,)) as run:
        applied = run.apply(declared.name, parameters)
        await until(lambda: len(events_of(run.api, applied)) >= 3, within=20)


def code(language: str, name: str) -> str:
    """The block of docs/runners.md whose first line, or second after a shebang, names this file."""
    for text in re.findall(
        rf"^```{language}\n(.*?)^```$", RUNNERS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        if any(line.startswith(f"# {name}") for line in text.splitlines()[:2]):
            return str(text)
    raise LookupError(name)


async def test_moving_to_standalone_while_both_run_doubles_nothing(tmp_path: Path) -> None:
    (tmp_path / "files.sh").write_text(code("sh", "files.sh"))
    (tmp_path / "files.sh").chmod(0o555)
    names: dict[str, Any] = {}
    exec(code("python", "files.py"), names)
    watched = tmp_path / "watched"
    watched.mkdir()
    api = FakeApi()
    parameters = {"directory": str(watched)}

    def stdio(through: FakeApi) -> SensorHarness:
        return harness(("files.sh",), scripts=tmp_path, trigger_types=("acme.file",), api=through)

    def standalone(through: FakeApi) -> SensorHarness:
        return SensorHarness(names["sensor"].handler, trigger_types=["acme.file"], api=through)

    one, other, third = Way(api), Way(api), Way(api)
    async with stdio(one) as old:
        rule = old.apply("acme.file", parameters)
        ids = {name: str(event_id(rule.uid, name)) for name in ("one", "two", "three")}
        (watched / "one").touch()
        await until(lambda: len(api.events) == 1, within=60)
        async with standalone(other) as new:
            same = new.apply("acme.file", parameters, created_at=rule.created_at)
            assert same.uid == rule.uid
            await new.wait_for(same, AckState.ACTIVE, within=60)
            (watched / "two").touch()
            # Both programs report each file again and again, so it is not their number that says what they reported.
            for way in (one, other):
                await until(partial(way.has_reported, ids["one"], ids["two"]), within=60)
            assert sorted(str(event.id) for event in api.events) == sorted([ids["one"], ids["two"]])
    async with standalone(third) as new:
        new.apply("acme.file", parameters, created_at=rule.created_at)
        (watched / "three").touch()
        await until(partial(third.has_reported, *ids.values()), within=60)
    assert sorted(str(event.id) for event in api.events) == sorted(ids.values())


class Way(FakeApi):
    """How one sensor reaches the API that several share; it remembers what came this way."""

    def __init__(self, api: FakeApi) -> None:
        super().__init__()
        self._api = api
        self._reported: set[str | None] = set()

    def has_reported(self, *ids: str) -> bool:
        """Whether exactly these events came this way, stored before or not."""
        return self._reported == set(ids)

    async def post(self, events: Sequence[bytes]) -> Outcome:
        outcome = await self._api.post(events)
        assert isinstance(outcome, Accepted)
        self._reported.update(result.id for result in outcome.results)
        return outcome

    async def last_events(self, rule_uids: list[str]) -> list[LastEvent] | str:
        return await self._api.last_events(rule_uids)


def test_the_documents_manifest_is_valid() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", RUNNERS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    documents = [yaml.safe_load(text) for text in blocks]
    sensors = [body for body in documents if "kind" in body]  # others show a part of one
    assert sensors
    for body in sensors:
        body["metadata"].setdefault("namespace", "default")
        Sensor.from_object(body)
