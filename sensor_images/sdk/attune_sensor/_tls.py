"""TLS contexts for the SDK's HTTP clients."""

import ssl
from pathlib import Path

from attune_kit import tls
from attune_sensor._errors import SettingsError


def client_context(ca_file: Path | None) -> ssl.SSLContext | None:
    """A context that trusts the system's certificates and those in a file (PEM); None without a file.

    Raises:
        SettingsError: the file cannot be read or holds no certificate.
    """
    try:
        return tls.client_context(ca_file, system=True)
    except tls.TlsError as error:
        raise SettingsError(f"{error} (ATTUNE_CA_FILE)") from error
