"""JSON pointers (RFC 6901). Pure."""

from typing import Any, Final


class _Missing:
    """Nothing is there."""


MISSING: Final = _Missing()


def value_at(document: Any, pointer: str) -> Any:
    """The value that a pointer refers to; :data:`MISSING` when there is none.

    Args:
        document: a decoded JSON document.
        pointer: empty for the whole, or like ``/data/items``.
    """
    value = document
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(key, MISSING)
        elif isinstance(value, list) and key.isascii() and key.isdecimal() and (key == "0" or key[0] != "0"):
            value = value[int(key)] if len(key) < 10 and int(key) < len(value) else MISSING
        else:
            return MISSING
    return value
