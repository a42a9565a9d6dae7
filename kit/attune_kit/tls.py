"""TLS contexts for clients."""

import ssl
from pathlib import Path


class TlsError(ValueError):
    """Certificates cannot be used. The text names the file and the reason."""


def client_context(ca_file: Path | None, *, system: bool = False) -> ssl.SSLContext | None:
    """A context that trusts the certificates in a file; None, which leaves the choice to the library, without a file.

    Args:
        ca_file: certificates (PEM), or None.
        system: trust the system's certificates too.

    Raises:
        TlsError: the file cannot be read or holds no certificate.
    """
    if ca_file is None:
        return None
    try:
        if not system:
            return ssl.create_default_context(cafile=str(ca_file))
        context = ssl.create_default_context()
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"cannot read the certificates in {ca_file}: {error}") from error
    return context
