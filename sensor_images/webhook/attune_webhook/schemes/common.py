"""What several presets share."""

from typing import Any, Final

from attune_webhook.schemes.model import Algorithm, Encoding, KeyFormat, Signature, Token, Variant

BEARER: Final = Token(source="header:authorization", prefix="Bearer")
ACCESS_TOKEN: Final = Token(source="query:access_token")


def _standard(names: str, *, symmetric: bool) -> Signature:
    return Signature(
        source=f"header:{names}-signature",
        prefix="v1," if symmetric else "v1a,",
        separator=" ",
        encoding=Encoding.BASE64,
        algorithm=Algorithm.SHA256 if symmetric else Algorithm.ED25519,
        signed=f"{{header:{names}-id}}.{{timestamp}}.{{body}}",
        key=KeyFormat.WHSEC if symmetric else KeyFormat.WHPK,
        timestamp=f"header:{names}-timestamp",
    )


STANDARD_HMAC: Final = (_standard("webhook", symmetric=True), _standard("svix", symmetric=True))
STANDARD_ED25519: Final = (_standard("webhook", symmetric=False), _standard("svix", symmetric=False))


def hmac_in(source: str, prefix: str = "", **changes: Any) -> tuple[Variant, ...]:
    """One variant with one signature, in this header."""
    return (Variant(checks=(Signature(source=f"header:{source}", prefix=prefix, **changes),)),)
