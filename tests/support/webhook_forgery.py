"""Forged requests: valid ones that were changed, and ones signed with keys that a stranger may guess from an odd secret."""

import base64
import contextlib
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qsl

import standardwebhooks
from support import webhook_sns
from support.webhook_cases import CASES
from support.webhook_requests import Sender
from support.webhook_senders import JSON, Case, Delivery, Signed, base64_hmac, data

from attune_webhook.secrecy import holds_secret
from attune_webhook.sns import SnsMessages

NOW = 1_800_000_000
#: Headers that hold a signature and whose names do not say so.
_SIGNATURES = {"x-trello-webhook", "x-sig", "x-signature-ed25519", "x-token"}
#: Headers whose names suggest more than they hold.
_NAMES_ONLY = {"i-twilio-idempotency-token"}
_CORE = re.compile(r"[A-Za-z0-9+/._-]{8,}")
_DIGITS = "0123456789abcdef"
#: Requests that are made with one secret.
_EACH = 12


def sender_of(case: Case, secret: bytes) -> Sender:
    secrets = [secret] if case.type != "sns" else []
    return Sender({"type": case.type, **case.auth}, secrets, sns=SnsMessages(fetch=webhook_sns.fetch))


def accepted(sender: Sender, signed: Signed) -> bool:
    return sender.accepts(signed.request(parse_json=sender.hook().parse_json), now=NOW)


def delivery(rng: random.Random) -> Delivery:
    text = "".join(rng.choices('xyz"\\\u00e9\u4e2d {}', k=rng.randint(1, 40)))
    return Delivery(f"d-{rng.getrandbits(64):x}", NOW + rng.randint(-200, 200), f"x{text}")


# -- changed requests ----------------------------------------------------------------------------------------------------


def changed(rng: random.Random, case: Case, signed: Signed, other: Signed) -> Iterator[tuple[str, Signed]]:
    """Requests that differ from a valid one in something that is signed, or in the signature.

    Args:
        rng: random numbers.
        case: the sender.
        signed: a valid request.
        other: the same delivery, signed with another secret.
    """
    for name, value in signed.headers.items():
        if name.lower() in _NAMES_ONLY or not (holds_secret(name) or name.lower() in _SIGNATURES):
            continue
        for kind, text in _changed_text(rng, value):
            yield f"header: {kind}", replace(signed, headers={**signed.headers, name: text})
        yield (
            "header: missing",
            replace(signed, headers={each: text for each, text in signed.headers.items() if each != name}),
        )
        if other.headers[name] != value:
            yield "header: of another secret", replace(signed, headers={**signed.headers, name: other.headers[name]})
    if "=" in signed.target and case.type in ("eventgrid", "cloudevents"):
        path, _, query = signed.target.partition("?")
        name, _, value = query.partition("=")
        for kind, text in _changed_text(rng, value):
            yield f"query: {kind}", replace(signed, target=f"{path}?{name}={text}")
        yield "query: missing", replace(signed, target=path)
        yield "query: twice", replace(signed, target=f"{path}?{name}={value}&{name}={value}")
    if case.body_signed:
        position = rng.randrange(len(signed.body))
        flipped = bytearray(signed.body)
        flipped[position] ^= 1 << rng.randrange(7)
        if case.type != "sns":  # of its body only some fields are signed
            yield "body: a bit", replace(signed, body=bytes(flipped))
            yield "body: longer", replace(signed, body=signed.body + b" x=1&")
            yield "body: shorter", replace(signed, body=signed.body[: rng.randrange(len(signed.body))])
        else:
            yield "body: text", replace(signed, body=signed.body.replace(b'"Message": "', b'"Message": "y'))
            yield "body: topic", replace(signed, body=signed.body.replace(b":builds", b":others"))
    for name in ("webhook-id", "svix-id", "webhook-timestamp", "svix-timestamp", "X-Slack-Request-Timestamp"):
        if name in signed.headers and case.type != "gitlab":
            yield (
                f"signed header: {name}",
                replace(signed, headers={**signed.headers, name: signed.headers[name] + "1"}),
            )


def _changed_text(rng: random.Random, value: str) -> Iterator[tuple[str, str]]:
    core = max(_CORE.findall(value), key=len, default="")
    if not core:
        return
    position = rng.randrange(max(1, len(core) * 3 // 4))
    digit = rng.choice([digit for digit in _DIGITS if digit != core[position].lower()])
    for kind, text in (
        ("a character", core[:position] + digit + core[position + 1 :]),
        ("cut off", core[: rng.randrange(len(core) - 3)]),
        ("longer", core + rng.choice("0aZ") * 4),
        ("reversed", core[::-1]),
        ("zeros", "0" * len(core)),
    ):
        if text.lower() != core.lower():
            yield kind, value.replace(core, text)
    yield "empty", ""
    yield "without its end", value.replace(core, "")


# -- guessed keys --------------------------------------------------------------------------------------------------------


def odd_secret(rng: random.Random, case: Case) -> bytes:
    """A secret's text as people get it wrong."""
    good = case.secret(rng)
    key = rng.randbytes(rng.choice((0, 1, 7, 16, 24)))
    return rng.choice(
        (
            b"",
            b" ",
            b"\0" * rng.randint(1, 40),
            b"whsec_",
            b"whsec_" + base64.urlsafe_b64encode(key).rstrip(b"="),
            b"whsec_" + base64.b64encode(key)[:-1],
            b"whsec_" + rng.choice((b"my-secret!", b"=", b"====", b"\xc3\xa9", b"!" * 40)),
            b"v1,whsec_",
            b"whpk_" + base64.b64encode(key),
            b"whpk_" + base64.b64encode(b"\0" * 32),
            b"whsk_" + base64.b64encode(key),
            b"00" * 32,
            b"01" + b"00" * 31,
            b"user:",
            b":password",
            b"user:short",
            good[: rng.randrange(len(good))] if good else b"",
            good + b" ",
            good + b"!",
            b" " + good,
            good.swapcase(),
        )
    )


def guesses(secret: bytes) -> Iterator[bytes]:
    """Keys that a stranger may try who does not know the secret, or knows how one goes wrong."""
    yield from (b"", b"\0", b"\0" * 32, b"None", b"null", b"whsec_", b"whpk_", b"secret", b"=", b" ")
    for text in {secret, secret.strip(), secret.removeprefix(b"whsec_"), secret.removeprefix(b"whpk_")}:
        yield text[:6]
        with contextlib.suppress(ValueError):
            yield base64.b64decode(text, validate=False)


def reference_key(case: Case, secret: bytes) -> bytes | None:
    """The key that the sender's library makes of the secret; None when it makes none."""
    text = secret.rstrip(b"\r\n")
    if case.type in ("standard", "gitlab") and (case.type == "standard" or text.strip().startswith(b"whsec_")):
        shown = text.strip().removeprefix(b"v1,").translate(bytes.maketrans(b"-", b"+"))
        shown = shown[:6] + shown[6:].replace(b"_", b"/") if shown.startswith(b"whsec_") else shown.replace(b"_", b"/")
        try:
            standardwebhooks.Webhook(shown.decode())
            return base64.b64decode(shown.removeprefix(b"whsec_") + b"==")
        except Exception:
            return None
    if case.type == "hmac":
        try:
            return bytes.fromhex(text.decode())
        except ValueError:
            return None
    return text


def _signed_with(case: Case, key: bytes, made: Delivery) -> Signed | None:
    """A request signed with these bytes as the key; None where the sender's library takes no such key."""
    if case.type == "standard" or case.sign.__name__ == "sign_standard":
        body = data(made)
        signature = base64_hmac(key, f"{made.id}.{made.now}.".encode() + body)
        names = "svix" if "Svix" in case.sender else "webhook"
        headers = {f"{names}-id": made.id, f"{names}-timestamp": str(made.now), f"{names}-signature": f"v1,{signature}"}
        return Signed({**JSON, **headers}, body)
    try:
        return case.sign(key.hex().encode() if case.type == "hmac" else key, made)
    except (ValueError, UnicodeError):
        return None


def same_key(one: bytes, other: bytes | None) -> bool:
    """Whether HMAC makes no difference between two keys: it pads them with NULs."""
    return other is not None and one.rstrip(b"\0") == other.rstrip(b"\0")


def same_fields(one: bytes, other: bytes) -> bool:
    """Whether two forms say the same to Twilio: it signs the sorted names and values, one after the other."""
    return b"MessageSid" in other and _fields(one) == _fields(other)


def _fields(body: bytes) -> str:
    fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return "".join(name + value for name, value in sorted(fields))


# -- runs ----------------------------------------------------------------------------------------------------------------


def forge(rng: random.Random, case: Case, number: int) -> tuple[Counter[str], list[str]]:
    """Send so many forged requests; returns how many of each kind, and what was accepted."""
    sent: Counter[str] = Counter()
    valid = Signed({}, b"")
    wrong: list[str] = []

    def judge(sender: Sender, kind: str, forged: Signed, secret: bytes) -> None:
        if kind.startswith("body") and same_fields(forged.body, valid.body):
            return  # Twilio signs what the form says, not how it is written
        sent[kind.partition(":")[0]] += 1
        if accepted(sender, forged):
            wrong.append(f"{case.sender}: {kind}, secret {secret!r}: {forged}")

    while sent.total() < number:
        secret, another = case.secret(rng), case.secret(rng)
        sender = sender_of(case, secret)
        for _ in range(_EACH):
            made = delivery(rng)
            valid, other = case.sign(secret, made), case.sign(another, made)
            for kind, forged in changed(rng, case, valid, other):
                judge(sender, kind, forged, secret)
        if case.type in ("sns", "discord"):
            continue
        for _ in range(_EACH):
            odd = odd_secret(rng, case)
            sender = sender_of(case, odd)
            reference = reference_key(case, odd)
            for guess in guesses(odd):
                forged_or_none = _signed_with(case, guess, delivery(rng))
                if forged_or_none is not None and not same_key(guess, reference):
                    judge(sender, "guessed key", forged_or_none, odd)
    return sent, wrong


def deliver(rng: random.Random, case: Case, number: int) -> list[str]:
    """Send so many valid requests; returns what was refused."""
    wrong = []
    sender = sender_of(case, secret := case.secret(rng))
    for count in range(number):
        if count % _EACH == 0:
            sender = sender_of(case, secret := case.secret(rng))
        valid = case.sign(secret, delivery(rng))
        if not accepted(sender, valid):
            wrong.append(f"{case.sender}: secret {secret!r}: {valid}")
    return wrong


def run(seed: int, *, forged: int, valid: int) -> tuple[Counter[str], int]:
    """All senders; returns the forged requests by kind and the number of valid ones.

    Raises:
        AssertionError: a forged request was accepted, or a valid one refused.
    """
    rng = random.Random(seed)
    kinds: Counter[str] = Counter()
    for case in CASES:
        sent, accepted_wrongly = forge(rng, case, -(-forged // len(CASES)))
        kinds += sent
        assert accepted_wrongly == [], "\n".join(accepted_wrongly[:5])
        refused_wrongly = deliver(rng, case, -(-valid // len(CASES)))
        assert refused_wrongly == [], "\n".join(refused_wrongly[:5])
    return kinds, -(-valid // len(CASES)) * len(CASES)
