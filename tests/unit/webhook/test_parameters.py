"""The webhook sensor's parameters: what the manifest's schema says, and what the program takes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.rule_stream import rule_state

from attune_contract.resources import Sensor as SensorResource
from attune_contract.schemas.json_schema import JsonSchema
from attune_sensor import InvalidRuleError, Rule
from attune_webhook.auth import TYPES
from attune_webhook.handshakes import HANDSHAKES
from attune_webhook.parameters import ANSWERS, DEFAULT_HEADERS, Hook, hook_of
from attune_webhook.secrecy import NAMES, WORDS

PACK = Path(__file__).parents[3] / "packs" / "core"
SENSOR = SensorResource.from_object(yaml.safe_load((PACK / "core.webhook.yaml").read_text()))
DECLARED = SENSOR.spec.canonical("core.webhook")
OPEN = {"type": "none"}
SIGNED = {"type": "github", "secrets": ["hooks/github"]}


def hook(parameters: dict[str, Any]) -> Hook:
    return hook_of(Rule(state=rule_state(parameters=parameters, trigger_type="core.webhook"), since_us=0))


def accepted(parameters: dict[str, Any]) -> bool:
    """Whether the operator accepts them."""
    assert DECLARED is not None
    schema = JsonSchema(json.dumps(DECLARED.parameters_schema).encode())
    return schema.violations(json.dumps(parameters).encode(), limit=1) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"path": "/a", "auth": OPEN},
        {"path": "/github/push.v2/~x", "auth": SIGNED, "methods": ["POST", "PUT"], "idHeader": "X-Delivery"},
        {"path": "/a", "auth": {"type": "stripe", "secrets": ["h/a", "h.b/c.d_E"], "toleranceSeconds": 1}},
        {"path": "/a", "auth": {"type": "bearer", "secrets": ["h/a"]}, "headers": [], "maxBodyBytes": 716800},
        {"path": "/a", "auth": {"type": "standard", "secrets": ["h/a"]}, "rate": {"perSecond": 0.1, "burst": 1}},
        {"path": "/a", "auth": OPEN, "headers": ["X-One"], "rate": {}},
        {"path": "/", "auth": OPEN},
        {"path": "/a/", "auth": OPEN},
        {"path": "/.well-known/x", "auth": OPEN},
        {"path": "/teams/{team}/{_x1}", "auth": OPEN},
        {"path": "/a", "auth": OPEN, "idHeader": ["ce-source", "ce-id"], "idField": "events.0.id"},
        {"path": "/a", "auth": OPEN, "idField": ["source", "id"], "answer": 204, "parseJson": True, "batch": True},
        {"path": "/a", "auth": OPEN, "handshake": "cloudevents"},
        {"path": "/a", "auth": {"type": "slack", "secrets": ["h/a"]}, "handshake": "none"},
        {"path": "/a", "auth": OPEN, "when": {"headers": {"X-GitHub-Event": ["push", "ping"]}}},
        {"path": "/a", "auth": OPEN, "when": {"fields": {"action": "opened", "a.0.b": [1, True, None]}}},
        {"path": "/a", "auth": {"type": "twilio", "secrets": ["h/a"], "publicUrl": "https://x.example.org/p"}},
        {"path": "/a", "auth": {"type": "sns", "topics": ["arn:aws:sns:eu-west-1:123456789012:builds"]}},
        {"path": "/a", "auth": {"type": "meta", "secrets": ["h/a"], "verifyToken": "h/b"}},
        {"path": "/a", "auth": {"type": "header", "secrets": ["h/a"], "header": "X-Token", "prefix": "Key"}},
        {"path": "/a", "auth": {"type": "hmac", "secrets": ["h/a"], "header": "X-Signature"}},
        {
            "path": "/a",
            "auth": {
                "type": "hmac",
                "secrets": ["h/a"],
                "header": "X-Sig",
                "prefix": "v0=",
                "separator": ",",
                "encoding": "base64",
                "algorithm": "sha512",
                "signed": "v0:{timestamp}:{method}:{url}:{header:x-id}:{body}",
                "timestamp": "header:X-Time",
                "timestampUnit": "milliseconds",
                "key": "hex",
                "publicUrl": "http://a",
                "toleranceSeconds": 60,
            },
        },
    ],
)
def test_what_the_operator_accepts_is_served(parameters: dict[str, Any]) -> None:
    assert accepted(parameters)
    hook(parameters)


@pytest.mark.parametrize(
    "parameters",
    [
        {"auth": OPEN},
        {"path": "/a"},
        {"path": "a", "auth": OPEN},
        {"path": "/a//b", "auth": OPEN},
        {"path": "/..", "auth": OPEN},
        {"path": "/a/{b", "auth": OPEN},
        {"path": "/a/{}", "auth": OPEN},
        {"path": "/a/x{b}", "auth": OPEN},
        {"path": "/a", "auth": OPEN, "idField": "a..b"},
        {"path": "/a", "auth": OPEN, "idHeader": []},
        {"path": "/a", "auth": OPEN, "answer": 404},
        {"path": "/a", "auth": OPEN, "handshake": "sns"},
        {"path": "/a", "auth": OPEN, "handshake": "hello"},
        {"path": "/a", "auth": OPEN, "batch": "yes"},
        {"path": "/a", "auth": OPEN, "when": {}},
        {"path": "/a", "auth": OPEN, "when": {"headers": {"X-A": 1}}},
        {"path": "/a", "auth": OPEN, "when": {"fields": {"a": {"b": 1}}}},
        {"path": "/a", "auth": OPEN, "when": {"body": {"a": 1}}},
        {"path": "/a", "auth": {"type": "sns"}},
        {"path": "/a", "auth": {"type": "sns", "topics": ["builds"]}},
        {"path": "/a", "auth": {"type": "sns", "topics": ["arn:aws:sns:eu-west-1:123456789012:a"], "secrets": ["h/a"]}},
        {"path": "/a", "auth": {"type": "github", "secrets": ["h/a"], "topics": []}},
        {"path": "/a", "auth": {"type": "github", "secrets": ["h/a"], "header": "X-A"}},
        {"path": "/a", "auth": {"type": "twilio", "secrets": ["h/a"], "publicUrl": "hooks.example.org"}},
        {"path": "/a", "auth": {"type": "header", "secrets": ["h/a"]}},
        {"path": "/a", "auth": {"type": "header", "secrets": ["h/a"], "header": "X-A", "signed": "{body}"}},
        {"path": "/a", "auth": {"type": "hmac", "secrets": ["h/a"]}},
        {"path": "/a", "auth": {"type": "hmac", "secrets": ["h/a"], "header": "X-A", "algorithm": "md5"}},
        {"path": "/a", "auth": {"type": "hmac", "secrets": ["h/a"], "header": "X-A", "algorithm": "ed25519"}},
        {"path": "/a", "auth": {"type": "hmac", "secrets": ["h/a"], "header": "X-A", "key": "user:password"}},
        {"path": "/a", "auth": {"type": "hmac", "secrets": ["h/a"], "header": "X-A", "signed": "{header:x-time}"}},
        {"path": "/a", "auth": {"type": "hmac", "secrets": ["h/a"], "header": "X-A", "signed": "{body}{nonsense}"}},
        {"path": "/a", "auth": {"type": "hmac", "secrets": ["h/a"], "header": "X-A", "signed": "{timestamp}{body}"}},
        {"path": "/a", "auth": {"type": "hmac", "secrets": ["h/a"], "header": "X-A", "timestamp": "header:X-T"}},
        {"path": "/a/../b", "auth": OPEN},
        {"path": "/a%20b", "auth": OPEN},
        {"path": "/" + "a" * 256, "auth": OPEN},
        {"path": "/a", "auth": {}},
        {"path": "/a", "auth": {"type": "github"}},
        {"path": "/a", "auth": {"type": "github", "secrets": []}},
        {"path": "/a", "auth": {"type": "github", "secrets": ["a"]}},
        {"path": "/a", "auth": {"type": "github", "secrets": ["../b"]}},
        {"path": "/a", "auth": {"type": "github", "secrets": ["a/../b"]}},
        {"path": "/a", "auth": {"type": "github", "secrets": ["a/.."]}},
        {"path": "/a", "auth": {"type": "none", "secrets": ["h/a"]}},
        {"path": "/a", "auth": {"type": "github", "secrets": ["h/a"] * 9}},
        {"path": "/a", "auth": OPEN, "methods": []},
        {"path": "/a", "auth": OPEN, "methods": ["HEAD"]},
        {"path": "/a", "auth": OPEN, "headers": ["a b"]},
        {"path": "/a", "auth": OPEN, "idHeader": ""},
        {"path": "/a", "auth": OPEN, "maxBodyBytes": 716801},
        {"path": "/a", "auth": OPEN, "rate": {"perSecond": 0}},
        {"path": "/a", "auth": OPEN, "rate": {"burst": 0}},
        {"path": "/a", "auth": OPEN, "secret": "x"},
    ],
)
def test_what_the_operator_refuses_is_not_served_either(parameters: dict[str, Any]) -> None:
    assert not accepted(parameters)
    with pytest.raises(InvalidRuleError):
        hook(parameters)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "cookie",
        "X-Hub-Signature-256",
        "Stripe-Signature",
        "svix-signature",
        "X-Slack-Signature",
        "x-api-key",
        "X-Shopify-Hmac-Sha256",
        "X-Auth-Token",
        "X-Gitlab-Token",
        "Proxy-Authorization",
    ],
)
def test_headers_with_secrets_are_never_carried(name: str) -> None:
    with pytest.raises(InvalidRuleError, match="holds a secret"):
        hook({"path": "/a", "auth": OPEN, "headers": [name]})
    assert not accepted({"path": "/a", "auth": OPEN, "headers": [name]})


@pytest.mark.parametrize("word", [*sorted(WORDS), *sorted(NAMES)])
def test_the_schema_knows_the_same_secrets_as_the_program(word: str) -> None:
    names = [word, word.upper()]
    if word in WORDS:
        names += [f"X-{word}-1", word.replace("key", "-key").replace("pass", "pass_")]
    for name in names:
        assert not accepted({"path": "/a", "auth": OPEN, "headers": [name]}), name


@pytest.mark.parametrize("name", ["X-Key-Id", "Monkey", "X-Code", "X-Author", "X-Assigned"])
def test_names_that_only_resemble_secrets_are_carried(name: str) -> None:
    assert accepted({"path": "/a", "auth": OPEN, "headers": [name]})
    assert hook({"path": "/a", "auth": OPEN, "headers": [name]}).headers == (name.lower(),)


def test_defaults_in_the_schema_are_the_programs() -> None:
    assert DECLARED is not None
    assert DECLARED.parameters_schema is not None
    properties = DECLARED.parameters_schema["properties"]
    made = hook({"path": "/a", "auth": SIGNED})
    assert sorted(made.methods) == properties["methods"]["default"]
    assert list(TYPES) == properties["auth"]["properties"]["type"]["enum"]
    assert ["none", *HANDSHAKES] == properties["handshake"]["enum"]
    assert list(ANSWERS) == properties["answer"]["enum"]
    assert made.auth.tolerance == properties["auth"]["properties"]["toleranceSeconds"]["default"]
    assert made.max_body == properties["maxBodyBytes"]["default"]
    assert made.rate == properties["rate"]["properties"]["perSecond"]["default"]
    assert list(DEFAULT_HEADERS) == properties["headers"]["default"]
