"""The keys of a rule's secrets as they are mounted now, and what is wrong with those that cannot be used."""

from typing import Final

from attune_kit.secret_files import SecretFiles
from attune_webhook.auth import Auth
from attune_webhook.schemes.keys import UnusableSecretError, key_of
from attune_webhook.schemes.model import Variant

_MOST_DERIVED: Final = 10_000


class KeyRing:
    """Derives keys from secrets.

    Args:
        files: where the secrets are mounted.
    """

    def __init__(self, files: SecretFiles) -> None:
        self._files = files
        self._derived: dict[tuple[int, bytes], tuple[tuple[Variant, ...], tuple[int, bytes] | str]] = {}

    def keys(self, auth: Auth) -> list[list[bytes]]:
        """The keys that are valid now, for each variant of the sender's scheme.

        A secret that is missing or cannot be a key gives none.
        """
        found: list[list[bytes]] = [[] for _ in auth.preset.variants]
        for reference in auth.secrets:
            key = self._key(auth, reference)
            if not isinstance(key, str):
                found[key[0]].append(key[1])
        return found

    def verify_tokens(self, auth: Auth) -> list[bytes]:
        """Meta: what ``hub.verify_token`` must be. Without a secret of its own, it is one of the secrets."""
        references = auth.secrets if auth.verify_token is None else (auth.verify_token,)
        return [secret for reference in references if (secret := self._files.read(reference)) is not None]

    def problems(self, auth: Auth) -> list[str]:
        """What is wrong, one part of a sentence for each secret without a key, like ``hooks/github is not mounted``."""
        found = [
            f"{reference} {problem}"
            for reference in auth.secrets
            if isinstance(problem := self._key(auth, reference), str)
        ]
        if auth.verify_token is not None and self._files.read(auth.verify_token) is None:
            found.append(f"{auth.verify_token} is not mounted")
        return found

    def _key(self, auth: Auth, reference: str) -> tuple[int, bytes] | str:
        """The variant and the key, or what is wrong with the secret."""
        secret = self._files.read(reference)
        if secret is None:
            return "is not mounted"
        variants = auth.preset.variants
        found = self._derived.get((id(variants), secret))
        if found is None:
            if len(self._derived) >= _MOST_DERIVED:
                self._derived.clear()
            # The variants are kept with the key, so that their identity is not given to others.
            found = self._derived[id(variants), secret] = (variants, _derive(variants, secret))
        return found[1]


def _derive(variants: tuple[Variant, ...], secret: bytes) -> tuple[int, bytes] | str:
    try:
        return key_of(variants, secret)
    except UnusableSecretError as error:
        return f"cannot be used: {error}"
