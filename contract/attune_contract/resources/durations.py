"""Durations as Kubernetes writes them: ``24h``, ``1h30m``, ``90s``, ``500ms``. One reader for all fields that are durations."""

import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import Field
from pydantic.config import JsonDict

from attune_contract.resources.common import cel

#: What a duration may look like in a field.
PATTERN: Final = r"^([0-9]{1,9}(h|ms|m|s)){1,4}$"
_PART: Final = re.compile(r"([0-9]+)(h|ms|m|s)")
_MILLISECONDS: Final = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def parse_duration(text: str) -> timedelta:
    """Read a duration.

    Raises:
        ValueError: the text is not a duration.
    """
    if not re.fullmatch(r"([0-9]+(h|ms|m|s))+", text):
        raise ValueError(
            f"{text!r} is not a duration; write hours, minutes, seconds and milliseconds, like 24h, 1h30m or 500ms"
        )
    return timedelta(milliseconds=sum(int(n) * _MILLISECONDS[unit] for n, unit in _PART.findall(text)))


def duration_field(*, least: str, most: str) -> Any:
    """The type of a field that is a duration within bounds, for annotations of models."""
    bounds: JsonDict = {
        "x-kubernetes-validations": [
            cel(
                f"duration(self) >= duration('{least}') && duration(self) <= duration('{most}')",
                f"expected a duration from {least} to {most}, like 500ms, 30s or 5m",
            )
        ]
    }
    return Annotated[str, Field(max_length=20, pattern=PATTERN, json_schema_extra=bounds)]
