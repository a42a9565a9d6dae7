"""Whom to trust in TLS."""

import ssl
from pathlib import Path

from attune_sensor.errors import SettingsError


def client_context(ca_file: Path | None) -> ssl.SSLContext | None:
    """A context that trusts the system's certificates and those in ``ca_file`` (PEM); None, for the library's own, without.

    Raises:
        SettingsError: the file cannot be read or holds no certificate.
    """
    if ca_file is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"cannot read certificates from {ca_file} (ATTUNE_CA_FILE): {error}") from error
    return context
