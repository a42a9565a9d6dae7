"""From a rule's parameters to its hook. What is wrong with them becomes a sentence for the rule's author."""

from dataclasses import dataclass
from typing import Any, Final

from attune_sensor import InvalidRuleError, Rule
from attune_webhook.auth import Auth, auth_of
from attune_webhook.conditions import ANY_REQUEST, Condition, condition_of
from attune_webhook.handshakes import HANDSHAKES
from attune_webhook.parameter_types import field_path, flag, header_name, known_fields, whole_number
from attune_webhook.paths import PathTemplate, path_of
from attune_webhook.schemes.presets import GENERAL_IDS
from attune_webhook.secrecy import holds_secret

WEBHOOK: Final = "core.webhook"

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
DEFAULT_METHODS: Final = ("POST",)
#: More than the round numbers of senders: an SNS message of 256 KiB also has its envelope.
DEFAULT_MAX_BODY: Final = 512 * 1024
#: In base64 it is still less than what the API takes as one event.
LARGEST_BODY: Final = 700 * 1024
DEFAULT_RATE: Final = 100.0
LARGEST_RATE: Final = 10_000.0
MOST_HEADERS: Final = 32
MOST_ID_PARTS: Final = 4
ANSWERS: Final = (200, 201, 202, 204)
#: Headers that events carry unless the rule says otherwise: those that tell kinds of deliveries apart.
DEFAULT_HEADERS: Final = (
    "user-agent",
    "x-github-event",
    "x-github-delivery",
    "x-github-hook-id",
    "x-gitlab-event",
    "webhook-id",
    "webhook-timestamp",
    "svix-id",
    "x-event-key",
    "x-shopify-topic",
    "x-shopify-shop-domain",
    "linear-event",
    "ce-specversion",
    "ce-id",
    "ce-source",
    "ce-type",
    "ce-subject",
    "ce-time",
)
_FIELDS: Final = frozenset(
    {
        "answer",
        "auth",
        "batch",
        "handshake",
        "headers",
        "idField",
        "idHeader",
        "maxBodyBytes",
        "methods",
        "parseJson",
        "path",
        "rate",
        "when",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """What one rule takes.

    Attributes:
        path: where requests go.
        methods: those that are accepted.
        auth: who may send.
        when: which of the requests to the path.
        headers: those that the event carries, in lower case.
        ids: where a delivery is named, the first that is there counts; the sources of one entry count together.
        max_body: bytes.
        rate: requests in a second.
        burst: how many may come at once.
        answer: the status of an accepted request.
        answer_body: whether that answer has a body.
        handshake: how the sender asks whether the address is right.
        batch: whether an array of objects is one event each.
        parse_json: read the body as JSON whatever its content type is.
    """

    path: PathTemplate
    methods: frozenset[str] = frozenset(DEFAULT_METHODS)
    auth: Auth
    when: Condition = ANY_REQUEST
    headers: tuple[str, ...] = DEFAULT_HEADERS
    ids: tuple[tuple[str, ...], ...] = GENERAL_IDS
    max_body: int = DEFAULT_MAX_BODY
    rate: float = DEFAULT_RATE
    burst: int = int(DEFAULT_RATE) * 2
    answer: int = 202
    answer_body: bool = True
    handshake: str | None = None
    batch: bool = False
    parse_json: bool = False


def hook_of(rule: Rule) -> Hook:
    """The rule's hook.

    Raises:
        InvalidRuleError: the parameters cannot be used.
    """
    parameters = rule.parameters
    known_fields(parameters, _FIELDS, "parameters")
    auth = auth_of(parameters.get("auth"))
    preset = auth.preset
    rate, burst = _rate(parameters.get("rate", {}))
    answer = _answer(parameters.get("answer", preset.answer))
    return Hook(
        path=_path(parameters.get("path")),
        methods=_methods(parameters.get("methods", list(DEFAULT_METHODS))),
        auth=auth,
        when=condition_of(parameters.get("when")),
        headers=_headers(parameters.get("headers", list(DEFAULT_HEADERS))),
        ids=_ids(auth, parameters.get("idHeader"), parameters.get("idField")),
        max_body=whole_number(
            parameters.get("maxBodyBytes", DEFAULT_MAX_BODY), "parameters.maxBodyBytes", 1, LARGEST_BODY
        ),
        rate=rate,
        burst=burst,
        answer=answer,
        answer_body=preset.answer_body and answer != 204,
        handshake=_handshake(parameters.get("handshake", preset.handshake), auth),
        batch=flag(parameters.get("batch", preset.batch), "parameters.batch"),
        parse_json=flag(parameters.get("parseJson", preset.parse_json), "parameters.parseJson"),
    )


def _path(value: Any) -> PathTemplate:
    found = path_of(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidRuleError(
            f"parameters.path: expected a path like /github/push or /teams/{{team}}, of letters, digits and ._~-; got {value!r}"
        )
    return found


def _methods(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not value or not all(method in METHODS for method in value):
        raise InvalidRuleError(f"parameters.methods: expected a list of {', '.join(METHODS)}; got {value!r}")
    return frozenset(value)


def _headers(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_HEADERS:
        raise InvalidRuleError(f"parameters.headers: expected a list of at most {MOST_HEADERS} names; got {value!r}")
    names = [header_name(name, "parameters.headers") for name in value]
    for name in names:
        if holds_secret(name):
            raise InvalidRuleError(
                f"parameters.headers: {name} holds a secret; more people read events than may know it"
            )
    return tuple(dict.fromkeys(names))


def _ids(auth: Auth, id_header: Any, id_field: Any) -> tuple[tuple[str, ...], ...]:
    own: list[tuple[str, ...]] = []
    if id_header is not None:
        names = _list(id_header, "parameters.idHeader")
        own.append(tuple(f"header:{header_name(name, 'parameters.idHeader')}" for name in names))
    if id_field is not None:
        paths = _list(id_field, "parameters.idField")
        own.append(tuple(f"field:{field_path(path, 'parameters.idField')}" for path in paths))
    preset = auth.preset
    known = preset.ids if preset.only_signed_ids else (*preset.ids, *GENERAL_IDS)
    return (*own, *dict.fromkeys(known))


def _list(value: Any, where: str) -> list[Any]:
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= MOST_ID_PARTS:
        raise InvalidRuleError(
            f"{where}: expected a name, or a list of 1 to {MOST_ID_PARTS} that count together; got {value!r}"
        )
    return values


def _answer(value: Any) -> int:
    if isinstance(value, bool) or value not in ANSWERS:
        raise InvalidRuleError(f"parameters.answer: expected one of: {', '.join(map(str, ANSWERS))}; got {value!r}")
    return int(value)


def _handshake(value: Any, auth: Auth) -> str | None:
    if value is None or value == "none":
        return None
    if value not in HANDSHAKES:
        raise InvalidRuleError(f"parameters.handshake: expected one of: none, {', '.join(HANDSHAKES)}; got {value!r}")
    if value == "sns" and not auth.by_certificate:
        raise InvalidRuleError(
            "parameters.handshake: sns needs auth.type sns, so that no stranger can have an URL fetched"
        )
    return str(value)


def _rate(value: Any) -> tuple[float, int]:
    if not isinstance(value, dict):
        raise InvalidRuleError(f"parameters.rate: expected something like {{perSecond: 10, burst: 20}}; got {value!r}")
    known_fields(value, frozenset({"perSecond", "burst"}), "parameters.rate")
    rate = value.get("perSecond", DEFAULT_RATE)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= LARGEST_RATE:
        raise InvalidRuleError(
            f"parameters.rate.perSecond: expected a number above 0, at most {LARGEST_RATE:g}; got {rate!r}"
        )
    burst = value.get("burst", max(1, int(rate * 2)))
    return float(rate), whole_number(burst, "parameters.rate.burst", 1, int(LARGEST_RATE) * 2)
