"""Every sender that docs/webhook.md names, as a case (:mod:`support.webhook_senders`)."""

import random
from collections.abc import Callable
from typing import Any

from support import webhook_senders as senders
from support.webhook_senders import Case, Delivery, Sign, base64_hmac, hex_hmac, in_header, timed, token, whsec
from support.webhook_sns import TOPIC

from attune_webhook.schemes.presets import PRESETS


def _ed25519_base64(_rng: random.Random) -> bytes:
    return b"whpk_" + senders.public_key_base64()


def _ed25519_hex(_rng: random.Random) -> bytes:
    return senders.public_key_hex()


def _no_secret(_rng: random.Random) -> bytes:
    return b""


def _hex_key(rng: random.Random) -> bytes:
    return rng.randbytes(32).hex().encode()


def _supabase(rng: random.Random) -> bytes:
    return b"v1," + whsec(rng)


def _hub(prefix: str, header: str, id_header: str = "") -> Sign:
    return in_header(header, hex_hmac, id_header, prefix=prefix)


def _webhook_timestamp(delivery: Delivery) -> dict[str, Any]:
    return {"webhookTimestamp": delivery.now * 1000}


def _case(kind: str, sender: str, sign: Sign, secret: Callable[[random.Random], bytes] = token, **more: Any) -> Case:
    return Case(kind, sender, sign, secret, **more)


CASES = (
    _case(
        "standard",
        "Standard Webhooks (OpenAI, Replicate, …)",
        senders.sign_standard,
        whsec,
        library="standardwebhooks (PyPI, npm)",
        node="standardwebhooks",
    ),
    _case(
        "standard",
        "Standard Webhooks, asymmetric (`v1a`)",
        senders.sign_standard_ed25519,
        _ed25519_base64,
        library="PyNaCl (PyPI)",
    ),
    _case("standard", "Svix (Clerk, Resend, …)", senders.sign_svix, whsec, library="svix (PyPI, npm)", node="svix"),
    _case("standard", "Supabase auth hooks", senders.sign_supabase, _supabase, library="standardwebhooks (PyPI)"),
    _case(
        "github",
        "GitHub",
        _hub("sha256=", "X-Hub-Signature-256", "X-GitHub-Delivery"),
        library="@octokit/webhooks (npm)",
        node="octokit",
    ),
    _case("github", "GitHub, as a form", senders.sign_github_form, library="@octokit/webhooks (npm)", node="octokit"),
    _case("gitea", "Gitea, Forgejo", _hub("", "X-Gitea-Signature", "X-Gitea-Delivery")),
    _case("gitlab", "GitLab, secret token", senders.sign_gitlab_token, body_signed=False),
    _case("gitlab", "GitLab ≥ 19, signing token", senders.sign_standard, whsec, library="standardwebhooks (PyPI)"),
    _case("bitbucket", "Bitbucket Cloud, Data Center", _hub("sha256=", "X-Hub-Signature", "X-Request-Id")),
    _case("jira", "Jira Cloud", _hub("sha256=", "X-Hub-Signature", "X-Atlassian-Webhook-Identifier")),
    _case(
        "linear",
        "Linear",
        in_header("Linear-Signature", hex_hmac, "Linear-Delivery", more=_webhook_timestamp),
        library="@linear/sdk (npm)",
        node="linear",
    ),
    _case("sentry", "Sentry", _hub("", "Sentry-Hook-Signature", "Request-ID")),
    _case("circleci", "CircleCI", in_header("circleci-signature", hex_hmac, id_field="id", prefix="v1=")),
    _case("pagerduty", "PagerDuty v3", in_header("X-PagerDuty-Signature", hex_hmac, "X-Webhook-Id", prefix="v1=0,v1=")),
    _case("registry", "Docker Registry", senders.sign_registry, body_signed=False),
    _case("bearer", "Alertmanager", senders.sign_alertmanager, named=False, body_signed=False),
    _case(
        "basic",
        "Alertmanager, Argo CD, Chargebee, Postmark",
        senders.sign_basic,
        senders.user_password,
        body_signed=False,
    ),
    _case("bearer", "any other with a bearer token", senders.sign_bearer, body_signed=False),
    _case("flux", "Flux, `generic-hmac`", _hub("sha256=", "X-Signature"), named=False),
    _case("grafana", "Grafana alerting", _hub("", "X-Grafana-Alerting-Signature"), named=False),
    _case("stripe", "Stripe", senders.sign_stripe, library="stripe (PyPI, npm)", node="stripe"),
    _case("slack", "Slack", senders.sign_slack, library="slack_sdk (PyPI)", handshake=senders.slack_challenge),
    _case(
        "zoom",
        "Zoom",
        timed(
            "x-zm-signature", "x-zm-request-timestamp", "v0:{time}:{body}", prefix="v0=", id_header="x-zm-trackingid"
        ),
        handshake=senders.zoom_validation,
    ),
    _case(
        "shopify",
        "Shopify",
        in_header("X-Shopify-Hmac-Sha256", base64_hmac, "X-Shopify-Webhook-Id"),
        library="@shopify/shopify-api (npm)",
        node="shopify",
    ),
    _case("woocommerce", "WooCommerce", in_header("X-WC-Webhook-Signature", base64_hmac, "X-WC-Webhook-Delivery-ID")),
    _case("twilio", "Twilio, form", senders.sign_twilio, library="twilio (PyPI)"),
    _case("twilio", "Twilio, JSON", senders.sign_twilio_json, library="twilio (PyPI)"),
    _case(
        "discord",
        "Discord",
        senders.sign_discord,
        _ed25519_hex,
        library="PyNaCl (PyPI), discord-interactions (npm)",
        node="discord",
        handshake=senders.discord_ping,
    ),
    _case(
        "sns",
        "Amazon SNS",
        senders.sign_sns,
        _no_secret,
        auth={"topics": [TOPIC]},
        library="sns-validator (npm)",
        node="sns",
        handshake=senders.sns_confirmation,
    ),
    _case(
        "eventgrid",
        "Azure Event Grid",
        senders.sign_eventgrid,
        handshake=senders.event_grid_validation,
        body_signed=False,
    ),
    _case(
        "cloudevents",
        "CloudEvents, binary",
        senders.sign_cloudevents_binary,
        library="cloudevents (PyPI)",
        handshake=senders.cloudevents_options,
        body_signed=False,
    ),
    _case(
        "cloudevents",
        "CloudEvents, structured",
        senders.sign_cloudevents_structured,
        library="cloudevents (PyPI)",
        handshake=senders.cloudevents_options,
        body_signed=False,
    ),
    _case(
        "meta",
        "Meta (Facebook, Instagram, WhatsApp)",
        _hub("sha256=", "X-Hub-Signature-256"),
        named=False,
        handshake=senders.meta_challenge,
    ),
    _case("trello", "Trello", senders.sign_trello, handshake=senders.trello_head),
    _case("mailgun", "Mailgun", senders.sign_mailgun, body_signed=False),
    _case("hubspot", "HubSpot v3", senders.sign_hubspot),
    _case("square", "Square", senders.sign_square),
    _case(
        "twitch",
        "Twitch EventSub",
        timed(
            "Twitch-Eventsub-Message-Signature",
            "Twitch-Eventsub-Message-Timestamp",
            "{id}{time}{body}",
            prefix="sha256=",
            id_header="Twitch-Eventsub-Message-Id",
            written=senders.rfc3339,
        ),
        handshake=senders.twitch_challenge,
    ),
    _case(
        "zendesk",
        "Zendesk",
        timed(
            "X-Zendesk-Webhook-Signature",
            "X-Zendesk-Webhook-Signature-Timestamp",
            "{time}{body}",
            encode=base64_hmac,
            id_header="X-Zendesk-Webhook-Invocation-Id",
            written=senders.rfc3339,
        ),
    ),
    _case("paddle", "Paddle Billing", senders.sign_paddle),
    _case("typeform", "Typeform", in_header("Typeform-Signature", base64_hmac, id_field="event_id", prefix="sha256=")),
    _case("dropbox", "Dropbox", _hub("", "X-Dropbox-Signature"), named=False, handshake=senders.dropbox_challenge),
    _case(
        "header",
        "any other with a token in a header",
        senders.sign_token_header,
        body_signed=False,
        auth={"header": "X-Token", "prefix": "Key"},
    ),
    _case(
        "hmac",
        "any other that signs with HMAC",
        senders.sign_described,
        _hex_key,
        auth={
            "header": "X-Sig",
            "prefix": "v9=",
            "encoding": "base64",
            "algorithm": "sha512",
            "key": "hex",
            "signed": "{method}|{timestamp}|{body}",
            "timestamp": "header:X-Time",
            "timestampUnit": "milliseconds",
        },
    ),
)


def answer_of(case: Case) -> int:
    """The status that the sender gets for an accepted delivery."""
    preset = PRESETS.get(case.type)
    return 202 if preset is None else preset.answer


def note_of(case: Case) -> str:
    """What is known of the sender's retries, and who says so."""
    preset = PRESETS.get(case.type)
    if preset is None or not preset.note:
        return ""
    return f"[{preset.note}]({preset.source})" if preset.source else f"not verified: {preset.note}"
