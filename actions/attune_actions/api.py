"""The API, for events that are not in the stream, or not whole."""

import asyncio
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import structlog

from attune_contract.events import Event
from attune_kit.tls import client_context

_log = structlog.stdlib.get_logger(__name__)

_TIMEOUT: Final = 20.0
_PAGE: Final = 500
_RETRY: Final = 2.0


class ApiError(Exception):
    """The API did not answer as it should."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _Page(msgspec.Struct):
    events: list[msgspec.Raw]
    next: str | None = None


class Api:
    """A client of the API.

    Args:
        url: where it is; empty: there is none.
        token_file: bearer token, read for each request.
        ca_file: certificates that its own is checked against.
    """

    def __init__(self, *, url: str, token_file: Path | None, ca_file: Path | None) -> None:
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None

    @property
    def configured(self) -> bool:
        """Whether there is an API to ask."""
        return bool(self._url)

    async def get(self, path: str, query: dict[str, str] | None = None) -> bytes:
        """The body of an answer.

        Raises:
            ApiError: there is none, or its status is not 200.
        """
        if not self._url:
            raise ApiError("no API is configured")
        token = await asyncio.to_thread(self._token_file.read_text) if self._token_file is not None else ""
        headers = {"Authorization": f"Bearer {token.strip()}"} if token else {}
        try:
            async with self._opened().get(self._url + path, params=query, headers=headers) as answer:
                body = await answer.read()
                if answer.status != 200:
                    text = body[:300].decode("utf-8", "replace")
                    raise ApiError(f"GET {path}: {answer.status} {text}", status=answer.status)
                return body
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiError(f"GET {path}: {type(error).__name__}: {error}") from error

    async def whole(self, event: Event) -> bytes:
        """An event with its payload, as JSON.

        Raises:
            ApiError: it cannot be had now.
        """
        return await self.get(f"/api/v1/events/{event.id}", {"rule_uid": event.rule_uid})

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            context: Any = client_context(self._ca_file) if self._ca_file is not None else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=8, ssl=context),
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT, sock_connect=5),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
