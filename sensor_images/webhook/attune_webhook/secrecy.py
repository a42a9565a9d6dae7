"""Which headers and query parameters hold secrets. More people read events than may know a secret, so these are never stored.

What counts, whatever its case and without its ``-``, ``_`` and dots: a name that contains one of :data:`WORDS`, or that is one of
:data:`NAMES`.
"""

from typing import Final

#: Parts of names.
WORDS: Final = (
    "apikey",
    "authoriz",
    "bearer",
    "cookie",
    "credential",
    "hmac",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "signature",
    "token",
    "verifykey",
)
#: Whole names.
NAMES: Final = frozenset({"accesskey", "auth", "code", "key", "pwd", "sharedkey", "sig", "xauth"})


def holds_secret(name: str) -> bool:
    """Whether what is sent under this name is a secret, or as good as one."""
    plain = name.lower().replace("-", "").replace("_", "").replace(".", "")
    return plain in NAMES or any(word in plain for word in WORDS)
