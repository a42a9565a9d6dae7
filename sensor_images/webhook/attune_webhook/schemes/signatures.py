"""Checks signatures and tokens: pure functions of a request, the keys and the time.

Every comparison takes the same time wherever the two differ, and all keys are tried, so the delay of an answer says nothing.
"""

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from attune_webhook.http.request import Request
from attune_webhook.schemes import ed25519
from attune_webhook.schemes.model import Algorithm, Basic, Check, Encoding, Signature, SnsCertificate, TimeUnit, Token
from attune_webhook.schemes.sources import reader_of
from attune_webhook.schemes.templates import Template

#: Signatures that are looked at in one header; senders put two there while they rotate keys.
_MOST_SIGNATURES: Final = 16


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request is refused: a word for metrics and a sentence for the log. Senders do not learn which it was.

    ``kind`` is ``unsigned`` (nothing to check), ``signature`` (it is not right) or ``expired`` (it is right, but too old).
    """

    kind: str
    sentence: str


class Checker(Protocol):
    """Checks requests in one way."""

    #: Whether it needs the body; a token can be judged without.
    needs_body: bool

    def __call__(
        self, request: Request, keys: Sequence[bytes], *, now: float, tolerance: int, url: str
    ) -> Refused | None:
        """Whether the request may pass; None when it may.

        Args:
            request: the request.
            keys: those that are valid now, in the check's key format.
            now: Unix time in seconds.
            tolerance: how old (seconds) a signed time may be.
            url: the public URL of the request.
        """
        ...


def checker_of(check: Check) -> Checker:
    """What carries a check out.

    Raises:
        ValueError: its template or its source cannot be used.
    """
    match check:
        case Signature():
            return SignatureChecker(check)
        case Token():
            return TokenChecker(check)
        case Basic():
            return BasicChecker()
        case SnsCertificate():
            raise ValueError("Amazon SNS is checked by attune_webhook.sns")


class TokenChecker:
    """The secret itself is sent."""

    needs_body = False

    def __init__(self, check: Token) -> None:
        self._read = reader_of(check.source)
        self._prefix = check.prefix.lower()
        self._what = f"no token in {check.source.partition(':')[2]}"

    def __call__(
        self, request: Request, keys: Sequence[bytes], *, now: float, tolerance: int, url: str
    ) -> Refused | None:
        """As :class:`Checker`."""
        text = self._read(request, {}) or ""
        if self._prefix:
            prefix, _, text = text.partition(" ")
            if prefix.lower() != self._prefix:
                text = ""
            text = text.strip()
        if not text:
            return Refused("unsigned", self._what)
        if not _any_equal([text.encode("utf-8", "surrogateescape")], keys):
            return Refused("signature", "the token is none of the secrets")
        return None


class BasicChecker:
    """User and password (RFC 7617)."""

    needs_body = False

    def __call__(
        self, request: Request, keys: Sequence[bytes], *, now: float, tolerance: int, url: str
    ) -> Refused | None:
        """As :class:`Checker`."""
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        given = from_base64(text.strip()) if scheme.lower() == "basic" else b""
        if not given:
            return Refused("unsigned", "no user and password in Authorization")
        if not _any_equal([given], keys):
            return Refused("signature", "the user and password are none of the secrets")
        return None


class SignatureChecker:
    """A signature over a template."""

    needs_body = True

    def __init__(self, check: Signature) -> None:
        self._check = check
        self._read = reader_of(check.source)
        self._template = Template(check.signed)
        self._timestamp = None if check.timestamp is None else reader_of(check.timestamp)
        self._decode: Callable[[str], bytes] = from_hex if check.encoding is Encoding.HEX else from_base64
        self._unsigned = Refused("unsigned", f"no {check.source.partition(':')[2]}: {check.prefix}…")

    def __call__(
        self, request: Request, keys: Sequence[bytes], *, now: float, tolerance: int, url: str
    ) -> Refused | None:
        """As :class:`Checker`."""
        given, parts = self._given(self._read(request, {}) or "")
        timestamp = None if self._timestamp is None else self._timestamp(request, parts)
        if not given or (self._timestamp is not None and timestamp is None):
            return self._unsigned
        message = self._template.render(request, parts=parts, timestamp=timestamp or "", url=url)
        if message is None:
            return Refused("unsigned", f"something that is signed is missing: {self._check.signed}")
        if not self._matches(given, keys, message):
            return Refused("signature", "the signature does not match")
        # The time is judged only for senders who know a key.
        return None if timestamp is None else in_time(timestamp, self._check.time_unit, tolerance, now)

    def _given(self, text: str) -> tuple[list[bytes], Mapping[str, str]]:
        """The signatures in the header, and its other parts by name."""
        prefix, separator = self._check.prefix, self._check.separator
        if not separator:
            return ([self._decode(text[len(prefix) :])] if text.startswith(prefix) and text != prefix else []), {}
        given: list[bytes] = []
        parts: dict[str, str] = {}
        for item in text.split(separator):
            element = item.strip()
            if element.startswith(prefix) and element != prefix:
                if len(given) < _MOST_SIGNATURES:
                    given.append(self._decode(element[len(prefix) :]))
            else:
                name, _, value = element.partition("=")
                parts.setdefault(name, value)
        return given, parts

    def _matches(self, given: Iterable[bytes], keys: Sequence[bytes], message: bytes) -> bool:
        algorithm = self._check.algorithm
        if algorithm is Algorithm.ED25519:
            return any(ed25519.verifies(key, one, message) for one in given for key in keys)
        return _any_equal(given, [hmac.digest(key, message, algorithm.value) for key in keys])


def in_time(text: str, unit: TimeUnit, tolerance: int, now: float) -> Refused | None:
    """Whether a signed time is near enough to now; None when it is."""
    signed = _seconds(text, unit)
    if signed is None:
        return Refused("expired", f"the signed time is not a time in {unit}")
    if abs(now - signed) > tolerance:
        return Refused("expired", f"it was signed {now - signed:.0f} s ago; at most {tolerance} are tolerated")
    return None


def _seconds(text: str, unit: TimeUnit) -> float | None:
    if unit is TimeUnit.RFC3339:
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            return None
        return None if time.tzinfo is None else time.timestamp()
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        return None
    return int(text) if unit is TimeUnit.SECONDS else int(text) / 1000


def _any_equal(given: Iterable[bytes], expected: Sequence[bytes]) -> bool:
    found = False
    for one in given:
        for other in expected:
            found |= hmac.compare_digest(one, other)
    return found


def from_hex(text: str) -> bytes:
    """Hexadecimal digits as bytes; none for anything else."""
    try:
        return bytes.fromhex(text) if text.isalnum() else b""
    except ValueError:
        return b""


def from_base64(text: str) -> bytes:
    """Standard base64 as bytes; none for anything else."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
