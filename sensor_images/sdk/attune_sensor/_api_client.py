"""Posts events to the API, and reduces its answers to a few outcomes (docs/sensor-protocol.md, "Events")."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import msgspec

from attune_contract.events import MAX_BATCH_EVENTS, MAX_BODY_BYTES
from attune_sensor._credentials import Token, TokenFile
from attune_sensor._errors import CredentialsError
from attune_sensor._last_events import LastEvent, decode
from attune_sensor._metrics import Metrics
from attune_sensor._tls import client_context

_PATH: Final = "/api/v1/events/batch?defer=true"
_LAST_EVENTS: Final = "/api/v1/sensor/last-events"
_WHO_AM_I: Final = "/auth/whoami"
_OPEN: Final = b'{"events":['
_CLOSE: Final = b"]}"

#: What one request may carry.
MAX_EVENTS: Final = MAX_BATCH_EVENTS
MAX_EVENTS_BYTES: Final = MAX_BODY_BYTES - len(_OPEN) - len(_CLOSE)

_TIMEOUT: Final = aiohttp.ClientTimeout(total=15.0, connect=5.0)
_KEEP_ALIVE: Final = 30.0
#: The longest wait that the API may ask for (seconds); longer ones are cut.
_MAX_RETRY_AFTER: Final = 300.0
_MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024


class EventResult(msgspec.Struct, frozen=True):
    """What the API did with one event: ``stored``, ``duplicate``, ``refused`` for a reason, or ``deferred``: its namespace is
    over its quota, and it may come again after ``retry_after`` seconds.

    ``id`` is None when the API could not read that much of the event. Results are in the order of the events all the
    same.
    """

    status: str
    id: str | None = None
    reason: str | None = None
    retry_after: float | None = None


class _Answer(msgspec.Struct, frozen=True):
    data: list[EventResult]


_ANSWER: Final = msgspec.json.Decoder(_Answer)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The API took the request; each event has its own result, in order."""

    results: list[EventResult]


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """The API refused the request as a whole, and would again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The request may succeed later. ``retry_after`` is what the API asked for, in seconds."""

    kind: str
    reason: str
    retry_after: float | None = None


Outcome = Accepted | RequestRefused | Unavailable


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    body: bytes
    retry_after: str | None


#: Refusals of the whole request that are not about its content: a wrong address, a proxy, too high a load.
_RETRIED_STATUS: Final = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.MISDIRECTED_REQUEST,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


def judge(*, status: int, body: bytes, sent: int, retry_after: str | None, now: float) -> Outcome:
    """Decide what an answer means.

    Args:
        status: the HTTP status code.
        body: the answer's body.
        sent: how many events the request carried.
        retry_after: the header of that name (RFC 9110 §10.2.3): seconds, or a date.
        now: Unix time in seconds.
    """
    if 200 <= status < 300:
        try:
            results = _ANSWER.decode(body).data
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return Unavailable("answer", f"the API's answer is malformed: {error}")
        if len(results) != sent:
            return Unavailable("answer", f"the API answered with {len(results)} results for {sent} events")
        return Accepted(results)
    reason = f"HTTP {status}{_detail(body)}"
    if 400 <= status < 500 and status not in _RETRIED_STATUS:
        return RequestRefused(reason)
    return Unavailable(f"http_{status}", reason, parse_retry_after(retry_after, now=now))


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds to wait; None when the header is absent or unreadable."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _MAX_RETRY_AFTER)
    try:
        seconds = parsedate_to_datetime(value).timestamp() - now
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER)


def _detail(body: bytes) -> str:
    """The words of a problem document (RFC 9457), or the beginning of another text."""
    try:
        problem: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        text = body[:200].decode("utf-8", "replace").strip()
        return f": {text}" if text else ""
    if isinstance(problem, dict):
        words = [str(problem[key]) for key in ("title", "detail") if problem.get(key)]
        return f": {', '.join(words)[:500]}" if words else ""
    return ""


class EventsApi:
    """The API as a sensor uses it.

    Args:
        url: the API's address.
        token: the file with the sensor's token, read for each request.
        user_agent: who is calling.
        ca_file: certificates to trust in addition to the system's, or None.
        metrics: where the latency of requests is measured.
    """

    def __init__(
        self,
        *,
        url: str,
        token: TokenFile,
        user_agent: str,
        metrics: Metrics,
        ca_file: Path | None = None,
    ) -> None:
        self._base = url
        self._url = url + _PATH
        self._token = token
        self._user_agent = user_agent
        self._tls = client_context(ca_file)
        self._metrics = metrics
        self._session: aiohttp.ClientSession | None = None

    async def post(self, events: Sequence[bytes], *, now: Callable[[], float] = time.time) -> Outcome:
        """Post events, each given as its JSON. Never raises for what the API or the network does.

        A 401 is answered by reading the token's file again, and by one more try when it has changed.
        """
        answer = await self._call("POST", self._url, b"".join((_OPEN, b",".join(events), _CLOSE)))
        if isinstance(answer, Unavailable):
            return answer
        return judge(
            status=answer.status, body=answer.body, sent=len(events), retry_after=answer.retry_after, now=now()
        )

    async def last_events(self, rule_uids: list[str]) -> list[LastEvent] | str:
        """The last stored event of each rule; a sentence when the API does not answer now.

        Never raises, like :meth:`post`.
        """
        query = urlencode([("rule_uid", uid) for uid in rule_uids])
        answer = await self._call("GET", f"{self._base}{_LAST_EVENTS}?{query}", None)
        if isinstance(answer, Unavailable):
            return answer.reason
        if answer.status != HTTPStatus.OK:
            return f"HTTP {answer.status}{_detail(answer.body)}"
        return decode(answer.body)

    async def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes] | str:
        """Any other request: the status and the body of the answer; a sentence when the API does not answer now.

        Never raises, like :meth:`post`.
        """
        answer = await self._call(method, self._base + path, body)
        return answer.reason if isinstance(answer, Unavailable) else (answer.status, answer.body)

    async def check(self) -> Unavailable | None:
        """Ask the API to identify the sensor; returns why the API cannot be used now, or None.

        Never raises, like :meth:`post`.
        """
        answer = await self._call("GET", self._base + _WHO_AM_I, None)
        if isinstance(answer, Unavailable):
            return answer
        # Any other answer (an older API may not know the path) shows that the API is there.
        refused = answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        if refused or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Unavailable(f"http_{answer.status}", f"HTTP {answer.status}{_detail(answer.body)}")
        return None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _call(self, method: str, url: str, body: bytes | None) -> _Response | Unavailable:
        try:
            token = self._token.latest()
            answer = await self._request(method, url, body, token)
            if isinstance(answer, _Response) and answer.status == HTTPStatus.UNAUTHORIZED:
                renewed = self._token.read(fresh=True)
                if renewed.value != token.value:
                    answer = await self._request(method, url, body, renewed)
        except CredentialsError as error:
            return Unavailable("token", str(error))
        return answer

    async def _request(self, method: str, url: str, body: bytes | None, token: Token) -> _Response | Unavailable:
        shown = url.partition("?")[0]
        for attempt in (1, 2):
            try:
                return await self._try(method, url, body, token)
            except aiohttp.ClientConnectorError as error:
                return Unavailable("connection", f"cannot reach {shown}: {error}")
            except TimeoutError:
                return Unavailable("timeout", f"{shown} did not answer within {_TIMEOUT.total:g} s")
            except aiohttp.ClientError as error:
                # A server closes a connection that was idle for long, and may do so while a request is on its way.
                # Events have ids, so sending them twice does no harm.
                cut_off = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
                if attempt == 2 or not cut_off:
                    return Unavailable("connection", f"{shown}: {error or type(error).__name__}")
        raise AssertionError("the second attempt returns")

    async def _try(self, method: str, url: str, body: bytes | None, token: Token) -> _Response:
        session = self._session
        if session is None:
            session = self._session = aiohttp.ClientSession(
                timeout=_TIMEOUT,
                connector=aiohttp.TCPConnector(limit=4, keepalive_timeout=_KEEP_ALIVE, ssl=self._tls or True),
                headers={"User-Agent": self._user_agent, "Content-Type": "application/json"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        began = time.perf_counter()
        code = "error"
        try:
            # Redirects are not followed: the token must not travel to another host.
            async with session.request(
                method, url, data=body, headers={"Authorization": f"Bearer {token.value}"}, allow_redirects=False
            ) as response:
                code = str(response.status)
                # The whole body is read, so that the connection can be used again.
                answer = await response.content.read(_MAX_ANSWER_BYTES)
                while len(chunk := await response.content.read(65536)) and len(answer) < _MAX_ANSWER_BYTES:
                    answer += chunk
                return _Response(response.status, answer, response.headers.get("Retry-After"))
        finally:
            self._metrics.api_latency.labels(code).observe(time.perf_counter() - began)
