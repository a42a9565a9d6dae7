"""What documented objects have in common that are not msgspec's (see :mod:`attune_api.web.documents`)."""

from typing import Any

from pydantic import BaseModel, ConfigDict


def example(value: dict[str, Any]) -> ConfigDict:
    """A model's configuration, with an example of the whole."""
    return ConfigDict(json_schema_extra={"examples": [value]})


class Schema(BaseModel):
    """A documented object."""

    model_config = ConfigDict(use_attribute_docstrings=True)
