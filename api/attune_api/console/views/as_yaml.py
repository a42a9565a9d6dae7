"""Values as YAML, for people."""

from typing import Any


def as_yaml(value: Any) -> str:
    """A value that JSON could hold, as YAML."""
    import yaml  # when a page shows some: the API itself needs none

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
