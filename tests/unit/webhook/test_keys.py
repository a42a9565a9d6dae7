"""Only a signature by the key that the sender's own library derives from a secret is accepted, whatever the secret's text is."""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import example, given
from hypothesis import strategies as st
from support.webhook_requests import Sender, request

from attune_webhook.schemes.keys import SHORTEST_KEY, UnusableSecretError, key_of
from attune_webhook.schemes.presets import PRESETS

NOW = 1_700_000_000
BODY = b'{"a": 1}'

ENCODED = st.builds(
    lambda key, url_safe, padded, tail: (
        (base64.urlsafe_b64encode if url_safe else base64.b64encode)(key).decode().rstrip("" if padded else "=") + tail
    ),
    st.binary(max_size=48),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", " ", "\t", "=", "!", "é", " x"]),
)
TEXTS = st.builds(
    "{}{}".format, st.sampled_from(["", "whsec_", "v1,whsec_", "whpk_", "whsk_", "WHSEC_"]), ENCODED | st.text()
)


def accepts(scheme: str, secret: str, headers: Mapping[str, str]) -> bool:
    sender = Sender({"type": scheme}, [secret.encode("utf-8", "surrogateescape")])
    return sender.accepts(request(headers, BODY), now=NOW)


def standard(key: bytes) -> dict[str, str]:
    signature = hmac.digest(key, f"m.{NOW}.".encode() + BODY, "sha256")
    return {
        "webhook-id": "m",
        "webhook-timestamp": str(NOW),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }


def library_key(secret: str) -> bytes | None:
    """What ``standardwebhooks`` signs with; None when it refuses the secret.

    The library drops characters that it does not know; those of the URL-safe alphabet stand for ``+`` and ``/`` here.
    """
    text = secret.strip().removeprefix("v1,").translate(str.maketrans("-_", "+/")).replace("whsec/", "whsec_", 1)
    try:
        signed = standardwebhooks.Webhook(text).sign("m", datetime.fromtimestamp(NOW, UTC), BODY.decode())
    except Exception:
        return None
    key = base64.b64decode(text.removeprefix("whsec_") + "==")
    assert signed == standard(key)["webhook-signature"]
    return key


@given(TEXTS)
@example("whsec_" + "a2tr" * 8 + "aw")
@example("whsec_my-secret!")
@example("whsec_")
@example("")
def test_standard_accepts_only_the_key_of_the_official_library(secret: str) -> None:
    key = library_key(secret)
    text = secret.encode()
    for forged in {b"", text, text.strip(), text.removeprefix(b"whsec_"), text.removeprefix(b"whpk_")}:
        if key is None or not same(forged, key):
            assert not accepts("standard", secret, standard(forged))
    if key is None or len(key.rstrip(b"\0")) < SHORTEST_KEY:
        assert not accepts("standard", secret, standard(key or b""))


@given(
    st.binary(min_size=SHORTEST_KEY, max_size=64).map(lambda key: key + b"k"),
    st.sampled_from(["", "whsec_", "v1,whsec_"]),
    st.booleans(),
    st.booleans(),
)
def test_standard_accepts_every_form_in_which_senders_show_a_key(
    key: bytes, prefix: str, url_safe: bool, padded: bool
) -> None:
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(key).decode()
    assert accepts("standard", prefix + (text if padded else text.rstrip("=")), standard(key))


@pytest.mark.parametrize("scheme", ["github", "bearer", "gitlab", "slack", "standard"])
@pytest.mark.parametrize("prefix", ["whpk_", "whsk_", "v1,whpk_", " whpk_"])
def test_an_asymmetric_key_is_refused_by_name_where_hmac_signs(scheme: str, prefix: str) -> None:
    if scheme == "standard" and "whpk_" in prefix:
        return  # it is what the variant v1a verifies with
    with pytest.raises(UnusableSecretError, match=f"it is a {prefix[-5:]} key"):
        key_of(PRESETS[scheme].variants, prefix.encode() + base64.b64encode(b"k" * 32))


def same(one: bytes, other: bytes) -> bool:
    """Whether HMAC makes no difference between two keys: it pads them with NULs."""
    return one.rstrip(b"\0") == other.rstrip(b"\0")


def github(key: bytes) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(key, BODY, hashlib.sha256).hexdigest()}


def stripe(key: bytes) -> dict[str, str]:
    return {"Stripe-Signature": f"t={NOW},v1=" + hmac.new(key, f"{NOW}.".encode() + BODY, hashlib.sha256).hexdigest()}


def bearer(key: bytes) -> dict[str, str]:
    return {"Authorization": "Bearer " + key.decode("utf-8", "surrogateescape")}


@pytest.mark.parametrize(("scheme", "headers"), [("github", github), ("stripe", stripe), ("bearer", bearer)])
@given(secret=TEXTS)
@example("")
@example("whsec_")
@example("short")
@example("\0" * 16)
def test_other_schemes_take_the_text_as_it_is_and_nothing_else(
    scheme: str, headers: Callable[[bytes], dict[str, str]], secret: str
) -> None:
    text = secret.encode().rstrip(b"\r\n")  # as a file's content is read
    for forged in {b"", text.strip(), text.removeprefix(b"whsec_"), text + b"x"}:
        if not same(forged, text):
            assert not accepts(scheme, secret, headers(forged))
    asymmetric = text.strip().removeprefix(b"v1,").startswith((b"whpk_", b"whsk_"))
    if len(text.rstrip(b"\0")) < SHORTEST_KEY or asymmetric:
        assert not accepts(scheme, secret, headers(text))
    elif scheme != "bearer":
        assert accepts(scheme, secret, headers(text))
