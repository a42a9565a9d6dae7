"""``make sbom``: what an image consists of, as the lock file pins it."""

import json
import subprocess
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]


def test_every_component_is_the_pinned_one_with_its_hash(tmp_path: Path) -> None:
    subprocess.run(["make", "sbom", f"SBOM={tmp_path}"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    locked = {
        package["name"]: package["version"]
        for package in tomllib.loads((REPOSITORY / "uv.lock").read_text())["package"]
        if "version" in package
    }
    files = sorted(tmp_path.glob("*.cdx.json"))
    assert [path.name.partition(".")[0] for path in files] == [
        f"attune-{name}"
        for name in ("actions", "api", "cli", "kubernetes", "nats", "operator", "redis", "stdio", "timer", "webhook")
    ]
    for path in files:
        components = json.loads(path.read_text())["components"]
        outside = [each for each in components if not each["name"].startswith("attune-")]
        assert outside, path.name
        for component in outside:
            assert component["version"] == locked[component["name"]]
            hashes = [each for reference in component["externalReferences"] for each in reference["hashes"]]
            assert hashes, component["name"]
            assert {each["alg"] for each in hashes} == {"SHA-256"}
    operator = json.loads((tmp_path / "attune-operator.cdx.json").read_text())["components"]
    assert "kopf" in {component["name"] for component in operator}
