"""How senders ask whether an address is right before they send events, and what they are answered.

A handshake makes no event. Where its request is signed like others, it is answered only after the signature was checked.
"""

import hmac
import re
from collections.abc import Sequence
from typing import Any, Final

from attune_webhook.http.answers import JSON, Answer, json_answer, text_answer
from attune_webhook.http.request import Request, field_of

#: The values of the parameter ``handshake``, in addition to none.
HANDSHAKES: Final = ("slack", "zoom", "eventgrid", "cloudevents", "discord", "meta", "twitch", "dropbox", "sns")

_LONGEST_CHALLENGE: Final = 4096
_ORIGIN: Final = re.compile(r"[A-Za-z0-9.:*/_-]{1,256}")
#: Kinds of Discord's interactions that may be answered later: commands, components and submitted modals.
_DISCORD_DEFERRED: Final = frozenset({2, 3, 5})


def before_body(name: str, request: Request, *, verify_tokens: Sequence[bytes]) -> Answer | None:
    """The answer to a handshake that has no body; None when the request is none.

    Args:
        name: which handshake.
        request: the request, without its body.
        verify_tokens: Meta: what ``hub.verify_token`` must be.
    """
    match name, request.method:
        case (("cloudevents" | "eventgrid"), "OPTIONS"):
            return _allowed_origin(request)
        case "meta", "GET":
            return _meta(request, verify_tokens)
        case "dropbox", "GET":
            return _echo(_only(request, "challenge"))
    return None


def with_body(name: str, request: Request, *, keys: Sequence[bytes]) -> Answer | None:
    """The answer to a handshake in the body of a request that was authenticated; None when the request is none.

    Args:
        name: which handshake.
        request: the request.
        keys: the keys of the rule's secrets (Zoom).
    """
    data = request.read.data
    match name:
        case "slack" if field_of(data, "type") == "url_verification":
            return _json_echo(data, "challenge", "challenge")
        case "zoom" if field_of(data, "event") == "endpoint.url_validation":
            return _zoom(data, keys)
        case "eventgrid" if _is_event_grid_validation(data):
            return _json_echo(data, "0.data.validationCode", "validationResponse")
        case "twitch" if request.headers.get("twitch-eventsub-message-type") == "webhook_callback_verification":
            return _echo(field_of(data, "challenge"))
        case "discord":
            return _discord_ping(data)
    return None


def accepted_body(name: str | None, request: Request) -> Answer | None:
    """The answer to an accepted event where the sender wants one of its own; None when the usual one will do."""
    if name == "discord" and field_of(request.read.data, "token") is not None:
        kind = field_of(request.read.data, "type")
        if kind in _DISCORD_DEFERRED and not isinstance(kind, bool):
            return json_answer(200, {"type": 5})
    return None


def _allowed_origin(request: Request) -> Answer | None:
    """https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#4-abuse-protection"""
    origin = request.headers.get("webhook-request-origin", "")
    if not _ORIGIN.fullmatch(origin):
        return None
    headers = [("Allow", "POST"), ("WebHook-Allowed-Origin", origin)]
    rate = request.headers.get("webhook-request-rate")
    if rate is not None:
        headers.append(("WebHook-Allowed-Rate", rate if rate.isascii() and rate.isdigit() and len(rate) < 10 else "*"))
    return Answer(200, headers=tuple(headers))


def _meta(request: Request, verify_tokens: Sequence[bytes]) -> Answer | None:
    """https://developers.facebook.com/docs/graph-api/webhooks/getting-started#verification-requests"""
    if _only(request, "hub.mode") != "subscribe":
        return None
    given = (_only(request, "hub.verify_token") or "").encode("utf-8", "surrogateescape")
    matches = False
    for token in verify_tokens:
        matches |= hmac.compare_digest(given, token)
    if not matches:
        return None
    return _echo(_only(request, "hub.challenge"))


def _zoom(data: Any, keys: Sequence[bytes]) -> Answer | None:
    """https://developers.zoom.us/docs/api/webhooks/#validate-your-webhook-endpoint"""
    token = field_of(data, "payload.plainToken")
    if not isinstance(token, str) or not 0 < len(token) <= _LONGEST_CHALLENGE or not keys:
        return None
    return json_answer(
        200, {"plainToken": token, "encryptedToken": hmac.digest(keys[0], token.encode(), "sha256").hex()}
    )


def _is_event_grid_validation(data: Any) -> bool:
    kind = field_of(data, "0.eventType")
    return kind == "Microsoft.EventGrid.SubscriptionValidationEvent" and isinstance(data, list) and len(data) == 1


def _discord_ping(data: Any) -> Answer | None:
    """Interactions ping with type 1, webhook events with type 0; type 1 is an event where there is one."""
    kind = field_of(data, "type")
    if isinstance(kind, bool) or not isinstance(data, dict):
        return None
    if kind == 1 and "event" not in data:
        return json_answer(200, {"type": 1})
    # It asks for a content type although there is no content.
    return Answer(204, headers=(("Content-Type", JSON),)) if kind == 0 else None


def _only(request: Request, name: str) -> str | None:
    values = request.query.get(name, [])
    return values[0] if len(values) == 1 else None


def _echo(text: Any) -> Answer | None:
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_CHALLENGE:
        return None
    return text_answer(200, text)


def _json_echo(data: Any, path: str, name: str) -> Answer | None:
    text = field_of(data, path)
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_CHALLENGE:
        return None
    return json_answer(200, {name: text})
