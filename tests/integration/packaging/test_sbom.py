"""``make sbom``: what an image consists of, as the lock files pin it."""

import base64
import hashlib
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from attune_cluster import nats_server
from attune_cluster.settings import Settings

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what ``make sbom`` writes."""
    folder = tmp_path_factory.mktemp("sbom")
    subprocess.run(["make", "sbom", f"SBOM={folder}"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return folder


def test_every_file_is_what_the_schema_of_cyclonedx_says(bills: Path) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_5)
    files = sorted(bills.iterdir())
    targets = {image["target"] for image in json.loads((REPOSITORY / "hack/cluster/images.json").read_text())}
    parts = {target.removeprefix("sensor-") for target in targets if target != "nats"} - {"stdio-node"}  # as stdio
    assert {file.name for file in files} == {
        *(f"attune-{part}.cdx.json" for part in parts),
        *("attune-cli.cdx.json", "nats-server.cdx.json"),
    }
    for file in files:
        assert (problem := validator.validate_str(file.read_text())) is None, f"{file.name}: {problem}"


def test_the_nats_server_s_modules_are_those_of_go_sum(bills: Path) -> None:
    bill = json.loads((bills / "nats-server.cdx.json").read_text())
    sums = {
        (name, version): base64.b64decode(digest).hex()
        for name, version, digest in re.findall(
            r"^(\S+) (v[^\s/]+) h1:(\S+)$", (nats_server.MODULE / "go.sum").read_text(), re.MULTILINE
        )
    }
    components = {each["name"]: each for each in bill["components"]}
    assert re.fullmatch(r"pkg:golang/std@1\.\d+\.\d+", components.pop("std")["purl"])
    assert len(components) >= 10
    for name, component in components.items():
        [found] = component["hashes"]
        assert found == {"alg": "SHA-256", "content": sums[name, component["version"]]}
        assert component["purl"] == f"pkg:golang/{name}@{component['version']}"
    program = nats_server.nats_server(Settings.from_environment())
    [digest] = bill["metadata"]["component"]["hashes"]
    assert digest["content"] == hashlib.sha256(program.read_bytes()).hexdigest()


def test_every_component_is_the_pinned_one_with_its_hash(bills: Path) -> None:
    locked = {
        package["name"]: package["version"]
        for package in tomllib.loads((REPOSITORY / "uv.lock").read_text())["package"]
        if "version" in package
    }
    files = sorted(bills.glob("attune-*.cdx.json"))
    for path in files:
        components = json.loads(path.read_text())["components"]
        outside = [each for each in components if not each["name"].startswith("attune-")]
        assert outside, path.name
        for component in outside:
            assert component["version"] == locked[component["name"]]
            hashes = [each for reference in component["externalReferences"] for each in reference["hashes"]]
            assert hashes, component["name"]
            assert {each["alg"] for each in hashes} == {"SHA-256"}
    operator = json.loads((bills / "attune-operator.cdx.json").read_text())["components"]
    assert "kopf" in {component["name"] for component in operator}
