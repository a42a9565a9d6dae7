"""Our resource definitions in a real API server."""

from functools import partial
from pathlib import Path
from typing import Final

import yaml
from support.eventually import eventually

from attune_cluster.api import Api
from attune_contract import names

CRDS: Final = Path(__file__).parents[2] / "deploy" / "crds"


def definitions_served(api: Api) -> None:
    """Create them, and return when Sensors and Rules are served, which is a moment later."""
    for file in sorted(CRDS.glob("*.yaml")):
        definition = yaml.safe_load(file.read_text())
        api.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    for plural in (names.SENSORS, names.RULES):
        path = f"/apis/{names.API_VERSION}/{plural}"
        eventually(partial(api.request, "GET", path), within=60, what=f"{plural} are served")
