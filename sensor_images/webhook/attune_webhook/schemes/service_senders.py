"""Senders of messages, money, and other services."""

from typing import Final

from attune_webhook.schemes.common import hmac_in
from attune_webhook.schemes.model import Algorithm, Encoding, KeyFormat, Preset, Signature, TimeUnit, Variant


def _twilio(algorithm: Algorithm, url: str) -> Signature:
    return Signature(
        source="header:x-twilio-signature",
        encoding=Encoding.BASE64,
        algorithm=algorithm,
        signed=f"{{{url}}}{{form}}",
    )


SERVICE_SENDERS: Final = (
    Preset(
        name="stripe",
        title="Stripe",
        variants=hmac_in("stripe-signature", "v1=", separator=",", signed="{timestamp}.{body}", timestamp="part:t"),
        ids=(("field:id",),),
        only_signed_ids=True,
        note="retries for 3 days",
        source="https://docs.stripe.com/webhooks/process-undelivered-events",
    ),
    Preset(
        name="slack",
        title="Slack",
        variants=hmac_in(
            "x-slack-signature", "v0=", signed="v0:{timestamp}:{body}", timestamp="header:x-slack-request-timestamp"
        ),
        ids=(("field:event_id",),),
        only_signed_ids=True,
        answer=200,
        answer_body=False,
        handshake="slack",
        note="3 s; retries at once, after 1 min and 5 min; off when more than 95 % fail in an hour",
    ),
    Preset(
        name="zoom",
        title="Zoom",
        variants=hmac_in(
            "x-zm-signature", "v0=", signed="v0:{timestamp}:{body}", timestamp="header:x-zm-request-timestamp"
        ),
        ids=(("header:x-zm-trackingid",),),
        answer=200,
        handshake="zoom",
        note="3 s; 200 or 204 is success; retries after 5, 20 and 60 min",
        source="https://devsupport.zoom.us/hc/en-us/articles/360059893812-Webhook-delays",
    ),
    Preset(
        name="shopify",
        title="Shopify",
        variants=(
            Variant(
                checks=(
                    Signature(source="header:x-shopify-hmac-sha256", encoding=Encoding.BASE64),
                    Signature(source="header:shopify-hmac-sha256", encoding=Encoding.BASE64),
                )
            ),
        ),
        ids=(("header:x-shopify-webhook-id",), ("header:shopify-webhook-id",)),
        answer=200,
        note="8 retries in 4 h",
        source="https://shopify.dev/changelog/updates-to-webhook-retry-mechanism",
    ),
    Preset(
        name="woocommerce",
        title="WooCommerce",
        variants=hmac_in("x-wc-webhook-signature", encoding=Encoding.BASE64),
        ids=(("header:x-wc-webhook-delivery-id",),),
        note="off after 5 failures in a row (not 2xx, 301 or 302)",
    ),
    Preset(
        name="twilio",
        title="Twilio",
        variants=(
            Variant(
                checks=tuple(
                    _twilio(algorithm, url)
                    for algorithm in (Algorithm.SHA1, Algorithm.SHA256)
                    for url in ("url", "url-with-port")
                )
            ),
        ),
        ids=(("header:i-twilio-idempotency-token",),),
        answer=204,
        url_signed=True,
        note="15 s; no retries but for connections that fail, unless the URL asks for them (#rc=…)",
    ),
    Preset(
        name="discord",
        title="Discord",
        variants=hmac_in(
            "x-signature-ed25519",
            algorithm=Algorithm.ED25519,
            key=KeyFormat.ED25519_HEX,
            signed="{timestamp}{body}",
            timestamp="header:x-signature-timestamp",
        ),
        ids=(("field:id",),),
        only_signed_ids=True,
        answer=204,
        handshake="discord",
        note="3 s; webhook events are retried for up to 10 min, interactions are not",
        source="https://github.com/discord/discord-api-docs/blob/main/docs/events/webhook-events.mdx",
    ),
    Preset(
        name="meta",
        title="Meta (Facebook, Instagram, WhatsApp)",
        variants=hmac_in("x-hub-signature-256", "sha256="),
        answer=200,
        handshake="meta",
        note="retries for up to 36 h, less often each time",
    ),
    Preset(
        name="trello",
        title="Trello",
        variants=hmac_in("x-trello-webhook", encoding=Encoding.BASE64, algorithm=Algorithm.SHA1, signed="{body}{url}"),
        ids=(("field:action.id",),),
        only_signed_ids=True,
        answer=200,
        url_signed=True,
        note="3 retries; off after 30 days of failures; 410 deletes the webhook",
    ),
    Preset(
        name="mailgun",
        title="Mailgun",
        variants=(
            Variant(
                checks=(
                    Signature(
                        source="field:signature.signature",
                        signed="{timestamp}{field:signature.token}",
                        timestamp="field:signature.timestamp",
                    ),
                )
            ),
        ),
        ids=(("field:signature.token",),),
        only_signed_ids=True,
        answer=200,
        note="200 is success, 406 is final, everything else is retried for 8 h; the signature does not cover the body",
        source="https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhook-retries",
    ),
    Preset(
        name="hubspot",
        title="HubSpot (v3)",
        variants=hmac_in(
            "x-hubspot-signature-v3",
            encoding=Encoding.BASE64,
            signed="{method}{url}{body}{timestamp}",
            timestamp="header:x-hubspot-request-timestamp",
            time_unit=TimeUnit.MILLISECONDS,
        ),
        ids=(("field:eventId", "field:subscriptionId", "field:occurredAt"),),
        only_signed_ids=True,
        batch=True,
        url_signed=True,
        answer=200,
        note="5 s; up to 10 retries in 24 h",
    ),
    Preset(
        name="square",
        title="Square",
        variants=hmac_in("x-square-hmacsha256-signature", encoding=Encoding.BASE64, signed="{url}{body}"),
        ids=(("field:event_id",),),
        only_signed_ids=True,
        url_signed=True,
        answer=200,
        note="retries for up to 24 h",
        source="https://developer.squareup.com/docs/webhooks/troubleshooting",
    ),
    Preset(
        name="twitch",
        title="Twitch EventSub",
        variants=hmac_in(
            "twitch-eventsub-message-signature",
            "sha256=",
            signed="{header:twitch-eventsub-message-id}{timestamp}{body}",
            timestamp="header:twitch-eventsub-message-timestamp",
            time_unit=TimeUnit.RFC3339,
        ),
        ids=(("header:twitch-eventsub-message-id",),),
        only_signed_ids=True,
        handshake="twitch",
        tolerance=600,
        note="too many failures revoke the subscription",
    ),
    Preset(
        name="zendesk",
        title="Zendesk",
        variants=hmac_in(
            "x-zendesk-webhook-signature",
            encoding=Encoding.BASE64,
            signed="{timestamp}{body}",
            timestamp="header:x-zendesk-webhook-signature-timestamp",
            time_unit=TimeUnit.RFC3339,
        ),
        ids=(("header:x-zendesk-webhook-invocation-id",),),
        answer=200,
        note="10 s; retries after 409, 429 and 503; a circuit breaker pauses it when 70 % fail in 5 min",
    ),
    Preset(
        name="paddle",
        title="Paddle Billing",
        variants=hmac_in("paddle-signature", "h1=", separator=";", signed="{timestamp}:{body}", timestamp="part:ts"),
        ids=(("field:event_id",),),
        only_signed_ids=True,
        answer=200,
        note="5 s; 60 retries in 3 days",
    ),
    Preset(
        name="typeform",
        title="Typeform",
        variants=hmac_in("typeform-signature", "sha256=", encoding=Encoding.BASE64),
        ids=(("field:event_id",),),
        only_signed_ids=True,
        note="30 s; retries for up to 10 h; 410 and 404 switch it off at once",
    ),
    Preset(
        name="dropbox",
        title="Dropbox",
        variants=hmac_in("x-dropbox-signature"),
        answer=200,
        handshake="dropbox",
        note="retries, less often each time",
    ),
)
