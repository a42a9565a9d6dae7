"""The data of a scheme. A sender's preset (:mod:`attune_webhook.schemes.presets`) is made of these; it has no code of its own."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DEFAULT_TOLERANCE: Final = 300


class Encoding(StrEnum):
    """How a signature is written in its header."""

    HEX = "hex"
    BASE64 = "base64"


class Algorithm(StrEnum):
    """What makes a signature. All but the last are HMACs."""

    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"
    ED25519 = "ed25519"


class KeyFormat(StrEnum):
    """How the text of a secret becomes a key."""

    TEXT = "text"  #: the text itself
    BASE64 = "base64"
    HEX = "hex"
    WHSEC = "whsec"  #: Standard Webhooks: base64, with or without ``whsec_`` before it
    WHPK = "whpk"  #: Standard Webhooks: an Ed25519 public key in base64, with ``whpk_`` before it
    ED25519_HEX = "ed25519-hex"
    USER = "user:password"


class TimeUnit(StrEnum):
    """How the time of signing is written."""

    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"
    RFC3339 = "rfc3339"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature in a header.

    Attributes:
        source: where it is (:mod:`attune_webhook.schemes.sources`), like ``header:x-hub-signature-256``.
        prefix: what stands before it, like ``sha256=``. What does not begin so is no signature.
        separator: what is between several signatures and other parts of the header; empty when there is one.
        encoding: how it is written.
        algorithm: what makes it.
        signed: the template of what is signed (:mod:`attune_webhook.schemes.templates`).
        key: how a secret becomes the key.
        timestamp: where the time of signing is; None when nothing is signed but the content.
        time_unit: how it is written.
    """

    source: str
    prefix: str = ""
    separator: str = ""
    encoding: Encoding = Encoding.HEX
    algorithm: Algorithm = Algorithm.SHA256
    signed: str = "{body}"
    key: KeyFormat = KeyFormat.TEXT
    timestamp: str | None = None
    time_unit: TimeUnit = TimeUnit.SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """The secret itself, sent in a header or in the query.

    Attributes:
        source: where it is, like ``header:x-gitlab-token`` or ``query:access_token``.
        prefix: what stands before it, like ``Bearer``, whatever its case, and a blank.
        key: how the secret's text is read.
    """

    source: str
    prefix: str = ""
    key: KeyFormat = KeyFormat.TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic:
    """User and password as HTTP sends them (RFC 7617). The secret is ``user:password``."""

    key: KeyFormat = KeyFormat.USER


@dataclass(frozen=True, slots=True, kw_only=True)
class SnsCertificate:
    """Amazon SNS: RSA, with a certificate that the message names. There is no secret."""


Check = Signature | Token | Basic | SnsCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way in which a sender shows who it is; a secret belongs to the first whose prefixes it has.

    Attributes:
        checks: any of them lets a request in.
        secret_prefixes: how secrets of this variant begin; empty for all others.
    """

    checks: tuple[Check, ...]
    secret_prefixes: tuple[str, ...] = ()

    @property
    def key(self) -> KeyFormat:
        """How a secret becomes the key; the same for all checks."""
        check = self.checks[0]
        return KeyFormat.TEXT if isinstance(check, SnsCertificate) else check.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What is known about a sender.

    Attributes:
        name: the value of ``auth.type``.
        title: the sender's name.
        variants: how it shows who it is; empty when it does not.
        needs_secret: whether a rule must name secrets.
        ids: where its deliveries are named, the first that is there counts. Several sources in one entry count together.
        only_signed_ids: whether no other id counts, because these are part of what is signed.
        answer: the status that it takes for success.
        answer_body: whether the answer may have a body.
        handshake: how it asks whether the address is right; None when it does not.
        batch: whether an array of objects is one event each.
        parse_json: whether its bodies are JSON, whatever their content type.
        url_signed: whether the public URL is part of what is signed.
        tolerance: how old (seconds) a signed time may be, unless the rule says otherwise.
        note: what to know about its retries and its answers, for the documentation.
        source: where the sender says so; empty where no page of its own was found that does.
    """

    name: str
    title: str
    variants: tuple[Variant, ...] = ()
    needs_secret: bool = True
    ids: tuple[tuple[str, ...], ...] = ()
    only_signed_ids: bool = False
    answer: int = 202
    answer_body: bool = True
    handshake: str | None = None
    batch: bool = False
    parse_json: bool = False
    url_signed: bool = False
    tolerance: int = DEFAULT_TOLERANCE
    note: str = ""
    source: str = ""
