"""Requests, and what their failures mean: what the clients of both APIs have in common."""

import ssl
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from attune_cli.errors import CliError, NotFoundError, RefusedError, RejectedError, UnreachableError
from attune_cli.targets.httpx_client import httpx

TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
Bearer = Callable[[], str | None]


class BearerAuth(httpx.Auth):
    """Sends the token that is good now. (Given always, so that httpx looks for none in ``~/.netrc``.)"""

    def __init__(self, bearer: Bearer, *, server_name: str | None = None) -> None:
        self._bearer = bearer
        self._server_name = server_name

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Called by httpx."""
        if (token := self._bearer()) is not None:
            request.headers["Authorization"] = f"Bearer {token}"
        if self._server_name:
            request.extensions = {**request.extensions, "sni_hostname": self._server_name}
        yield request


def unreachable(who: str, url: str, error: Exception) -> CliError:
    """No answer."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UnreachableError(f"{who} at {url} shows a certificate that is not trusted: {cause.verify_message}.")
        cause = cause.__cause__ or cause.__context__
    what = "gave no answer in time" if isinstance(error, httpx.TimeoutException) else f"cannot be reached ({error})"
    return UnreachableError(f"{who} at {url} {what}.")


def failure(status: int, message: str) -> CliError:
    """What an answer that is no success means."""
    match status:
        case 401 | 403:
            return RefusedError(message)
        case 404:
            return NotFoundError(message)
        case 429 | 502 | 503 | 504:
            return UnreachableError(message)
    return RejectedError(message)


def clock_ahead(answer: httpx.Response) -> timedelta | None:
    """How far the server's clock is ahead of ours; None where it does not say. HTTP says it in whole seconds."""
    try:
        return parsedate_to_datetime(answer.headers["Date"]) - datetime.now(UTC)
    except (KeyError, TypeError, ValueError):
        return None


def said(answer: httpx.Response, *members: str) -> str:
    """The sentence in an answer: the first of ``members`` that it has, or its beginning."""
    try:
        body: Any = answer.json()
    except ValueError:
        body = None
    if isinstance(body, Mapping):
        for member in members:
            if isinstance(body.get(member), str) and body[member]:
                return str(body[member])
    return answer.text[:200].strip() or answer.reason_phrase
