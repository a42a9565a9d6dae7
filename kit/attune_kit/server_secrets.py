"""Secrets that the servers of a Sensor (``spec.config.servers``, decision 96) refer to: what sensors of brokers share."""

import ssl
from pathlib import Path

from attune_kit.secret_files import SecretFiles
from attune_kit.servers import place_of
from attune_kit.tls import client_context


class ServerSecrets:
    """Gives what a server's fields refer to; None for a field that is not set.

    Args:
        directory: where the Sensor's secrets are mounted; None when it was given none.
    """

    def __init__(self, directory: Path | None) -> None:
        self._files = SecretFiles(directory)

    def text(self, server: str, field: str, reference: str | None) -> str | None:
        """A secret, like a password.

        Args:
            server: the server's name.
            field: the field that refers to it.
            reference: what the field says.

        Raises:
            MissingSecretError: it is not mounted.
        """
        return None if reference is None else self._files.require(reference, where=place_of(server, field)).decode()

    def file(self, server: str, field: str, reference: str | None) -> Path | None:
        """The file of a secret, for libraries that read it themselves.

        Args:
            server: the server's name.
            field: the field that refers to it.
            reference: what the field says.

        Raises:
            MissingSecretError: it is not mounted.
        """
        return None if reference is None else self._files.path(reference, where=place_of(server, field))

    def tls(self, server: str, ca: str | None) -> ssl.SSLContext:
        """A context that trusts the server's authority; those of the image without one.

        Args:
            server: the server's name.
            ca: what its field ``ca`` says.

        Raises:
            MissingSecretError: the authority is not mounted.
            TlsError: its file holds no certificate.
        """
        return client_context(self.file(server, "ca", ca)) or ssl.create_default_context()
