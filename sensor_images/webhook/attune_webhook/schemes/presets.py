"""What is known about senders, as data. docs/webhook.md has a table of it, made from the tests.

Each entry was tried with the sender's own library where there is one, else with requests as its documentation describes them.
"""

from typing import Final

from attune_webhook.schemes.common import ACCESS_TOKEN, BEARER, STANDARD_ED25519, STANDARD_HMAC
from attune_webhook.schemes.developer_senders import DEVELOPER_SENDERS
from attune_webhook.schemes.model import Basic, Preset, SnsCertificate, Token, Variant
from attune_webhook.schemes.service_senders import SERVICE_SENDERS

#: Where senders name their deliveries, whatever their type: the first that is there counts.
GENERAL_IDS: Final = (
    ("header:idempotency-key",),
    ("header:webhook-id",),
    ("header:x-github-delivery",),
    ("header:ce-source", "header:ce-id"),
)

_STANDARD_IDS: Final = (("header:webhook-id",), ("header:svix-id",))


_GENERIC_SENDERS: Final = (
    Preset(name="none", title="anybody", needs_secret=False),
    Preset(
        name="bearer",
        title="any sender with a bearer token",
        variants=(Variant(checks=(BEARER,)),),
    ),
    Preset(name="basic", title="any sender with a user and password", variants=(Variant(checks=(Basic(),)),)),
    Preset(
        name="standard",
        title="Standard Webhooks (OpenAI, Replicate, Supabase); Svix (Clerk, Resend)",
        variants=(
            Variant(checks=STANDARD_ED25519, secret_prefixes=("whpk_",)),
            Variant(checks=STANDARD_HMAC),
        ),
        ids=_STANDARD_IDS,
        only_signed_ids=True,
        note="Svix: 15 s; retries after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h; off after 5 days of failures",
        source="https://docs.svix.com/retries",
    ),
    Preset(
        name="cloudevents",
        title="CloudEvents over HTTP",
        variants=(Variant(checks=(BEARER, ACCESS_TOKEN)),),
        ids=(("header:ce-source", "header:ce-id"), ("field:source", "field:id")),
        handshake="cloudevents",
        batch=True,
        note="the sender's affair; 410 ends a subscription, 429 slows it down",
        source="https://github.com/cloudevents/spec/blob/main/cloudevents/http-webhook.md#22-delivery-response",
    ),
    Preset(
        name="eventgrid",
        title="Azure Event Grid",
        variants=(
            Variant(checks=(BEARER, ACCESS_TOKEN, Token(source="query:code"), Token(source="header:x-attune-token"))),
        ),
        ids=(("field:source", "field:id"), ("field:topic", "field:id"), ("header:ce-source", "header:ce-id")),
        answer=200,
        handshake="eventgrid",
        batch=True,
        note="30 s; retries for 24 h, but for 400, 401, 403 and 413",
        source="https://learn.microsoft.com/azure/event-grid/delivery-and-retry",
    ),
    Preset(
        name="sns",
        title="Amazon SNS",
        variants=(Variant(checks=(SnsCertificate(),)),),
        needs_secret=False,
        ids=(("field:MessageId",),),
        only_signed_ids=True,
        answer=200,
        handshake="sns",
        parse_json=True,
        note="3 retries 20 s apart by default, when the server fails",
        source="https://docs.aws.amazon.com/sns/latest/dg/SendMessageToHttp.retry.html",
    ),
)

#: By their names: the values of ``auth.type``, in addition to the generic ``hmac`` and ``header``.
PRESETS: Final = {preset.name: preset for preset in (*_GENERIC_SENDERS, *DEVELOPER_SENDERS, *SERVICE_SENDERS)}
