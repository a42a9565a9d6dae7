"""What the pages name exists: settings, metrics, reasons of renewals."""

import re
from pathlib import Path

from attune_api.settings import Settings as ApiSettings
from attune_operator.settings import Settings as OperatorSettings

ROOT = Path(__file__).parents[3]
PAGES = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
SOURCES = "\n".join(
    path.read_text()
    for folder in ("contract", "kit", "operator", "api", "sensor_images", "local", "cli")
    for path in (ROOT / folder).rglob("*.py")
)


def named(pattern: str) -> set[str]:
    """What the pages name, in backticks."""
    return {found for text in PAGES.values() for found in re.findall(rf"`({pattern})", text)}


def test_settings_that_the_pages_name_exist() -> None:
    ours = {f"ATTUNE_API_{name.upper()}" for name in ApiSettings.model_fields}
    ours |= {f"ATTUNE_OPERATOR_{name.upper()}" for name in OperatorSettings.model_fields}
    # The first two are given to sensors.
    ours |= {"ATTUNE_API_URL", "ATTUNE_API_TOKEN_FILE", "ATTUNE_OPERATOR_", "ATTUNE_API_"}
    assert named(r"ATTUNE_(?:API|OPERATOR)_[A-Z_]*") - ours == set()


def test_metrics_that_the_pages_name_exist() -> None:
    # A counter has its suffix from the library.
    missing = {name for name in named(r"attune_[a-z_]+_[a-z]+") if f'"{name.removesuffix("_total")}' not in SOURCES}
    packages = {path.parent.name for path in ROOT.glob("*/attune_*/__init__.py")}
    packages |= {path.parent.name for path in ROOT.glob("*/*/attune_*/__init__.py")}
    assert missing - packages == set()


def test_all_reasons_for_a_renewal_are_on_the_page_on_credentials() -> None:
    policy = (ROOT / "operator" / "attune_operator" / "credentials" / "policy.py").read_text()
    reasons = set(re.findall(r'reason="(\w+)"', policy))
    [table] = re.findall(r"\| reason \| what happened \|\n(.*?)\n\n", PAGES["credentials.md"], re.DOTALL)
    listed = {name.strip() for row in table.splitlines()[1:] for name in row.split("|")[1].split(",")}
    assert listed == reasons


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)", PAGES["index.md"]))
    assert set(PAGES) - linked == {"index.md"}
