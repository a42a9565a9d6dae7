"""Gets a token for a sensor outside the cluster (docs/credentials.md).

A sensor in the cluster finds its token in a file and does not need this. Outside, a caller that may ``create`` the
subresource ``sensors/token`` in the sensor's namespace, or that has the admin token of an API without a cluster, asks
the API for one::

    async with TokenClient("https://attune.example", token=my_token) as client:
        minted = await client.create_sensor_token("factory/door", ["acme.door"], ttl=timedelta(hours=8))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec

from attune_sensor._errors import SensorError
from attune_sensor._tls import client_context

_TIMEOUT: Final = aiohttp.ClientTimeout(total=15, sock_connect=5)

#: What to do about an answer, by its status (RFC 9110).
_ADVICE: Final[Mapping[int, str]] = {
    401: "Check the token that the client was given: it may have expired, or belong to another cluster.",
    403: "Ask for the right to create sensors/token (sensors.attune.dev) in the sensor's namespace.",
    404: "Check the address: it must be that of the Attune API, without a path.",
    409: "The sensor runs in the cluster and gets its token there; choose another ref for one outside.",
    422: "Correct the request.",
    503: "Try again in a moment.",
}


class TokenClientError(SensorError):
    """The API refused or did not answer.

    The text says why and what to do. ``status`` is the HTTP status, 0 without one.
    """

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorToken:
    """A minted token. It is left out of the representation, so that it does not get into a log."""

    identity_id: str
    sensor_ref: str
    token: str = field(repr=False)
    expires_at: datetime
    trigger_types: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiHealth:
    """Whether the API accepts events now, and its problems by part."""

    ready: bool
    problems: Mapping[str, str]


class _Minted(msgspec.Struct, frozen=True):
    identity_id: str
    sensor_ref: str
    token: str
    expires_at: datetime
    trigger_types: tuple[str, ...]


class _MintedAnswer(msgspec.Struct, frozen=True):
    data: _Minted


class TokenClient:
    """Talks to one API.

    Args:
        url: the API's address, like ``https://attune.example``.
        token: a Kubernetes token (``kubectl create token …``), or the API's admin token. Only :meth:`health_check`
            works without.
        ca_file: certificates (PEM) to trust beside the system's.
    """

    def __init__(self, url: str, *, token: str = "", ca_file: Path | None = None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._context = client_context(ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=4, ssl=self._context if self._context is not None else True)
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def create_sensor_token(
        self, sensor_ref: str, trigger_types: Sequence[str], *, ttl: timedelta = timedelta(hours=24)
    ) -> SensorToken:
        """A token for a sensor outside the cluster, valid for ``ttl`` (at most 72 hours).

        Args:
            sensor_ref: ``namespace/name``; the identity ``sensor:<ref>`` is created, or reused if it exists.
            trigger_types: the canonical names that the token may report.
            ttl: how long it is valid.

        Raises:
            TokenClientError: the API refused or could not be reached.
        """
        body = {
            "sensor_ref": sensor_ref,
            "trigger_types": list(trigger_types),
            "ttl_seconds": int(ttl.total_seconds()),
        }
        status, answer = await self._send("POST", "/auth/sensor-token", json=body)
        if status != 201:
            raise TokenClientError(self._refusal(status, answer), status=status)
        try:
            minted = msgspec.json.decode(answer, type=_MintedAnswer).data
        except msgspec.MsgspecError as error:
            raise TokenClientError(
                f"{self._url} answered something else than a token: {error}. {_ADVICE[404]}"
            ) from error
        return SensorToken(**{name: getattr(minted, name) for name in _Minted.__struct_fields__})

    async def health_check(self) -> ApiHealth:
        """Whether the API takes events now.

        Raises:
            TokenClientError: it could not be reached, or is no Attune API.
        """
        status, answer = await self._send("GET", "/ready")
        if status not in (200, 503):
            raise TokenClientError(self._refusal(status, answer), status=status)
        problems = _object(answer).get("problems") or {}
        return ApiHealth(ready=status == 200, problems={str(part): str(fault) for part, fault in problems.items()})

    async def _send(self, method: str, path: str, **options: Any) -> tuple[int, bytes]:
        if self._session is None:
            raise RuntimeError("use the client in an `async with` block")
        try:
            async with self._session.request(method, self._url + path, headers=self._headers, **options) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise TokenClientError(
                f"the Attune API at {self._url} cannot be reached: {reason}. Check the address, and that the API runs."
            ) from error

    def _refusal(self, status: int, answer: bytes) -> str:
        """The problem document's own words (RFC 9457), and what to do about it."""
        detail = str(_object(answer).get("detail") or "it gives no reason")
        return f"{self._url} answered {status}: {detail} {_ADVICE.get(status, '')}".rstrip()


def _object(answer: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(answer)
    except msgspec.MsgspecError:
        return {}
    return decoded if isinstance(decoded, dict) else {}
