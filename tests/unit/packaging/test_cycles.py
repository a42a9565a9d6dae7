"""No module of the product imports itself by a detour."""

import graphlib
from pathlib import Path

import grimp

REPOSITORY = Path(__file__).parents[3]


def test_no_module_imports_itself_by_a_detour() -> None:
    places = [*REPOSITORY.glob("*/attune_*"), *REPOSITORY.glob("sensor_images/*/attune_*")]
    packages = {path.name for path in places if path.is_dir() and (path / "__init__.py").exists()}
    assert {"attune_operator", "attune_api", "attune_conformance", "attune_sensor"} <= packages
    graph = grimp.build_graph(*packages, exclude_type_checking_imports=True, cache_dir=None)
    modules = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(modules) > 400
    graphlib.TopologicalSorter(modules).prepare()  # raises CycleError, which names the modules
