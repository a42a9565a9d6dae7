"""NATS credentials: a user JWT and the seed of its key, as they stand in a ``.creds`` file."""

import base64
import re
from dataclasses import dataclass
from typing import Final

_JWT: Final = re.compile(rb"-----BEGIN NATS USER JWT-----\s+([!-~]+)\s+-+END NATS USER JWT-+")
_SEED: Final = re.compile(rb"-----BEGIN USER NKEY SEED-----\s+([!-~]+)\s+-+END USER NKEY SEED-+")


@dataclass(frozen=True, slots=True)
class NatsCredentials:
    """A NATS user JWT and the seed of the key that it was issued for."""

    jwt: bytes
    seed: bytes

    def __repr__(self) -> str:
        return "NatsCredentials(***)"

    def sign(self, nonce: str) -> bytes:
        """The server's nonce, signed with the seed (base64).

        Raises:
            ValueError: the seed is not valid. The text does not contain it.
        """
        import nkeys  # here, because only clients with NATS credentials pay for libsodium's memory

        try:
            pair = nkeys.from_seed(bytearray(self.seed))
            signature = base64.b64encode(pair.sign(nonce.encode()))
            pair.wipe()
        except Exception as error:
            raise ValueError(f"the seed in the NATS credentials is not valid ({type(error).__name__})") from None
        return signature


def parse_nats_credentials(content: bytes) -> NatsCredentials:
    """Read a ``.creds`` file.

    nats-py's own reader loops forever on a file without the expected lines, which would stop the whole program.

    Raises:
        ValueError: the user JWT or the seed is missing.
    """
    jwt, seed = _JWT.search(content), _SEED.search(content)
    if jwt is None or seed is None:
        raise ValueError("the file holds no NATS credentials (a user JWT and an nkey seed)")
    return NatsCredentials(jwt.group(1), seed.group(1))
