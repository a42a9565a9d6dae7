"""docs/actions.md: its Rule is one that would be taken, and no field of an action is left out."""

import re
from pathlib import Path
from typing import Any

from attune_contract import crds
from attune_kit.actions.check import check
from attune_local.admission import check_text

PAGE = (Path(__file__).parents[3] / "docs" / "actions.md").read_text(encoding="utf-8")


def test_the_example_would_be_taken() -> None:
    example = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
    result = check_text(example, source="docs/actions.md")
    assert result.problems == []
    [checked] = result.objects
    assert check(checked.object["spec"], namespace="batch") == []


def fields(schema: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for name, inner in schema.get("properties", {}).items():
        found |= {name} | fields(inner)
    return found | (fields(schema["items"]) if "items" in schema else set())


def test_every_field_is_named() -> None:
    [version] = crds.definitions()["rules.yaml"]["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    of_references = {"key"}
    missing = {
        name for name in fields(spec["properties"]["actions"]) - of_references if not re.search(rf"\b{name}\b", PAGE)
    }
    assert not missing
    assert not {name for name in spec["properties"] if not re.search(rf"\b{name}\b", PAGE)}
