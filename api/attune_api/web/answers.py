"""Answers written by msgspec."""

from typing import Any

import msgspec
from fastapi.responses import Response


def json_answer(content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer with ``content`` as JSON."""
    return Response(msgspec.json.encode(content), status_code=status, media_type="application/json", headers=headers)
