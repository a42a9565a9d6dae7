"""The API's description is one that programs can be made from."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from attune_api.app import create_app

#: Names that generated clients have as functions: changing one breaks them.
OPERATIONS = {
    "POST /api/v1/events": "reportEvent",
    "POST /api/v1/events/batch": "reportEvents",
    "GET /api/v1/events": "listEvents",
    "GET /api/v1/events/counts": "countEvents",
    "GET /api/v1/events/stream": "streamEvents",
    "GET /api/v1/events/{event_id}": "getEvent",
    "GET /api/v1/sensor/last-events": "getLastEvents",
    "GET /api/v1/sensor/events": "getSourceEvents",
    "GET /api/v1/sensor/states/{rule_uid}": "getRuleState",
    "PUT /api/v1/sensor/states/{rule_uid}": "putRuleState",
    "DELETE /api/v1/sensor/states/{rule_uid}": "deleteRuleState",
    "GET /api/v1/rules": "listRules",
    "GET /api/v1/rules/{namespace}/{name}": "getRule",
    "GET /api/v1/rules/{namespace}/{name}/history": "getRuleHistory",
    "GET /api/v1/runs": "listRuns",
    "GET /api/v1/runs/counts": "countRuns",
    "GET /api/v1/runs/stream": "streamRuns",
    "GET /api/v1/runs/summaries": "summarizeRuns",
    "GET /api/v1/runs/{run_id}": "getRun",
    "POST /api/v1/runs/retry": "retryRuns",
    "POST /api/v1/events/replay": "replayEvents",
    "POST /api/v1/rules/{namespace}/{name}/test": "testRule",
    "GET /api/v1/sensors": "listSensors",
    "GET /api/v1/identities": "listIdentities",
    "POST /auth/sensor-token": "createSensorToken",
    "GET /auth/whoami": "whoAmI",
    "GET /.well-known/jwks.json": "getKeys",
    "GET /health": "getHealth",
    "GET /ready": "getReadiness",
    "GET /metrics": "getMetrics",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    # As it goes over the wire.
    whole: dict[str, Any] = json.loads(json.dumps(create_app().openapi()))
    return whole


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_operations_keep_their_names(document: dict[str, Any]) -> None:
    assert {name: operation["operationId"] for name, operation in _operations(document)} == OPERATIONS


def _examples(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Every example, where it is, and the schema that it is an example of."""

    def inside(where: str, node: Any) -> Iterator[tuple[str, dict[str, Any], Any]]:
        if isinstance(node, dict):
            if "schema" in node and "example" in node:
                yield where, node["schema"], node["example"]
            if isinstance(node.get("examples"), list):
                for given in node["examples"]:
                    yield where, {key: value for key, value in node.items() if key != "examples"}, given
            for key, value in node.items():
                if key not in ("example", "examples"):
                    yield from inside(f"{where}/{key}", value)
        elif isinstance(node, list):
            for index, value in enumerate(node):
                yield from inside(f"{where}/{index}", value)

    yield from inside("#", document)


def test_examples_are_what_the_schemas_say(document: dict[str, Any]) -> None:
    seen = 0
    for where, schema, given in _examples(document):
        whole = {**schema, "components": document["components"]}
        faults = [fault.message for fault in Draft202012Validator(whole).iter_errors(given)]
        assert not faults, f"{where}: {faults}"
        seen += 1
    assert seen > 40


def test_what_is_answered_has_an_example(document: dict[str, Any]) -> None:
    """The entries of answers have one of the whole, or one for each member that is a text or a number."""
    schemas = document["components"]["schemas"]
    for name in (
        "Event",
        "RuleCounts",
        "RunView",
        "RunHead",
        "RunCount",
        "SummaryView",
        "RuleSchema",
        "PastEventSchema",
        "SensorSchema",
        "IdentitySchema",
        "TokenSchema",
    ):
        (given,) = schemas[name]["examples"]
        assert set(given) == set(schemas[name]["properties"]), name


def _patterns(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            yield part["pattern"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _patterns(each)


def test_patterns_have_only_escapes_that_ecma_262_knows(document: dict[str, Any]) -> None:
    """With its flag ``u``, as OpenAPI 3.1 wants: any other is an error in JavaScript's tools."""
    patterns = list(_patterns(document))
    assert patterns
    for pattern in patterns:
        escaped = set(re.findall(r"\\(.)", pattern))
        assert escaped <= set("^$\\.*+?()[]{}|/dDsSwWbBnrtfvxu"), pattern


def test_what_linters_ask_for_is_there(document: dict[str, Any]) -> None:
    assert document["servers"]
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    assert all("security" in operation for _, operation in _operations(document))


def test_no_parameter_of_a_url_can_be_null(document: dict[str, Any]) -> None:
    for name, operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            assert {"type": "null"} not in parameter["schema"].get("anyOf", ()), (name, parameter["name"])
            assert parameter.get("description") or parameter["in"] == "path", (name, parameter["name"])


def test_every_answer_says_what_is_in_it(document: dict[str, Any]) -> None:
    for name, operation in _operations(document):
        for status, answer in operation["responses"].items():
            (content,) = answer["content"].values()
            assert content["schema"], (name, status)


def test_a_generator_makes_models_of_it_that_read_the_examples(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    made = subprocess.run(
        [
            *(sys.executable, "-m", "datamodel_code_generator"),
            *("--input", tmp_path / "openapi.json", "--input-file-type", "openapi"),
            *("--openapi-scopes", "schemas", "paths", "parameters"),
            *("--output-model-type", "pydantic_v2.BaseModel", "--target-python-version", "3.11"),
            *("--output", tmp_path / "models.py"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert made.returncode == 0, made.stderr
    event = json.dumps(document["components"]["schemas"]["Event"]["examples"][0])
    page = f'{{"data": [{event}], "next_cursor": null, "resume_cursor": "x"}}'
    check = f"import models; page = models.EventPage.model_validate_json({page!r}); print(page.data[0].seq)"
    read = subprocess.run(
        [sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240
    )
    assert read.stdout == "4711\n", read.stderr


def test_times_are_said_to_be_times(document: dict[str, Any]) -> None:
    """Generated clients read and compare them as such."""
    kept_as_text = {"PastEventSchema.changed_at"}  # empty where it is not known
    for name, schema in document["components"]["schemas"].items():
        for field, shown in schema.get("properties", {}).items():
            if field.endswith("_at") and f"{name}.{field}" not in kept_as_text:
                kinds = [part for part in shown.get("anyOf", [shown]) if part["type"] != "null"]
                assert [part.get("format") for part in kinds] == ["date-time"], f"{name}.{field}"
