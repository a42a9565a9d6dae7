"""Who may send, of values alone. Digests were made with OpenSSL and by the senders' own documentation."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping

import pytest
from support.webhook_requests import Sender, request

NOW = 1_700_000_000.0


def refusal(
    scheme: str, headers: Mapping[str, str], body: bytes = b"{}", *, secrets: list[bytes], now: float = NOW
) -> str | None:
    found = Sender({"type": scheme, "toleranceSeconds": 300}, secrets).refusal(request(headers, body), now=now)
    return asyncio.run(found)


def sha256(secret: bytes, signed: bytes) -> str:
    return hmac.new(secret, signed, hashlib.sha256).hexdigest()


def test_none_lets_everybody_in() -> None:
    assert refusal("none", {}, secrets=[]) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Bearer right-token", None),
        ("bearer right-token", None),
        ("Bearer another-token", None),
        ("Bearer wrong", "signature"),
        ("Bearer right-toke", "signature"),
        ("Bearer rìght-token", "signature"),
        ("Bearer ", "unsigned"),
        ("Basic right-token", "unsigned"),
        ("", "unsigned"),
    ],
)
def test_bearer(header: str, expected: str | None) -> None:
    assert refusal("bearer", {"authorization": header}, secrets=[b"right-token", b"another-token"]) == expected


def test_githubs_own_example() -> None:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation"""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"X-Hub-Signature-256": signature}
    secret = b"It's a Secret to Everybody"
    assert refusal("github", headers, b"Hello, World!", secrets=[secret]) is None
    assert refusal("github", headers, b"Hello, World?", secrets=[secret]) == "signature"
    assert refusal("github", headers, b"Hello, World!", secrets=[b"another-token", secret]) is None
    assert refusal("github", headers, b"Hello, World!", secrets=[b"another-token"]) == "signature"


@pytest.mark.parametrize("value", ["", "sha256=", "sha1=757107", "757107", "sha256"])
def test_github_without_a_signature(value: str) -> None:
    assert refusal("github", {"X-Hub-Signature-256": value}, secrets=[b"secret-s"]) == "unsigned"


@pytest.mark.parametrize("value", ["sha256=zz", "sha256=é", "sha256=" + "0" * 64, "sha256=" + "0" * 63])
def test_github_with_something_else(value: str) -> None:
    assert refusal("github", {"X-Hub-Signature-256": value}, secrets=[b"secret-s"]) == "signature"


def stripe(secret: bytes, body: bytes, *, time: int = int(NOW)) -> str:
    return f"t={time},v1={sha256(secret, f'{time}.'.encode() + body)},v0=ignored"


def test_stripe() -> None:
    header = {"Stripe-Signature": stripe(b"whsec_aa", b"{}")}
    assert refusal("stripe", header, secrets=[b"whsec_aa"]) is None
    assert refusal("stripe", header, secrets=[b"whsec_bb", b"whsec_aa"]) is None
    assert refusal("stripe", header, secrets=[b"whsec_bb"]) == "signature"
    assert refusal("stripe", header, b"{ }", secrets=[b"whsec_aa"]) == "signature"


def test_stripe_signs_with_several_secrets_while_it_rotates_them() -> None:
    time = int(NOW)
    old, new = (sha256(secret, f"{time}.".encode() + b"{}") for secret in (b"old-secret", b"new-secret"))
    assert refusal("stripe", {"Stripe-Signature": f"t={time},v1={old},v1={new}"}, secrets=[b"new-secret"]) is None


@pytest.mark.parametrize(
    ("age", "expected"), [(0, None), (300, None), (301, "expired"), (-300, None), (-301, "expired")]
)
def test_stripe_tolerates_so_much_age_and_no_more(age: int, expected: str | None) -> None:
    header = {"Stripe-Signature": stripe(b"secret-s", b"{}", time=int(NOW) - age)}
    assert refusal("stripe", header, secrets=[b"secret-s"]) == expected


def test_stripes_time_is_signed() -> None:
    header = stripe(b"secret-s", b"{}", time=int(NOW) - 1000).replace(str(int(NOW) - 1000), str(int(NOW)))
    assert refusal("stripe", {"Stripe-Signature": header}, secrets=[b"secret-s"]) == "signature"


@pytest.mark.parametrize("value", ["", "t=1", "v1=00", "t=,v1=00", ",,,="])
def test_stripe_without_a_signature(value: str) -> None:
    assert refusal("stripe", {"Stripe-Signature": value}, secrets=[b"secret-s"]) == "unsigned"


def test_stripe_with_a_time_that_is_none() -> None:
    header = {"Stripe-Signature": f"t=soon,v1={sha256(b'secret-s', b'soon.{}')}"}
    assert refusal("stripe", header, secrets=[b"secret-s"]) == "expired"


def standard(key: bytes, body: bytes, *, time: int = int(NOW)) -> dict[str, str]:
    digest = hmac.digest(key, f"msg_1.{time}.".encode() + body, "sha256")
    signature = base64.b64encode(digest).decode()
    return {"webhook-id": "msg_1", "webhook-timestamp": str(time), "webhook-signature": f"v1a,AA== v1,{signature}"}


def test_standard_webhooks() -> None:
    key = b"0123456789abcdef01234567"
    secret = b"whsec_" + base64.b64encode(key)
    headers = standard(key, b"{}")
    assert refusal("standard", headers, secrets=[secret]) is None
    assert refusal("standard", headers, secrets=[b"x", secret]) is None
    assert refusal("standard", {**headers, "webhook-id": "msg_2"}, secrets=[secret]) == "signature"
    assert refusal("standard", headers, b"[]", secrets=[secret]) == "signature"
    assert refusal("standard", headers, secrets=[secret], now=NOW + 301) == "expired"
    assert refusal("standard", {**headers, "webhook-signature": "v1,%%"}, secrets=[secret]) == "signature"
    assert refusal("standard", {**headers, "webhook-signature": ""}, secrets=[secret]) == "unsigned"


def test_standard_webhooks_own_example() -> None:
    """https://github.com/standard-webhooks/standard-webhooks, the example of the specification's verification tool."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body = b'{"test": 2432232314}'
    secret = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert refusal("standard", headers, body, secrets=[secret], now=1_614_265_330) is None
