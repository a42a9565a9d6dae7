"""Has the NATS server read its certificate again when it was renewed, without a restart.

Level-triggered: the certificate that a new connection gets is compared with the one in the file. While they differ, every
server that answers is asked to reload its configuration (``$SYS.REQ.SERVER.ID.RELOAD``, by a user of the system account).
Connections stay. The kubelet brings the file to the server's pod up to two minutes later than the operator knows it, so
it is asked again until it serves it.
"""

import asyncio
import contextlib
import json
import random
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import nats.errors
import structlog

from attune_kit.backoff import Backoff
from attune_kit.nats.connection import NatsEndpoint, NatsUnavailableError, describe, open_connection
from attune_kit.tls import TlsError, client_context
from attune_operator.credentials.nats_servers import answers

_log = structlog.stdlib.get_logger(__name__)

_RETRY: Final = Backoff(initial=1.0, maximum=15.0)
#: Seconds between two comparisons.
INTERVAL: Final = 60.0
_TIMEOUT: Final = 5.0
#: Seconds in which all servers of a cluster answer.
_ANSWERS: Final = 0.5
_DEFAULT_PORT: Final = 4222


class CertificateReload:
    """Compares and asks.

    Args:
        endpoint: the NATS server, with a user of the system account.
        certificate_file: the certificate that it should serve (PEM; the first of a chain is compared).
    """

    def __init__(self, *, endpoint: NatsEndpoint, certificate_file: Path) -> None:
        self._endpoint = endpoint
        self._file = certificate_file

    async def run(self) -> None:
        """Compare until cancelled."""
        retries = _RETRY.start(chance=random.random)
        while True:
            try:
                differs = await self._differs()
                if differs:
                    await self._reload()
            except (NatsUnavailableError, TlsError, nats.errors.Error, TimeoutError, OSError, ValueError) as error:
                said = str(error) if isinstance(error, (NatsUnavailableError, TlsError)) else describe(error)
                _log.warning("nats_certificate_not_compared", error=said)
                differs = True
            if not differs:
                retries.reset()
            await asyncio.sleep(retries.next_delay() if differs else INTERVAL)

    async def _differs(self) -> bool:
        wanted = await asyncio.to_thread(_first_certificate, self._file)
        context = client_context(self._endpoint.ca_file) or ssl.create_default_context()
        return await served_certificate(self._endpoint, context) != wanted

    async def _reload(self) -> None:
        async with open_connection(self._endpoint) as connection:
            for said in await answers(connection, "$SYS.REQ.SERVER.PING", within=_ANSWERS):
                server = json.loads(said)["server"]["id"]
                answer = await connection.client.request(f"$SYS.REQ.SERVER.{server}.RELOAD", b"", timeout=_TIMEOUT)
                error = (json.loads(answer.data).get("error") or {}).get("description")
                if error:
                    _log.warning("nats_not_reloaded", server=server, error=error)
                else:
                    _log.info("nats_reloaded", server=server, why="its certificate was renewed")


async def served_certificate(endpoint: NatsEndpoint, context: ssl.SSLContext) -> bytes:
    """The certificate that a new connection to NATS gets (DER).

    Raises:
        OSError: the server is not reached, or its certificate not trusted (``ssl.SSLError``).
        TimeoutError: it did not answer in time.
    """
    url = urlsplit(endpoint.servers[0])
    async with asyncio.timeout(_TIMEOUT):
        reader, writer = await asyncio.open_connection(url.hostname, url.port or _DEFAULT_PORT)
        try:
            await reader.readline()  # INFO, after which the server expects TLS
            await writer.start_tls(context, server_hostname=url.hostname)
            served: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return served
        finally:
            writer.transport.abort()  # there is nothing more to say
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _first_certificate(path: Path) -> bytes:
    """Raises OSError or ValueError when the file holds none."""
    text = path.read_text(encoding="ascii")
    end = "-----END CERTIFICATE-----"
    if end not in text:
        raise ValueError(f"{path} holds no certificate")
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)] + "\n")
