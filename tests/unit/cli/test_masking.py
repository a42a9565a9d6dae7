"""What the doctor writes has no secret in it, wherever it stood."""

import base64
import json
import string
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bundles import contents

from attune_cli.doctor.bundle import Bundle
from attune_cli.doctor.masking import MASK, Masker, names_a_secret

NOW = datetime(2026, 11, 28, tzinfo=UTC)
#: Begins with what stands nowhere else, so that finding it means that it was leaked.
SECRETS = st.text(string.ascii_letters + string.digits + "!#$%&*+,-./:;<=>?@[]^_{|}~()", min_size=6, max_size=40).map(
    lambda rest: f"Zq7{rest}"
)
WORDS = st.text(string.ascii_letters + string.digits, min_size=6, max_size=40).map(lambda rest: f"Zq7{rest}")
NAMES = st.sampled_from(
    [
        "password", "DB_PASSWORD", "dbPassword", "sslpassword", "api_key", "apiKey", "X-Api-Key", "token", "accessToken",
        "client_secret", "Authorization", "cookie", "private_key", "credentials", "authtoken", "passphrase",
        "AWS_SECRET_ACCESS_KEY",
    ]
)  # fmt: skip

#: Lines of logs and of configuration files: a name like a secret's, and the secret.
TEXTS: dict[str, Callable[[str, str], str]] = {
    "assigned": lambda name, secret: f"starting with {name}={secret} and more",
    "field": lambda name, secret: f"{name}: {secret}",
    "field in a sentence": lambda name, secret: f"the target said {name}: {secret} is wrong",
    "quoted": lambda name, secret: f"saw '{name}': '{secret}'",
    "JSON line": lambda name, secret: json.dumps({"event": "sent", "level": "info", name: secret}),
    "JSON in JSON": lambda name, secret: json.dumps({"event": "sent", "body": json.dumps({name: secret})}),
    "JSON in a line": lambda name, secret: f"body was {json.dumps({'a': 1, name: secret})} there",
    "option": lambda name, secret: f"ran --{name}={secret}",
    "YAML": lambda name, secret: yaml.safe_dump({"server": {"port": 1, name: secret, "host": "db"}}),
    "YAML list": lambda name, secret: yaml.safe_dump({name: [secret, secret + "x"], "host": "db"}),
    "YAML block": lambda name, secret: f"a: 1\n{name}: |\n  {secret}\n  {secret}\nb: 2\n",
    "indented JSON": lambda name, secret: json.dumps({"a": {name: [secret]}}, indent=2),
}
#: The same without a name: what a secret looks like by itself.
BARE: dict[str, Callable[[str], str]] = {
    "URL": lambda word: f"cannot reach postgresql://attune:{word}@db:5432/attune now",
    "URL, password with slashes": lambda word: f"cannot reach amqp://attune:a/{word}@mq/vhost now",
    "URL, token as user": lambda word: f"git clone https://{word}@example.org/x.git",
    "query": lambda word: f'GET /hook?id=1&access_token={word}&page=2 HTTP/1.1" 200',
    "bearer": lambda word: f"sent Authorization: Bearer {word}",
    "bearer alone": lambda word: f"header was bearer {word}, refused",
    "JSON Web Token": lambda word: f"refused eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.{word} twice",
    "private key": lambda word: f"-----BEGIN PRIVATE KEY-----\n{word}\n{word}\n-----END PRIVATE KEY-----\n",
    "private key, cut": lambda word: f"read -----BEGIN EC PRIVATE KEY-----\\n{word}\\n{word}",
    "NATS credentials": lambda word: f"------BEGIN USER NKEY SEED------\n{word}\n------END USER NKEY SEED------\n",
    "Slack": lambda word: f"POST https://hooks.slack.com/services/T01/B02/{word} failed",
    "Slack, escaped": lambda word: f'{{"at":"https:\\/\\/hooks.slack.com\\/services\\/T01\\/B02\\/{word}", half',
    "Discord": lambda word: f"POST https://discord.com/api/v10/webhooks/123/{word} failed",
    "Discord, id": lambda word: f"POST https://discordapp.com/api/webhooks/{word}/x: 404",
    "Teams": lambda word: f"sent to https://acme.webhook.office.com/webhookb2/{word}@a/IncomingWebhook/b/c",
    "Teams, before": lambda word: f"sent to https://outlook.office.com/webhook/a@b/IncomingWebhook/{word}/c",
    "Azure": lambda word: f"to https://prod-1.westeurope.logic.azure.com:443/workflows/{word}/triggers",
    "Telegram": lambda word: f"GET https://api.telegram.org/bot123:{word}/sendMessage",
    "Mattermost": lambda word: f"POST https://chat.example.org:8443/hooks/{word} 200",
    "curl": lambda word: f"ran curl -u me:{word} https://example.org",
    "curl, one word": lambda word: f"ran curl -sSume:{word} https://example.org",
    "curl, quoted": lambda word: f"ran curl --user 'me:a b{word}' https://example.org",
    "curl, proxy": lambda word: f'ran curl --proxy-user="me:{word} b" https://example.org',
    "GitHub": lambda word: f"pushed with ghp_{word} to it",
}
#: Objects of Kubernetes.
OBJECTS: dict[str, Callable[[str, str], Any]] = {
    "variable of a container": lambda name, secret: {"spec": {"containers": [{"env": [{"name": name, "value": secret}]}]}},
    "variable with any name": lambda _name, secret: {"spec": {"env": [{"name": "COLOUR", "value": secret}]}},
    "argument": lambda name, secret: {"args": ["run", f"--{name}", secret]},
    "argument with =": lambda name, secret: {"command": ["run", f"--{name}={secret}"]},
    "header": lambda name, secret: {"spec": {"actions": [{"http": {"headers": {name: secret}}}]}},
    "path of an action's URL": lambda _name, secret: {
        "spec": {"actions": [{"name": "a", "http": {"url": f"https://example.org/{secret}"}}]}
    },
    "query of an action's URL": lambda _name, secret: {
        "spec": {"actions": [{"name": "a", "http": {"url": f"https://me@example.org:8443?a={secret}", "method": "PUT"}}]}
    },
    "query of an action": lambda _name, secret: {"spec": {"actions": [{"http": {"query": {"code": secret}}}]}},
    "URL in an expression": lambda _name, secret: {
        "spec": {"actions": [{"http": {"url": f"${{'https://' + event.data.team}}.example.org/x/{secret}"}}]}
    },
    "user and password": lambda _name, secret: {"command": ["curl", "-u", f"me:{secret}", "https://example.org"]},
    "user and password, long": lambda _name, secret: {"command": ["curl", "--user", f"me:{secret}", "-v"]},
    "parameter": lambda name, secret: {"spec": {"trigger": {"parameters": {"deep": [{name: secret}]}}}},
    "mapping": lambda name, secret: {"secrets": {"alice": secret, "deeper": {"list": [secret]}}},
    "Secret": lambda name, secret: {"kind": "Secret", "data": {name: base64.b64encode(secret.encode()).decode(), "x": secret}},
    "last applied": lambda _name, secret: {
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"value": secret})}}
    },
    "script": lambda _name, secret: {"spec": {"scripts": {"run.sh": f"#!/bin/sh\ncurl -u me:{secret} x"}}},
    "Kubernetes Event": lambda name, secret: {"kind": "Event", "message": f"failed: {name}={secret}"},
    "ConfigMap": lambda name, secret: {"kind": "ConfigMap", "data": {"app.yaml": yaml.safe_dump({"x": {name: secret}})}},
}  # fmt: skip


def leaked(secret: str, *texts: str) -> bool:
    raw = secret.encode()
    forms = {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), base64.b64encode(raw).decode(), raw.hex()}
    return any(form in text or secret in text for form in forms for text in texts)


@pytest.mark.parametrize("place", TEXTS)
@settings(max_examples=40)
@given(name=NAMES, secret=SECRETS)
def test_no_text_shows_what_is_named_like_a_secret(place: str, name: str, secret: str) -> None:
    text = TEXTS[place](name, secret)
    assert (
        secret in text or json.dumps(secret)[1:-1] in text or yaml.safe_dump(secret) in text or "JSON in JSON" in place
    )
    masked = Masker().text(text)
    assert not leaked(secret, masked), masked


@pytest.mark.parametrize("place", BARE)
@settings(max_examples=40)
@given(word=WORDS)
def test_no_text_shows_what_looks_like_a_secret(place: str, word: str) -> None:
    masked = Masker().text(BARE[place](word))
    assert not leaked(word, masked), masked
    assert MASK in masked


@pytest.mark.parametrize("place", OBJECTS)
@settings(max_examples=40)
@given(name=NAMES, secret=SECRETS)
def test_no_object_shows_a_secret(place: str, name: str, secret: str) -> None:
    masked = Masker().value(OBJECTS[place](name, secret))
    assert not leaked(secret, json.dumps(masked), json.dumps(masked, ensure_ascii=False)), masked


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(name=NAMES, secret=SECRETS, word=WORDS, known=SECRETS)
def test_a_bundle_with_secrets_everywhere_shows_none(
    tmp_path: Path, name: str, secret: str, word: str, known: str
) -> None:
    bundle = Bundle(Masker([known]))
    for place, make in TEXTS.items():
        bundle.add_text(f"texts/{place}", make(name, secret))
    for place, bare in BARE.items():
        bundle.add_text(f"bare/{place}", bare(word))
    for place, build in OBJECTS.items():
        bundle.add_value(f"objects/{place}", build(name, secret))
    bundle.add_text("known", f"nobody would guess that {known} is one, nor {base64.b64encode(known.encode()).decode()}")
    bundle.add_value("known.json", {"colour": known, "other": [f"x{known}y"], known: 1})
    bundle.note("log", f"not read: https://a:{word}@host answered {name}={secret} and {known}")
    target = tmp_path / "bundle.tar.gz"
    bundle.write(target, folder="bundle", now=NOW)
    texts = contents(target)
    assert len(texts) == len(TEXTS) + len(BARE) + len(OBJECTS) + 3
    for path, text in texts.items():
        for planted in (secret, word, known):
            assert not leaked(planted, text), f"{path}: {text}"


@pytest.mark.parametrize(
    "text",
    [
        "the token expires in 5 minutes, and a Basic rule says so",
        "attune_token_expiry_timestamp_seconds{namespace=\"team\",sensor=\"a\"} 1.7e+09",
        'attune_api_tokens_refused_total{reason="expired"} 3.0',
        "GET http://127.0.0.1:8000/x?mail=a@b.org 200",
        "signing_keys_file=/var/run/attune/signing-keys.json",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----",
        "docker run --user 1000:1000 -u root x",
        "GET https://discord.com/api/v10/gateway and https://example.org/api/webhooks and https://slack.com/api/chat 200",
        "author=ann keyboard=qwerty monkey=1",
        '{"event": "token_issued", "kid": "key-2026", "expires_at": "2026-11-29T06:10:11+00:00"}',
    ],
)  # fmt: skip
def test_what_support_needs_is_still_there(text: str) -> None:
    assert Masker().text(text) == text


def test_of_kubernetes_objects_names_of_secrets_stay_and_our_own_variables() -> None:
    body = {
        "spec": {
            "volumes": [{"name": "credentials", "secret": {"secretName": "sensor-core.timer", "defaultMode": 288}}],
            "containers": [
                {
                    "env": [
                        {"name": "ATTUNE_API_TOKEN_FILE", "value": "/var/run/attune/credentials/token"},
                        {"name": "ATTUNE_API_URL", "value": "http://attune-api.attune-system"},
                        {"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
                    ]
                }
            ],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
        },
        "status": {"token": {"keyId": "key-7", "expiresAt": "2026-11-28T06:10:11Z"}},
    }
    assert Masker().value(body) == body


def test_of_an_actions_address_the_host_stays() -> None:
    def masked(url: str) -> Any:
        return Masker().value({"http": {"url": url, "method": "POST"}})["http"]["url"]

    assert masked("https://hooks.slack.com/services/T01/B02/x") == "https://hooks.slack.com/***"
    assert masked("https://example.org:8443/hooks/x?a=b") == "https://example.org:8443/***"
    assert masked("http://me:pw@example.org?x") == "http://***@example.org?***"
    assert masked("http://example.org/") == "http://example.org/"
    assert masked("${event.data.base}/x/y") == "${event.data.base}/***"
    assert masked("${event.data.url}") == "${event.data.url}"


@pytest.mark.parametrize(
    "name", ["password", "userPassword", "PGPASSWORD", "x-auth", "sessionCookie", "hmac", "API-Key"]
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert names_a_secret(name)


@pytest.mark.parametrize("name", ["author", "keyboard", "image", "path", "namespace", "resigned"])
def test_other_names_are_not(name: str) -> None:
    assert not names_a_secret(name)


def test_a_line_that_is_too_long_is_cut_and_takes_no_time() -> None:
    masked = Masker().text("://a:" * 60_000)
    assert masked.endswith("more characters)")
    assert len(masked) < 10_000
