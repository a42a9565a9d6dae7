"""The webhook sensor's parameters: what the manifest's schema says, and what the program takes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.rule_stream import rule_state

from attune_contract.resources import Sensor as SensorResource
from attune_contract.schemas.bounded import BoundedSchema
from attune_sensor import InvalidRule, Rule
from attune_webhook.parameters import DEFAULT_HEADERS, Hook, hook_of

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
    schema = BoundedSchema(json.dumps(DECLARED.parameters_schema).encode())
    return schema.errors(json.dumps(parameters).encode(), limit=1) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"path": "/a", "auth": OPEN},
        {"path": "/github/push.v2/~x", "auth": SIGNED, "methods": ["POST", "PUT"], "idHeader": "X-Delivery"},
        {"path": "/a", "auth": {"type": "stripe", "secrets": ["h/a", "h.b/c.d_E"], "toleranceSeconds": 1}},
        {"path": "/a", "auth": {"type": "bearer", "secrets": ["h/a"]}, "headers": [], "maxBodyBytes": 716800},
        {"path": "/a", "auth": {"type": "standard", "secrets": ["h/a"]}, "rate": {"perSecond": 0.1, "burst": 1}},
        {"path": "/a", "auth": OPEN, "headers": ["X-One"], "rate": {}},
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
        {"path": "/", "auth": OPEN},
        {"path": "/a/", "auth": OPEN},
        {"path": "/a//b", "auth": OPEN},
        {"path": "/a/../b", "auth": OPEN},
        {"path": "/a%20b", "auth": OPEN},
        {"path": "/" + "a" * 256, "auth": OPEN},
        {"path": "/a", "auth": {}},
        {"path": "/a", "auth": {"type": "hmac", "secrets": ["h/a"]}},
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
    with pytest.raises(InvalidRule):
        hook(parameters)


@pytest.mark.parametrize("name", ["Authorization", "cookie", "X-Hub-Signature-256", "Stripe-Signature"])
def test_headers_with_secrets_are_never_carried(name: str) -> None:
    with pytest.raises(InvalidRule, match="holds a secret"):
        hook({"path": "/a", "auth": OPEN, "headers": [name]})


def test_defaults_in_the_schema_are_the_programs() -> None:
    assert DECLARED is not None
    assert DECLARED.parameters_schema is not None
    properties = DECLARED.parameters_schema["properties"]
    made = hook({"path": "/a", "auth": SIGNED})
    assert sorted(made.methods) == properties["methods"]["default"]
    assert made.auth.tolerance == properties["auth"]["properties"]["toleranceSeconds"]["default"]
    assert made.max_body == properties["maxBodyBytes"]["default"]
    assert made.rate == properties["rate"]["properties"]["perSecond"]["default"]
    assert list(DEFAULT_HEADERS) == properties["headers"]["default"]
