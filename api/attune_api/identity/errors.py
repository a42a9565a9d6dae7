"""Refusals as RFC 6750 wants them: 401 and 403 with ``WWW-Authenticate: Bearer``."""

from collections.abc import Mapping
from typing import Any

from attune_api.web.problems import ProblemError


class InvalidTokenError(ValueError):
    """A token that proves nothing. The text says why, and never repeats any of it.

    Args:
        description: for the caller.
        reason: one word, for the metric.
    """

    def __init__(self, description: str, *, reason: str) -> None:
        super().__init__(description)
        self.reason = reason


def _quoted(text: str) -> str:
    # error_description takes printable ASCII without quote and backslash (RFC 6750 §3).
    return "".join(char if " " <= char <= "~" and char not in '"\\' else "'" for char in text)


def no_token(what: str) -> ProblemError:
    """401 without an error code: the request had no token at all (RFC 6750 §3.1).

    Args:
        what: which token belongs there.
    """
    return ProblemError(
        401,
        f"There is no token; send {what} as 'Authorization: Bearer <token>'.",
        kind="token-missing",
        headers={"WWW-Authenticate": 'Bearer realm="attune"'},
    )


def repeated_authorization() -> ProblemError:
    """400 ``invalid_request``: a parameter is repeated (RFC 6750 §3.1).

    A proxy in front may have checked one ``Authorization`` header, and we another.
    """
    challenge = 'Bearer realm="attune", error="invalid_request", error_description="more than one Authorization header"'
    return ProblemError(
        400,
        "The request has more than one Authorization header; send one.",
        kind="repeated-authorization",
        headers={"WWW-Authenticate": challenge},
    )


def invalid_token(description: str) -> ProblemError:
    """401 ``invalid_token``: there is a token, and it is not accepted."""
    challenge = f'Bearer realm="attune", error="invalid_token", error_description="{_quoted(description)}"'
    return ProblemError(401, description, kind="invalid-token", headers={"WWW-Authenticate": challenge})


def insufficient_scope(
    description: str, *, kind: str = "forbidden", members: Mapping[str, Any] | None = None
) -> ProblemError:
    """403 ``insufficient_scope``: the token is good, and not enough for this."""
    challenge = f'Bearer realm="attune", error="insufficient_scope", error_description="{_quoted(description)}"'
    return ProblemError(403, description, kind=kind, headers={"WWW-Authenticate": challenge}, members=members)
