"""Canonical JSON: equal values have equal bytes."""

from typing import Any, Final

import msgspec

_JSON: Final = msgspec.json.Encoder(order="sorted", enc_hook=lambda value: dict(value))


def canonical_json(value: Any) -> bytes:
    """Encode ``value`` as JSON with sorted keys."""
    return _JSON.encode(value)
