"""Senders as they are: requests signed by their own libraries where there is one, else as their documentation describes it.

Each is a :class:`Case`: the tests in tests/unit/webhook and tests/integration/webhook, the fuzz run and the table in
docs/webhook.md are made of them.
"""

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import nacl.signing
import slack_sdk.signature
import standardwebhooks
import stripe
import svix
import twilio.request_validator
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from support.webhook_requests import HOST, request
from support.webhook_sns import sns_message

from attune_webhook.http.request import Request

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Delivery:
    """What a sender delivers; sending it again is the same delivery."""

    id: str
    now: int
    text: str = "x"


@dataclass(frozen=True)
class Signed:
    """A signed request."""

    headers: Mapping[str, str]
    body: bytes
    target: str = "/a"
    method: str = "POST"

    def request(self, **changes: Any) -> Request:
        """As the sensor reads it."""
        return request(self.headers, self.body, method=self.method, target=self.target, **changes)


#: Signs a delivery with a secret.
Sign = Callable[[bytes, Delivery], Signed]


@dataclass(frozen=True)
class Case:
    """A sender.

    Attributes:
        type: the ``auth.type``.
        sender: who sends so, for the table.
        sign: signs a delivery.
        secret: makes a secret.
        auth: further fields of ``auth``.
        parameters: further parameters of the rule.
        library: the sender's own library that signs here, or verifies in test_node_oracles.py.
        named: whether its deliveries have ids, so that a retry is the same event.
        node: the name of its check in tests/oracles/webhook/oracle.mjs.
        handshake: a request of its handshake, for a secret, and what the answer must hold.
        body_signed: whether another body is refused.
    """

    type: str
    sender: str
    sign: Sign
    secret: Callable[[random.Random], bytes]
    auth: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    library: str = ""
    named: bool = True
    node: str = ""
    handshake: Callable[[bytes, int], tuple[Signed, bytes]] | None = None
    body_signed: bool = True


def token(rng: random.Random) -> bytes:
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", k=32)).encode()


def whsec(rng: random.Random) -> bytes:
    return b"whsec_" + base64.b64encode(rng.randbytes(rng.choice((24, 25, 32, 64))))


def user_password(rng: random.Random) -> bytes:
    return b"user:" + token(rng)


def hex_hmac(key: bytes, message: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(key, message, algorithm).hexdigest()


def base64_hmac(key: bytes, message: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(hmac.new(key, message, algorithm).digest()).decode()


def data(delivery: Delivery, **more: Any) -> bytes:
    return json.dumps({"text": delivery.text, **more}).encode()


def in_header(
    header: str,
    made: Callable[[bytes, bytes], str],
    id_header: str = "",
    id_field: str = "",
    prefix: str = "",
    more: Callable[[Delivery], Mapping[str, Any]] = lambda _delivery: {},
) -> Sign:
    """A signature of the body in a header."""

    def sign(secret: bytes, delivery: Delivery) -> Signed:
        body = data(delivery, **more(delivery), **({id_field: delivery.id} if id_field else {}))
        named = {id_header: delivery.id} if id_header else {}
        return Signed({**JSON, header: prefix + made(secret, body), **named}, body)

    return sign


def timed(
    header: str,
    time_header: str,
    signed: str,
    *,
    prefix: str = "",
    encode: Callable[[bytes, bytes], str] = hex_hmac,
    id_header: str = "",
    id_field: str = "",
    written: Callable[[int], str] = str,
) -> Sign:
    """A signature of a time and the body."""

    def sign(secret: bytes, delivery: Delivery) -> Signed:
        body = data(delivery, **({id_field: delivery.id} if id_field else {}))
        time = written(delivery.now)
        message = signed.replace("{id}", delivery.id).replace("{time}", time).encode()
        head, _, tail = message.partition(b"{body}")
        named = {id_header: delivery.id} if id_header else {}
        signature = prefix + encode(secret, head + body + tail)
        return Signed({**JSON, header: signature, time_header: time, **named}, body)

    return sign


def milliseconds(now: int) -> str:
    return str(now * 1000)


def rfc3339(now: int) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- signed by the senders' own libraries --------------------------------------------------------------------------------


def sign_standard(secret: bytes, delivery: Delivery) -> Signed:
    body = data(delivery)
    time = datetime.fromtimestamp(delivery.now, UTC)
    signature = standardwebhooks.Webhook(secret.decode()).sign(delivery.id, time, body.decode())
    headers = {"webhook-id": delivery.id, "webhook-timestamp": str(delivery.now), "webhook-signature": signature}
    return Signed({**JSON, **headers}, body)


def sign_svix(secret: bytes, delivery: Delivery) -> Signed:
    body = data(delivery)
    signature = svix.Webhook(secret.decode()).sign(
        delivery.id, datetime.fromtimestamp(delivery.now, UTC), body.decode()
    )
    headers = {"svix-id": delivery.id, "svix-timestamp": str(delivery.now), "svix-signature": signature}
    return Signed({**JSON, **headers}, body)


def sign_supabase(secret: bytes, delivery: Delivery) -> Signed:
    return sign_standard(secret.removeprefix(b"v1,"), delivery)


_PRIVATE = nacl.signing.SigningKey(hashlib.sha256(b"a private key of these tests").digest())


def public_key_base64() -> bytes:
    return base64.b64encode(bytes(_PRIVATE.verify_key))


def public_key_hex() -> bytes:
    return bytes(_PRIVATE.verify_key).hex().encode()


def sign_standard_ed25519(_secret: bytes, delivery: Delivery) -> Signed:
    body = data(delivery)
    signature = _PRIVATE.sign(f"{delivery.id}.{delivery.now}.".encode() + body).signature
    headers = {
        "webhook-id": delivery.id,
        "webhook-timestamp": str(delivery.now),
        "webhook-signature": f"v1a,{base64.b64encode(signature).decode()}",
    }
    return Signed({**JSON, **headers}, body)


def sign_discord(_secret: bytes, delivery: Delivery, **more: Any) -> Signed:
    body = data(delivery, **(more or {"type": 2, "id": delivery.id, "token": "t"}))
    signature = _PRIVATE.sign(str(delivery.now).encode() + body).signature
    return Signed({**JSON, "X-Signature-Ed25519": signature.hex(), "X-Signature-Timestamp": str(delivery.now)}, body)


def sign_stripe(secret: bytes, delivery: Delivery) -> Signed:
    body = data(delivery, id=delivery.id, type="charge.succeeded")
    made = stripe.WebhookSignature._compute_signature(f"{delivery.now}.{body.decode()}", secret.decode())
    return Signed({**JSON, "Stripe-Signature": f"t={delivery.now},v1={made},v0=0"}, body)


def sign_slack(secret: bytes, delivery: Delivery, **more: Any) -> Signed:
    body = data(delivery, event_id=delivery.id, **more)
    verifier = slack_sdk.signature.SignatureVerifier(secret.decode())
    signature = verifier.generate_signature(timestamp=str(delivery.now), body=body)
    assert signature is not None
    return Signed({**JSON, "X-Slack-Signature": signature, "X-Slack-Request-Timestamp": str(delivery.now)}, body)


def sign_twilio(secret: bytes, delivery: Delivery) -> Signed:
    fields = {"MessageSid": delivery.id, "Body": delivery.text, "From": "+15551234567", "Empty": ""}
    target = "/a?kind=sms"
    signature = twilio.request_validator.RequestValidator(secret.decode()).compute_signature(
        f"https://{HOST}{target}", fields
    )
    headers = {**FORM, "X-Twilio-Signature": signature, "I-Twilio-Idempotency-Token": delivery.id}
    return Signed(headers, urlencode(fields).encode(), target)


def sign_twilio_json(secret: bytes, delivery: Delivery) -> Signed:
    body = data(delivery)
    target = f"/a?bodySHA256={hashlib.sha256(body).hexdigest()}"
    signature = twilio.request_validator.RequestValidator(secret.decode()).compute_signature(
        f"https://{HOST}:443{target}", {}
    )
    headers = {**JSON, "X-Twilio-Signature": signature, "I-Twilio-Idempotency-Token": delivery.id}
    return Signed(headers, body, target)


def _cloud_event(delivery: Delivery) -> CloudEvent:
    attributes = {
        "id": delivery.id,
        "source": "/tests",
        "type": "com.example.made",
        "specversion": "1.0",
        "datacontenttype": "application/json",
    }
    return CloudEvent(attributes=attributes, data={"text": delivery.text})


def sign_cloudevents_binary(secret: bytes, delivery: Delivery) -> Signed:
    message = to_binary_event(_cloud_event(delivery))
    return Signed({**message.headers, "Authorization": f"Bearer {secret.decode()}"}, bytes(message.body))


def sign_cloudevents_structured(secret: bytes, delivery: Delivery) -> Signed:
    message = to_structured_event(_cloud_event(delivery))
    return Signed({**message.headers}, bytes(message.body), f"/a?access_token={secret.decode()}")


def sign_sns(_secret: bytes, delivery: Delivery) -> Signed:
    body = sns_message(delivery.id, delivery.text)
    return Signed({"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": "Notification"}, body)


# -- as documented -------------------------------------------------------------------------------------------------------


def sign_github_form(secret: bytes, delivery: Delivery) -> Signed:
    body = urlencode({"payload": data(delivery).decode()}).encode()
    headers = {"X-Hub-Signature-256": f"sha256={hex_hmac(secret, body)}", "X-GitHub-Delivery": delivery.id}
    return Signed({**FORM, **headers}, body)


def sign_gitlab_token(secret: bytes, delivery: Delivery) -> Signed:
    return Signed({**JSON, "X-Gitlab-Token": secret.decode(), "Idempotency-Key": delivery.id}, data(delivery))


def sign_bearer(secret: bytes, delivery: Delivery) -> Signed:
    headers = {"Authorization": f"Bearer {secret.decode()}", "Idempotency-Key": delivery.id}
    return Signed({**JSON, **headers}, data(delivery))


def sign_basic(secret: bytes, delivery: Delivery) -> Signed:
    headers = {"Authorization": f"Basic {base64.b64encode(secret).decode()}", "Idempotency-Key": delivery.id}
    return Signed({**JSON, **headers}, data(delivery))


def sign_registry(secret: bytes, delivery: Delivery) -> Signed:
    body = json.dumps({"events": [{"id": delivery.id, "action": "push"}]}).encode()
    kind = {"Content-Type": "application/vnd.docker.distribution.events.v2+json"}
    return Signed({**kind, "Authorization": f"Bearer {secret.decode()}"}, body)


def sign_alertmanager(secret: bytes, delivery: Delivery) -> Signed:
    return Signed({**JSON, "Authorization": f"Bearer {secret.decode()}"}, data(delivery, groupKey=delivery.id))


def sign_eventgrid(secret: bytes, delivery: Delivery) -> Signed:
    event = {"id": delivery.id, "topic": "/subscriptions/1", "eventType": "made", "data": {"text": delivery.text}}
    return Signed(
        {**JSON, "aeg-event-type": "Notification"}, json.dumps([event]).encode(), f"/a?code={secret.decode()}"
    )


def sign_token_header(secret: bytes, delivery: Delivery) -> Signed:
    return Signed({**JSON, "X-Token": f"Key {secret.decode()}", "Idempotency-Key": delivery.id}, data(delivery))


def sign_trello(secret: bytes, delivery: Delivery) -> Signed:
    body = json.dumps({"action": {"id": delivery.id}, "text": delivery.text}).encode()
    signature = base64_hmac(secret, body + f"https://{HOST}/a".encode(), "sha1")
    return Signed({**JSON, "X-Trello-Webhook": signature}, body)


def sign_mailgun(secret: bytes, delivery: Delivery) -> Signed:
    made = hex_hmac(secret, f"{delivery.now}{delivery.id}".encode())
    signature = {"timestamp": str(delivery.now), "token": delivery.id, "signature": made}
    return Signed(JSON, data(delivery, signature=signature))


def sign_hubspot(secret: bytes, delivery: Delivery) -> Signed:
    event = {"eventId": delivery.id, "subscriptionId": 7, "occurredAt": 1, "text": delivery.text}
    body, time = json.dumps([event]).encode(), milliseconds(delivery.now)
    signature = base64_hmac(secret, f"POSThttps://{HOST}/a".encode() + body + time.encode())
    headers = {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": time}
    return Signed({**JSON, **headers}, body)


def sign_square(secret: bytes, delivery: Delivery) -> Signed:
    body = data(delivery, event_id=delivery.id)
    signature = base64_hmac(secret, f"https://{HOST}/a".encode() + body)
    return Signed({**JSON, "x-square-hmacsha256-signature": signature}, body)


def sign_paddle(secret: bytes, delivery: Delivery) -> Signed:
    body = data(delivery, event_id=delivery.id)
    made = hex_hmac(secret, f"{delivery.now}:".encode() + body)
    return Signed({**JSON, "Paddle-Signature": f"ts={delivery.now};h1={made}"}, body)


def sign_described(secret: bytes, delivery: Delivery) -> Signed:
    body = data(delivery)
    message = f"POST|{delivery.now * 1000}|".encode() + body
    made = base64_hmac(bytes.fromhex(secret.decode()), message, "sha512")
    headers = {"X-Sig": f"v9={made}", "X-Time": str(delivery.now * 1000), "Idempotency-Key": delivery.id}
    return Signed({**JSON, **headers}, body)


# -- handshakes ----------------------------------------------------------------------------------------------------------

_FIRST = "handshake"


def slack_challenge(secret: bytes, now: int) -> tuple[Signed, bytes]:
    return sign_slack(secret, Delivery(_FIRST, now), type="url_verification", challenge="c-1"), b'{"challenge":"c-1"}'


def zoom_validation(secret: bytes, now: int) -> tuple[Signed, bytes]:
    body = json.dumps({"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8"}}).encode()
    signature = f"v0={hex_hmac(secret, f'v0:{now}:'.encode() + body)}"
    signed = Signed({**JSON, "x-zm-signature": signature, "x-zm-request-timestamp": str(now)}, body)
    return signed, f'"encryptedToken":"{hex_hmac(secret, b"qgg8")}"'.encode()


def event_grid_validation(secret: bytes, _now: int) -> tuple[Signed, bytes]:
    event = {"eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "data": {"validationCode": "v-1"}}
    return Signed(JSON, json.dumps([event]).encode(), f"/a?code={secret.decode()}"), b'{"validationResponse":"v-1"}'


def cloudevents_options(_secret: bytes, _now: int) -> tuple[Signed, bytes]:
    return Signed({"WebHook-Request-Origin": "eventemitter.example.com"}, b"", method="OPTIONS"), b""


def discord_ping(secret: bytes, now: int) -> tuple[Signed, bytes]:
    return sign_discord(secret, Delivery(_FIRST, now), type=1), b'{"type":1}'


def meta_challenge(secret: bytes, _now: int) -> tuple[Signed, bytes]:
    query = urlencode({"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": secret.decode()})
    return Signed({}, b"", f"/a?{query}", "GET"), b"1158201444"


def dropbox_challenge(_secret: bytes, _now: int) -> tuple[Signed, bytes]:
    return Signed({}, b"", "/a?challenge=c-1", "GET"), b"c-1"


def trello_head(_secret: bytes, _now: int) -> tuple[Signed, bytes]:
    return Signed({}, b"", method="HEAD"), b""


def twitch_challenge(secret: bytes, now: int) -> tuple[Signed, bytes]:
    body = json.dumps({"challenge": "c-1"}).encode()
    time = rfc3339(now)
    signature = f"sha256={hex_hmac(secret, f'm{time}'.encode() + body)}"
    headers = {
        "Twitch-Eventsub-Message-Id": "m",
        "Twitch-Eventsub-Message-Timestamp": time,
        "Twitch-Eventsub-Message-Signature": signature,
        "Twitch-Eventsub-Message-Type": "webhook_callback_verification",
    }
    return Signed({**JSON, **headers}, body), b"c-1"


def sns_confirmation(_secret: bytes, _now: int) -> tuple[Signed, bytes]:
    return Signed({"Content-Type": "text/plain"}, sns_message("m", "x", confirmation=True)), b'{"status":"confirmed"}'
