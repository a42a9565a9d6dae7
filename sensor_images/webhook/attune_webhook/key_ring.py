"""The keys of a rule's secrets as they are mounted now, and what is wrong with those that cannot be used."""

from attune_webhook.keys import UnusableSecretError, key_of
from attune_webhook.parameters import Auth
from attune_webhook.secret_files import SecretFiles


class KeyRing:
    """Derives keys from secrets.

    Args:
        files: where the secrets are mounted.
    """

    def __init__(self, files: SecretFiles) -> None:
        self._files = files

    def keys(self, auth: Auth) -> list[bytes]:
        """The keys that are valid now. A secret that is missing or cannot be a key gives none."""
        return [key for reference in auth.secrets if isinstance(key := self._key(auth, reference), bytes)]

    def problems(self, auth: Auth) -> list[str]:
        """What is wrong, one sentence part for each secret without a key, like ``hooks/github is not mounted``."""
        return [
            f"{reference} {problem}"
            for reference in auth.secrets
            if isinstance(problem := self._key(auth, reference), str)
        ]

    def _key(self, auth: Auth, reference: str) -> bytes | str:
        """The key, or what is wrong with the secret."""
        secret = self._files.read(reference)
        if secret is None:
            return "is not mounted"
        try:
            return key_of(auth.scheme, secret)
        except UnusableSecretError as error:
            return f"cannot be used: {error}"
