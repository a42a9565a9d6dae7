"""Who may send: the rule's parameter ``auth``, and what it takes to check it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from attune_sensor import InvalidRuleError
from attune_webhook.parameter_types import choice, header_name, known_fields, text, whole_number
from attune_webhook.schemes.model import (
    DEFAULT_TOLERANCE,
    Algorithm,
    Encoding,
    KeyFormat,
    Preset,
    Signature,
    SnsCertificate,
    TimeUnit,
    Token,
    Variant,
)
from attune_webhook.schemes.presets import PRESETS
from attune_webhook.schemes.signatures import Checker, checker_of
from attune_webhook.schemes.sources import reader_of
from attune_webhook.schemes.templates import Template

LARGEST_TOLERANCE: Final = 86_400
MOST_SECRETS: Final = 8
MOST_TOPICS: Final = 32
#: Types that a rule describes itself.
GENERIC: Final = ("hmac", "header")
TYPES: Final = (*PRESETS, *GENERIC)

_WHERE: Final = "parameters.auth"
_SECRET: Final = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/(?!\.\.)[-._a-zA-Z0-9]{1,253}"
)
_URL: Final = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?")
_TOPIC: Final = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]{1,256}")
_COMMON: Final = frozenset({"type", "secrets", "toleranceSeconds"})
_HMAC_FIELDS: Final = frozenset(
    {"header", "prefix", "separator", "encoding", "algorithm", "signed", "key", "timestamp", "timestampUnit"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """Who may send.

    Attributes:
        preset: what is known about the sender.
        secrets: references, ``name/key``.
        tolerance: how old (seconds) a signed time may be.
        public_url: what stands before the path in the URL that the sender was given; None: https and the Host header.
        topics: Amazon SNS: the topics whose messages are accepted.
        verify_token: Meta: the reference of the verify token.
    """

    preset: Preset
    secrets: tuple[str, ...] = ()
    tolerance: int = DEFAULT_TOLERANCE
    public_url: str | None = None
    topics: tuple[str, ...] = ()
    verify_token: str | None = None

    #: What checks requests, for each variant of the sender's scheme.
    checkers: tuple[tuple[Checker, ...], ...] = field(init=False, compare=False, repr=False)
    #: Whether the sender signs with a certificate (Amazon SNS).
    by_certificate: bool = field(init=False, compare=False)
    #: Whether a request can be judged only with its body.
    needs_body: bool = field(init=False, compare=False)
    #: Whether every request is accepted.
    open: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        variants = self.preset.variants
        checkers = _checkers(variants)
        by_certificate = any(isinstance(check, SnsCertificate) for variant in variants for check in variant.checks)
        derived = {
            "checkers": checkers,
            "by_certificate": by_certificate,
            "needs_body": by_certificate or any(each.needs_body for several in checkers for each in several),
            "open": not variants,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)  # the class is frozen


@lru_cache(maxsize=1024)
def _checkers(variants: tuple[Variant, ...]) -> tuple[tuple[Checker, ...], ...]:
    return tuple(
        tuple(checker_of(check) for check in variant.checks if not isinstance(check, SnsCertificate))
        for variant in variants
    )


def auth_of(value: Any) -> Auth:
    """Read the parameter.

    Raises:
        InvalidRuleError: it cannot be used.
    """
    if not isinstance(value, dict) or value.get("type") not in TYPES:
        raise InvalidRuleError(f"{_WHERE}.type: expected one of: {', '.join(TYPES)}; none accepts every request")
    kind = value["type"]
    preset = PRESETS.get(kind)
    fields = set(_COMMON)
    if preset is None:
        fields |= _HMAC_FIELDS if kind == "hmac" else {"header", "prefix"}
        preset = _hmac(value) if kind == "hmac" else _header(value)
    if preset.url_signed or kind == "hmac":
        fields.add("publicUrl")
    fields |= {"sns": {"topics"}, "meta": {"verifyToken"}}.get(kind, set())
    known_fields(value, frozenset(fields), _WHERE)
    return Auth(
        preset=preset,
        secrets=_secrets(value.get("secrets"), preset),
        tolerance=whole_number(
            value.get("toleranceSeconds", preset.tolerance), f"{_WHERE}.toleranceSeconds", 1, LARGEST_TOLERANCE
        ),
        public_url=_public_url(value.get("publicUrl")),
        topics=_topics(value.get("topics")) if kind == "sns" else (),
        verify_token=_verify_token(value.get("verifyToken")) if kind == "meta" else None,
    )


def _secrets(value: Any, preset: Preset) -> tuple[str, ...]:
    if not preset.needs_secret:
        if value:
            raise InvalidRuleError(
                f"{_WHERE}.secrets: type {preset.name} uses no secrets; remove them, or choose another type"
            )
        return ()
    if (
        not isinstance(value, list)
        or not 1 <= len(value) <= MOST_SECRETS
        or not all(isinstance(each, str) and _SECRET.fullmatch(each) for each in value)
    ):
        raise InvalidRuleError(
            f"{_WHERE}.secrets: expected 1 to {MOST_SECRETS} keys of the Secrets that the Sensor lists in spec.secrets, "
            f"like hooks/github; got {value!r}"
        )
    return tuple(value)


def _public_url(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _URL.fullmatch(value):
        raise InvalidRuleError(f"{_WHERE}.publicUrl: expected a URL like https://hooks.example.org; got {value!r}")
    return value.rstrip("/")


def _topics(value: Any) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not 1 <= len(value) <= MOST_TOPICS
        or not all(isinstance(each, str) and _TOPIC.fullmatch(each) for each in value)
    ):
        raise InvalidRuleError(f"{_WHERE}.topics: expected 1 to {MOST_TOPICS} ARNs of SNS topics; got {value!r}")
    return tuple(value)


def _verify_token(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _SECRET.fullmatch(value):
        raise InvalidRuleError(f"{_WHERE}.verifyToken: expected the key of a Secret, like hooks/meta; got {value!r}")
    return value


def _header(value: Mapping[str, Any]) -> Preset:
    token = Token(
        source=f"header:{header_name(value.get('header'), f'{_WHERE}.header')}",
        prefix=text(value.get("prefix", ""), f"{_WHERE}.prefix", 32).strip(),
    )
    return Preset(name="header", title="any sender with a token in a header", variants=(Variant(checks=(token,)),))


def _hmac(value: Mapping[str, Any]) -> Preset:
    signature = Signature(
        source=f"header:{header_name(value.get('header'), f'{_WHERE}.header')}",
        prefix=text(value.get("prefix", ""), f"{_WHERE}.prefix", 32),
        separator=text(value.get("separator", ""), f"{_WHERE}.separator", 1),
        encoding=choice(value.get("encoding", "hex"), f"{_WHERE}.encoding", Encoding),
        algorithm=choice(
            value.get("algorithm", "sha256"),
            f"{_WHERE}.algorithm",
            Algorithm,
            among=("sha1", "sha256", "sha384", "sha512"),
        ),
        signed=text(value.get("signed", "{body}"), f"{_WHERE}.signed", 256),
        key=choice(value.get("key", "text"), f"{_WHERE}.key", KeyFormat, among=("text", "base64", "hex", "whsec")),
        timestamp=None if value.get("timestamp") is None else text(value["timestamp"], f"{_WHERE}.timestamp", 160),
        time_unit=choice(value.get("timestampUnit", "seconds"), f"{_WHERE}.timestampUnit", TimeUnit),
    )
    _usable(signature)
    return Preset(
        name="hmac",
        title="any sender that signs with HMAC",
        variants=(Variant(checks=(signature,)),),
        url_signed="{url" in signature.signed,
    )


def _usable(signature: Signature) -> None:
    try:
        template = Template(signature.signed)
        if signature.timestamp is not None:
            reader_of(signature.timestamp)
    except ValueError as error:
        raise InvalidRuleError(f"{_WHERE}: {error}") from None
    if not template.covers_body:
        raise InvalidRuleError(f"{_WHERE}.signed: expected {{body}} or {{form}} in it, else the body could be anything")
    if "{timestamp}" in signature.signed and signature.timestamp is None:
        raise InvalidRuleError(
            f"{_WHERE}.timestamp: {{timestamp}} is signed, so say where it is, like header:X-Timestamp"
        )
    unsigned_time = signature.timestamp is not None and "{timestamp}" not in signature.signed
    if unsigned_time and not str(signature.timestamp).startswith("field:"):
        raise InvalidRuleError(f"{_WHERE}.signed: the timestamp must be signed, so expected {{timestamp}} in it")
