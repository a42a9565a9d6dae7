"""The API's own certificate, which is read again when it is renewed."""

import asyncio
import ssl
from pathlib import Path
from typing import Final

import structlog

log = structlog.stdlib.get_logger(__name__)

#: Seconds between two looks at the certificate's files. Kubelet takes longer than that to bring a renewed one.
_LOOK: Final = 10.0


def _signature(*files: Path) -> tuple[tuple[int, int], ...]:
    return tuple((stat.st_mtime_ns, stat.st_ino) for stat in (file.stat() for file in files))


def server_context(*, certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's side of TLS 1.2 and later, with a certificate.

    Raises:
        OSError: a file cannot be read, or the key is not the certificate's (``ssl.SSLError``).
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def renew_certificate(context: ssl.SSLContext, *, certificate: Path, key: Path, every: float = _LOOK) -> None:
    """Load the certificate into ``context`` again whenever its files change, until cancelled.

    Connections that are open keep the one they began with. A certificate that cannot be read leaves the old one in force.
    """
    seen = _signature(certificate, key)
    while True:
        await asyncio.sleep(every)
        try:
            found = _signature(certificate, key)
            if found == seen:
                continue
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            log.warning("certificate_not_read", file=str(certificate), error=str(error))
            continue
        seen = found
        log.info("certificate_renewed", file=str(certificate))
