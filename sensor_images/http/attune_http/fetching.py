"""Asks an address: bounded in time and size, with the addresses that are connected to checked after DNS."""

import asyncio
import ssl
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import aiohttp
import msgspec
import yarl

from attune_http.config import Config, Server, origin_of
from attune_http.pace import wait_of
from attune_http.targets import allowed_networks, onward
from attune_kit.addresses import AddressRules
from attune_kit.guarded_socket import guarded
from attune_sensor import SourceError

_AGENT: Final = "attune-http"
_CONNECT: Final = 5.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ACCEPT: Final = "application/json, application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.5"
#: Characters of what the server says that are in a message.
_SHOWN: Final = 200


class FetchError(SourceError):
    """There is no answer that can be used.

    Attributes:
        wait: seconds that the answer asks to wait.
    """

    def __init__(self, why: str, *, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer.

    Attributes:
        body: the content, decoded; None when it is as it was (304).
        etag, modified: its validators; empty without one.
    """

    body: bytes | None
    etag: str = ""
    modified: str = ""


class Fetcher:
    """Asks one address.

    Args:
        url: the address.
        server: the server in the configuration, if the rule names one.
        config: what the Sensor allows.
        tls: whom to trust.
        timeout: seconds for each request, with its redirects.
    """

    def __init__(
        self, url: str, *, server: Server | None, config: Config, tls: ssl.SSLContext | None, timeout: float
    ) -> None:
        self._url = yarl.URL(url, encoded=url.isascii())
        self._server = server
        self._config = config
        self._tls = tls
        self._timeout = timeout
        written = list(config.hosts) if server is None else [server.url, *server.redirects]
        self._addresses = AddressRules(allowed=allowed_networks(written))
        self._refused: str | None = None
        self._session: aiohttp.ClientSession | None = None

    async def get(self, headers: Mapping[str, str], credentials: Mapping[str, str], known: Answer) -> Answer:
        """What is there now.

        Args:
            headers: of the rule.
            credentials: of the server: headers that go nowhere else.
            known: the validators of what is known already.

        Raises:
            FetchError: there is no answer that can be used.
        """
        self._refused = None
        try:
            async with asyncio.timeout(self._timeout):
                return await self._get(headers, credentials, known)
        except TimeoutError:
            raise FetchError(f"it did not answer within {self._timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise FetchError(self._refused or str(error) or type(error).__name__) from None
        except zlib.error as error:
            raise FetchError(f"the answer is not the gzip that it says it is: {error}") from None
        except ValueError as error:  # its text might hold a header's value
            raise FetchError(f"the request cannot be sent ({type(error).__name__})") from None

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _get(self, headers: Mapping[str, str], credentials: Mapping[str, str], known: Answer) -> Answer:
        url, hops = self._url, 0
        while True:
            home = origin_of(url) == origin_of(self._url)
            sent = {"Accept": _ACCEPT, "Accept-Encoding": "gzip", "User-Agent": _AGENT}
            if home:
                sent |= {**_validators(known), **headers, **credentials}
            async with self._opened().get(url, headers=sent, allow_redirects=False) as answer:
                if answer.status not in _REDIRECTS:
                    return await self._read(answer)
                location = answer.headers.get("Location")
                to = onward(url, location, server=self._server, hosts=self._config.hosts, hops=hops)
            if to is None:
                where = "spec.config.hosts" if self._server is None else "redirects of the server"
                raise FetchError(
                    f"it redirects to {str(location)[:_SHOWN]}, where it is not followed: see {where} in the Sensor"
                )
            url, hops = to, hops + 1

    async def _read(self, answer: aiohttp.ClientResponse) -> Answer:
        etag, modified = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
        if answer.status == 304:
            return Answer(body=None, etag=etag, modified=modified)
        if answer.status != 200:
            wait = wait_of(answer.headers.get("Retry-After"), now=datetime.now(UTC))
            raise FetchError(f"it answers {answer.status} {(answer.reason or '')[:_SHOWN]}".strip(), wait=wait)
        return Answer(body=await self._content(answer), etag=etag, modified=modified)

    async def _content(self, answer: aiohttp.ClientResponse) -> bytes:
        """The content, decoded, of which never more than is allowed comes into memory."""
        encoding = answer.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise FetchError(f"it answers in the encoding {encoding[:_SHOWN]}, which it was not asked for")
        unzip = None if encoding == "identity" else zlib.decompressobj(wbits=31)
        most = self._config.largest
        found = bytearray()
        async for chunk in answer.content.iter_any():
            found += chunk if unzip is None else unzip.decompress(chunk, most + 1 - len(found))
            if len(found) > most:
                answer.close()
                raise FetchError(f"it answers with more than {most} bytes (spec.config.maxBytes of the Sensor)")
        if unzip is not None and not unzip.eof:
            raise FetchError("the answer ends too early")
        return bytes(found)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=1,
                socket_factory=guarded(self._addresses, on_refused=self._refuse),
                ssl=self._tls or True,
                happy_eyeballs_delay=None,
                keepalive_timeout=15,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    def _refuse(self, why: str) -> None:
        self._refused = why


def _validators(known: Answer) -> dict[str, str]:
    """Headers that ask for an answer only if there is another one."""
    found = {}
    if known.etag:
        found["If-None-Match"] = known.etag
    if known.modified:
        found["If-Modified-Since"] = known.modified
    return found
