"""The API, for events that are not in the stream, or not whole."""

import asyncio
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import aiohttp
import msgspec
import structlog

from attune_contract.events import Event
from attune_kit.tls import client_context

_log = structlog.stdlib.get_logger(__name__)

_TIMEOUT: Final = 20.0
_PAGE: Final = 500


class ApiError(Exception):
    """The API did not answer as it should."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]


class _One(msgspec.Struct):
    data: msgspec.Raw


_PAGES: Final = msgspec.json.Decoder(_Page)
_ONES: Final = msgspec.json.Decoder(_One)


_T = TypeVar("_T")


def _read(decoder: "msgspec.json.Decoder[_T]", body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise ApiError(f"the API's answer cannot be read: {error}") from error


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
        body = await self.get(f"/api/v1/events/{event.id}", {"rule_uid": event.rule_uid})
        return bytes(_read(_ONES, body).data)

    async def events(self, *, after_seq: int, rule_uid: str = "", limit: int = _PAGE) -> list[msgspec.Raw]:
        """The next events behind a ``seq``, in order, as JSON; none when there are no more.

        Args:
            after_seq: behind which.
            rule_uid: of which Rule; empty: of all.
            limit: so many at most.

        Raises:
            ApiError: they cannot be had now.
        """
        query = {"order": "asc", "after_seq": str(after_seq), "limit": str(limit)}
        if rule_uid:
            query["rule_uid"] = rule_uid
        return _read(_PAGES, await self.get("/api/v1/events", query)).data

    async def run_is_over(self, run_id: UUID) -> bool:
        """Whether the API knows that a run has ended. An API that knows no runs knows of none.

        Raises:
            ApiError: it cannot be asked now.
        """
        try:
            body = await self.get(f"/api/v1/runs/{run_id}")
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        try:
            state = msgspec.json.decode(body)["data"]["state"]
        except (msgspec.MsgspecError, KeyError, TypeError):
            return False
        return bool(state in ("Succeeded", "Failed", "Skipped"))

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
