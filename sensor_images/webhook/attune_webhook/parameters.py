"""From a rule's parameters to its hook; what is wrong with them is said in a sentence for the rule's author."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from attune_sensor import InvalidRule, Rule

WEBHOOK: Final = "core.webhook"

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
DEFAULT_METHODS: Final = ("POST",)
DEFAULT_MAX_BODY: Final = 256 * 1024
#: In base64 it is still less than what the API takes as one event.
LARGEST_BODY: Final = 700 * 1024
DEFAULT_RATE: Final = 100.0
LARGEST_RATE: Final = 10_000.0
DEFAULT_TOLERANCE: Final = 300
LARGEST_TOLERANCE: Final = 86_400
MOST_SECRETS: Final = 8
MOST_HEADERS: Final = 32
#: What is carried into the payload unless the rule says otherwise: what tells kinds of deliveries apart.
DEFAULT_HEADERS: Final = (
    "user-agent",
    "x-github-event",
    "x-github-delivery",
    "x-github-hook-id",
    "x-gitlab-event",
    "webhook-id",
    "webhook-timestamp",
)
#: They hold secrets, or what is as good as one.
SECRET_HEADERS: Final = frozenset(
    {
        "authorization",
        "cookie",
        "proxy-authorization",
        "stripe-signature",
        "webhook-signature",
        "x-hub-signature",
        "x-hub-signature-256",
        "x-gitlab-token",
    }
)

_PATH: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")
_LONGEST_PATH: Final = 256
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_SECRET: Final = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/(?!\.\.)[-._a-zA-Z0-9]{1,253}"
)
_FIELDS: Final = frozenset({"path", "methods", "auth", "headers", "idHeader", "maxBodyBytes", "rate"})
_AUTH_FIELDS: Final = frozenset({"type", "secrets", "toleranceSeconds"})


class Scheme(StrEnum):
    """How a sender shows that it may send."""

    NONE = "none"
    BEARER = "bearer"  #: the secret itself, in the header Authorization
    GITHUB = "github"  #: X-Hub-Signature-256: HMAC-SHA-256 of the body
    STRIPE = "stripe"  #: Stripe-Signature: HMAC-SHA-256 of a time and the body
    STANDARD = "standard"  #: webhook-signature (Standard Webhooks): HMAC-SHA-256 of an id, a time and the body


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """Who may send. ``secrets`` are references, ``name/key``; ``tolerance`` is in seconds."""

    scheme: Scheme
    secrets: tuple[str, ...] = ()
    tolerance: int = DEFAULT_TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """What one rule takes. ``rate`` is requests in a second, ``burst`` how many may come at once; headers are in lower case."""

    path: str
    methods: frozenset[str] = frozenset(DEFAULT_METHODS)
    auth: Auth
    headers: tuple[str, ...] = DEFAULT_HEADERS
    id_header: str | None = None
    max_body: int = DEFAULT_MAX_BODY
    rate: float = DEFAULT_RATE
    burst: int = int(DEFAULT_RATE) * 2


def hook_of(rule: Rule) -> Hook:
    """The rule's hook.

    Raises:
        InvalidRule: the parameters cannot be used.
    """
    parameters = rule.parameters
    _known(parameters, _FIELDS, "parameters")
    rate, burst = _rate(parameters.get("rate", {}))
    id_header = parameters.get("idHeader")
    return Hook(
        path=_path(parameters.get("path")),
        methods=_methods(parameters.get("methods", list(DEFAULT_METHODS))),
        auth=_auth(parameters.get("auth")),
        headers=_headers(parameters.get("headers", list(DEFAULT_HEADERS))),
        id_header=None if id_header is None else _header(id_header, "parameters.idHeader"),
        max_body=_whole(parameters.get("maxBodyBytes", DEFAULT_MAX_BODY), "parameters.maxBodyBytes", 1, LARGEST_BODY),
        rate=rate,
        burst=burst,
    )


def _known(found: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    if unknown := sorted(set(found) - known):
        raise InvalidRule(f"{where}.{unknown[0]} is not known; there are {', '.join(sorted(known))}")


def _path(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_PATH or not _PATH.fullmatch(value):
        raise InvalidRule(f"parameters.path is {value!r}; write a path like /github/push, of letters, digits and ._~-")
    return value


def _methods(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not value or not all(method in METHODS for method in value):
        raise InvalidRule(f"parameters.methods is {value!r}; write a list of {', '.join(METHODS)}")
    return frozenset(value)


def _auth(value: Any) -> Auth:
    if not isinstance(value, dict) or value.get("type") not in list(Scheme):
        raise InvalidRule(f"parameters.auth.type must be one of {', '.join(Scheme)}; none lets everybody in")
    _known(value, _AUTH_FIELDS, "parameters.auth")
    scheme, secrets = Scheme(value["type"]), value.get("secrets", [])
    if scheme is Scheme.NONE:
        if secrets:
            raise InvalidRule(
                "parameters.auth.secrets is of no use with type none; leave it out, or choose another type"
            )
        return Auth(scheme=scheme)
    if (
        not isinstance(secrets, list)
        or not 1 <= len(secrets) <= MOST_SECRETS
        or not all(isinstance(each, str) and _SECRET.fullmatch(each) for each in secrets)
    ):
        raise InvalidRule(
            f"parameters.auth.secrets is {secrets!r}; name 1 to {MOST_SECRETS} keys of the Secrets that the Sensor lists "
            "(spec.secrets), like hooks/github"
        )
    tolerance = _whole(
        value.get("toleranceSeconds", DEFAULT_TOLERANCE), "parameters.auth.toleranceSeconds", 1, LARGEST_TOLERANCE
    )
    return Auth(scheme=scheme, secrets=tuple(secrets), tolerance=tolerance)


def _headers(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_HEADERS:
        raise InvalidRule(f"parameters.headers is {value!r}; write a list of at most {MOST_HEADERS} names")
    return tuple(dict.fromkeys(_header(name, "parameters.headers") for name in value))


def _header(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _HEADER.fullmatch(value):
        raise InvalidRule(f"{where} has {value!r}, which is no header's name; write one like X-GitHub-Event")
    if value.lower() in SECRET_HEADERS:
        raise InvalidRule(f"{where} has {value}, which holds a secret; events are read by more people than may know it")
    return value.lower()


def _rate(value: Any) -> tuple[float, int]:
    if not isinstance(value, dict):
        raise InvalidRule(f"parameters.rate is {value!r}; write it like {{perSecond: 10, burst: 20}}")
    _known(value, frozenset({"perSecond", "burst"}), "parameters.rate")
    rate = value.get("perSecond", DEFAULT_RATE)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= LARGEST_RATE:
        raise InvalidRule(f"parameters.rate.perSecond is {rate!r}; write a number above 0, at most {LARGEST_RATE:g}")
    burst = value.get("burst", max(1, int(rate * 2)))
    return float(rate), _whole(burst, "parameters.rate.burst", 1, int(LARGEST_RATE) * 2)


def _whole(value: Any, where: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidRule(f"{where} is {value!r}; write a whole number from {least} to {most}")
    return value
