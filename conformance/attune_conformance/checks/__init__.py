"""The checks, one module for each part of the protocol."""

import importlib
from typing import Final

from attune_conformance.check import Check, registered

#: In the order of the protocol's text. Importing a module registers its checks.
_MODULES: Final = ("rules", "stream", "credentials", "events", "delivery", "process")


def all_checks() -> dict[str, Check]:
    """Every check, by its name, in the order of the protocol's text."""
    for module in _MODULES:
        importlib.import_module(f"{__name__}.{module}")
    return registered()
