"""What must be refused, and how (RFC 6750, RFC 8725); each against the running API."""

import base64
import json
import time
import zlib
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from support.api_process import ADMIN_TOKEN, ApiProcess, Minter, encode_bytes, report, write_jwks
from support.eventually import until

pytest_plugins = ["support.api_fixtures"]


def _segment(content: dict[str, Any]) -> str:
    return encode_bytes(json.dumps(content).encode())


def _unsigned(api: ApiProcess) -> str:
    header = {"alg": "none", "typ": "JWT", "kid": api.minter.kid}
    return f"{_segment(header)}.{_segment(api.minter.payload())}."


def _hmac_over_the_public_key(api: ApiProcess, form: str) -> str:
    public = api.minter.private.public_key()
    secret = {
        "raw": api.minter.public_bytes,
        "pem": public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(api.minter.public_jwk()).encode(),
    }[form]
    signing_input = (
        f"{_segment({'alg': 'HS256', 'typ': 'JWT', 'kid': api.minter.kid})}.{_segment(api.minter.payload())}"
    )
    signature = jwt.get_algorithm_by_name("HS256").sign(signing_input.encode(), secret)
    return f"{signing_input}.{encode_bytes(signature)}"


def _signed(api: ApiProcess, header: dict[str, Any]) -> str:
    """A token with a good signature and a header that no library would write."""
    signing_input = f"{_segment(header)}.{_segment(api.minter.payload())}"
    return f"{signing_input}.{encode_bytes(api.minter.private.sign(signing_input.encode()))}"


def _altered(api: ApiProcess) -> str:
    header, payload, signature = api.minter.token().split(".")
    content = json.loads(base64.urlsafe_b64decode(payload + "=="))
    content["metadata"]["trigger_types"].append("core.webhook")
    return f"{header}.{_segment(content)}.{signature}"


def _raw(api: ApiProcess, payload: str, header: str = "") -> str:
    """A token with a good signature over just these texts."""
    head = header or json.dumps({"alg": "EdDSA", "typ": "JWT", "kid": api.minter.kid})
    signing_input = f"{encode_bytes(head.encode())}.{encode_bytes(payload.encode())}"
    return f"{signing_input}.{encode_bytes(api.minter.private.sign(signing_input.encode()))}"


def _claims(api: ApiProcess, **changes: Any) -> str:
    """A good token with claims that no library would write."""
    return _raw(api, json.dumps({**api.minter.payload(), **changes}))


def _twice(api: ApiProcess, claim: str, last: Any) -> str:
    """A token in which a claim stands twice: first as it should be, then so."""
    payload = api.minter.payload()
    text = json.dumps(payload)
    return _raw(api, f"{text[:-1]}, {json.dumps(claim)}: {json.dumps(last)}}}")


def _other_spelling(api: ApiProcess) -> str:
    """The same signature with other characters: its last one has bits that are not looked at."""
    token = api.minter.token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


def _now(offset: int) -> int:
    return int(time.time()) + offset


def _signed_bytes(api: ApiProcess, payload: bytes, **header: Any) -> str:
    head = json.dumps({"alg": "EdDSA", "kid": api.minter.kid, **header}).encode()
    signing_input = f"{encode_bytes(head)}.{encode_bytes(payload)}"
    return f"{signing_input}.{encode_bytes(api.minter.private.sign(signing_input.encode()))}"


REFUSED: dict[str, Any] = {
    "alg none": _unsigned,
    "HS256 with the public key's bytes": lambda api: _hmac_over_the_public_key(api, "raw"),
    "HS256 with the public key's PEM": lambda api: _hmac_over_the_public_key(api, "pem"),
    "HS256 with the published JWK": lambda api: _hmac_over_the_public_key(api, "jwk"),
    "unknown kid": lambda api: api.minter.token(headers={"kid": "somebody-else"}),
    "no kid": lambda api: _signed(api, {"alg": "EdDSA"}),
    "kid that is no text": lambda api: _signed(api, {"alg": "EdDSA", "kid": 7}),
    "kid that is a list": lambda api: _signed(api, {"alg": "EdDSA", "kid": [api.minter.kid]}),
    "alg in another case": lambda api: _signed(api, {"alg": "eddsa", "kid": api.minter.kid}),
    "no alg": lambda api: _signed(api, {"kid": api.minter.kid}),
    "known kid, another key": lambda api: Minter(api.minter.kid).token(),
    "own key in the header": lambda api: Minter(api.minter.kid).token(headers={"jwk": Minter().public_jwk()}),
    "altered payload": _altered,
    "critical extension": lambda api: api.minter.token(headers={"crit": ["exp"]}),
    "wrong aud": lambda api: api.minter.token(aud="kubernetes"),
    "wrong iss": lambda api: api.minter.token(iss="somebody"),
    "expired": lambda api: api.minter.token(exp=_now(-1)),
    "not yet valid": lambda api: api.minter.token(nbf=_now(120)),
    "issued in the future": lambda api: api.minter.token(iat=_now(120)),
    "exp beyond any calendar": lambda api: api.minter.token(exp=10**30),
    "exp as text": lambda api: api.minter.token(exp="tomorrow"),
    "exp as true": lambda api: api.minter.token(exp=True),
    "another kind of token": lambda api: api.minter.token(token_type="user"),
    "login of no sensor": lambda api: api.minter.token(login="service:admin"),
    "login with a strange ref": lambda api: api.minter.token(login="sensor:../admin"),
    "trigger types that are no list": lambda api: api.minter.token(metadata={"trigger_types": "core.intervaltimer"}),
    "no metadata": lambda api: api.minter.token(metadata=None),
    **{
        f"no {claim}": lambda api, claim=claim: api.minter.token(**{claim: None})
        for claim in ("iss", "aud", "sub", "iat", "nbf", "exp", "jti", "login", "token_type")
    },
    "no scope": lambda api: api.minter.token(scope=None),
    "another scope": lambda api: api.minter.token(scope="sensor admin"),
    "a scope that is no text": lambda api: api.minter.token(scope=["sensor"]),
    "a life of more than 72 h": lambda api: api.minter.token(iat=_now(-5), exp=_now(72 * 3600)),
    "aud is a list without us": lambda api: _claims(api, aud=["kubernetes", "vault"]),
    "aud is a list of lists": lambda api: _claims(api, aud=[[api.minter.payload()["aud"]]]),
    "aud is an object": lambda api: _claims(api, aud={api.minter.payload()["aud"]: True}),
    "aud is nothing": lambda api: _claims(api, aud=""),
    "iss with a blank": lambda api: _claims(api, iss=api.minter.payload()["iss"] + " "),
    "iss is a list": lambda api: _claims(api, iss=[api.minter.payload()["iss"]]),
    "sub is a number": lambda api: _claims(api, sub=7),
    "sub is empty": lambda api: _claims(api, sub=""),
    "login twice in one": lambda api: _claims(api, login="sensor:attune-system/core.timer/core.other"),
    "login with a line break": lambda api: _claims(api, login="sensor:attune-system/core.timer\n"),
    "login with NUL": lambda api: _claims(api, login="sensor:attune-system/core.timer\0"),
    "login in capitals": lambda api: _claims(api, login="SENSOR:attune-system/core.timer"),
    "login with another's dots": lambda api: _claims(api, login="sensor:attune-system.core/timer/x"),
    "trigger types that are numbers": lambda api: _claims(api, metadata={"trigger_types": [1, 2]}),
    "trigger types that are an object": lambda api: _claims(api, metadata={"trigger_types": {"core.webhook": 1}}),
    "metadata is a list": lambda api: _claims(api, metadata=[{"trigger_types": ["core.webhook"]}]),
    "expired, then not": lambda api: _twice(api, "exp", _now(-100)),
    "another issuer behind ours": lambda api: _twice(api, "iss", "somebody"),
    "another kind behind ours": lambda api: _twice(api, "token_type", "admin"),
    "exp is infinite": lambda api: _raw(api, json.dumps({**api.minter.payload(), "exp": float("inf")})),
    "exp is no number": lambda api: _raw(api, json.dumps({**api.minter.payload(), "exp": float("nan")})),
    "exp has a thousand digits": lambda api: _raw(
        api, json.dumps({**api.minter.payload(), "exp": 0}).replace('"exp": 0', f'"exp": {"9" * 1000}')
    ),
    "exp as 1e400": lambda api: _raw(
        api, json.dumps({**api.minter.payload(), "exp": 0}).replace('"exp": 0', '"exp": 1e400')
    ),
    "iat is negative": lambda api: _claims(api, iat=-(10**18)),
    "nbf is an object": lambda api: _claims(api, nbf={"$gt": 0}),
    "claims nested without end": lambda api: _raw(api, '{"iss":' + "[" * 3000 + "]" * 3000 + "}"),
    "claims are a list": lambda api: _raw(api, "[]"),
    "claims are nothing": lambda api: _raw(api, ""),
    "alg twice in the header": lambda api: _raw(
        api, json.dumps(api.minter.payload()), f'{{"alg":"EdDSA","kid":"{api.minter.kid}","alg":"none"}}'
    ),
    "the header is a list": lambda api: _raw(api, json.dumps(api.minter.payload()), '["EdDSA"]'),
    "alg is a list": lambda api: _signed(api, {"alg": ["EdDSA"], "kid": api.minter.kid}),
    "alg ES256": lambda api: _signed(api, {"alg": "ES256", "kid": api.minter.kid}),
    "alg Ed448": lambda api: _signed(api, {"alg": "Ed448", "kid": api.minter.kid}),
    "kid is a path": lambda api: _signed(api, {"alg": "EdDSA", "kid": f"../{api.minter.kid}"}),
    "kid is SQL": lambda api: _signed(api, {"alg": "EdDSA", "kid": f"{api.minter.kid}' or '1'='1"}),
    "kid in capitals": lambda api: _signed(api, {"alg": "EdDSA", "kid": api.minter.kid.upper()}),
    "kid with NUL": lambda api: _signed(api, {"alg": "EdDSA", "kid": f"{api.minter.kid}\0"}),
    "keys elsewhere": lambda api: Minter("x").token(
        headers={"jku": "http://127.0.0.1:9/keys", "x5u": "http://127.0.0.1:9/x"}
    ),
    "unencoded payload (RFC 7797)": lambda api: api.minter.token(headers={"b64": False, "crit": ["b64"]}),
    "packed (zip)": lambda api: _signed_bytes(api, zlib.compress(json.dumps(api.minter.payload()).encode()), zip="DEF"),
    "a token in a token": lambda api: _raw(api, json.dumps({"cty": "JWT", "jwt": api.minter.token()})),
    "another spelling of the signature": _other_spelling,
    "no signature": lambda api: api.minter.token().rpartition(".")[0] + ".",
    "half a signature": lambda api: api.minter.token()[:-40],
    "signature of zeros": lambda api: f"{api.minter.token().rpartition('.')[0]}.{encode_bytes(bytes(64))}",
    "a fourth part": lambda api: api.minter.token() + ".x",
    "with padding": lambda api: api.minter.token() + "==",
    "garbled": lambda api: "garbled",
    "three dots": lambda api: "a.b.c",
    "empty parts": lambda api: "..",
    "long": lambda api: "a" * 9000,
    "the admin's": lambda api: ADMIN_TOKEN,
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_token_that_proves_nothing_stores_nothing(shared_api: ApiProcess, case: str) -> None:
    token = REFUSED[case](shared_api)
    async with shared_api.client(token) as client:
        for path, body in (("/api/v1/events", report()), ("/api/v1/events/batch", {"events": [report()]})):
            answer = await client.post(path, json=body)
            assert answer.status_code == 401
            challenge = answer.headers["www-authenticate"]
            assert challenge.startswith('Bearer realm="attune", error="invalid_token", error_description="')
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["type"] == "urn:attune:problem:invalid-token"
            assert token not in answer.text
    async with shared_api.reader() as reader:
        assert (await reader.get("/api/v1/events")).json()["data"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/events"),
        ("POST", "/api/v1/events/batch"),
        ("GET", "/api/v1/events"),
        ("GET", "/api/v1/events/00000000-0000-0000-0000-000000000000"),
        ("GET", "/api/v1/identities"),
        ("GET", "/auth/whoami"),
        ("POST", "/auth/sensor-token"),
    ],
)
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic dXNlcjpwYXNz"])
async def test_without_a_token_nothing_is_read_stored_or_minted(
    shared_api: ApiProcess, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with shared_api.client("") as client:
        body = {"sensor_ref": "default/edge", "trigger_types": ["a.b"]} if method == "POST" else None
        answer = await client.request(method, path, headers=headers, json=body)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="attune"'  # no error code: RFC 6750 §3.1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/events"),
        ("POST", "/api/v1/events/batch"),
        ("POST", "/auth/sensor-token"),
        ("GET", "/api/v1/events"),
        ("GET", "/api/v1/events/stream"),
        ("GET", "/api/v1/sensor/last-events?rule_uid=x"),
        ("GET", "/api/v1/sensor/events?rule_uid=x&namespace=default&name=x"),
        ("GET", "/api/v1/sensor/states/x"),
        ("PUT", "/api/v1/sensor/states/x"),
        ("DELETE", "/api/v1/sensor/states/x"),
        ("GET", "/auth/whoami"),
    ],
)
@pytest.mark.parametrize("order", ["good first", "good last", "good twice", "empty first"])
async def test_two_authorization_headers_are_refused(
    shared_api: ApiProcess, method: str, path: str, order: str
) -> None:
    """A proxy in front may check the one that we do not."""
    token = ADMIN_TOKEN if path != "/api/v1/events" and "sensor" not in path else shared_api.minter.token()
    good, bad = f"Bearer {token}", "Bearer another"
    both = {
        "good first": [good, bad], "good last": [bad, good], "good twice": [good, good], "empty first": ["", good],
    }[order]  # fmt: skip
    async with shared_api.client("") as client:
        answer = await client.request(method, path, headers=[("Authorization", each) for each in both])
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:attune:problem:repeated-authorization"
    assert 'error="invalid_request"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "place", ["query", "cookie", "form", "X-Forwarded-Authorization", "Proxy-Authorization", "X-Original-URL"]
)
async def test_a_token_anywhere_else_is_none(shared_api: ApiProcess, place: str) -> None:
    token = shared_api.minter.token()
    async with shared_api.client("") as client:
        for path in ("/auth/whoami", "/api/v1/sensor/states/x"):
            headers = {} if place in ("query", "form") else {place: f"Bearer {token}"}
            if place == "cookie":
                headers = {"Cookie": f"Authorization=Bearer {token}; attune_console={token}; access_token={token}"}
            query = f"?access_token={token}&authorization=Bearer%20{token}" if place == "query" else ""
            data = {"access_token": token} if place == "form" else None
            answer = await client.request("GET", path + query, headers=headers, data=data)
            assert answer.status_code == 401
            assert token not in answer.text


async def test_a_token_may_live_for_72_hours(shared_api: ApiProcess) -> None:
    issued = _now(-5)
    async with shared_api.client(shared_api.minter.token(iat=issued, exp=issued + 72 * 3600)) as sensor:
        assert (await sensor.get("/auth/whoami")).status_code == 200


@pytest.mark.parametrize(
    ("time", "taken"),
    [
        ("2199-12-31T23:59:59Z", True),
        ("2199-12-31T23:59:59-00:01", False),
        ("2199-12-31T23:59:59-23:59", False),
        ("2200-01-01T00:00:00+00:01", True),
        ("1970-01-01T00:00:00Z", True),
        ("1970-01-01T00:00:00+00:01", False),
        ("1970-01-01T00:00:00+23:59", False),
        ("1969-12-31T23:59:59-00:01", True),
        ("0001-01-01T00:00:00+23:59", False),
        ("9999-12-31T23:59:59-23:59", False),
    ],
)
async def test_an_event_s_year_is_judged_in_utc(api_on_each: ApiProcess, time: str, taken: bool) -> None:
    body = report(occurred_at=time)
    async with api_on_each.client() as sensor, api_on_each.reader() as reader:
        answer = await sensor.post("/api/v1/events", json=body)
        assert answer.status_code == (201 if taken else 422)
        if taken:
            event = (await reader.get(f"/api/v1/events/{body['id']}")).json()["data"]
            assert event["occurred_at"][:4] in ("1970", "2199")
        else:
            assert "must be from 1970 to 2199" in answer.json()["detail"]


async def test_a_trigger_type_outside_the_token_is_forbidden_and_the_answer_names_those_inside(
    shared_api: ApiProcess,
) -> None:
    async with shared_api.client() as client:
        answer = await client.post("/api/v1/events", json=report(trigger_type="core.webhook"))
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert answer.json()["allowed"] == ["core.intervaltimer"]
    assert "core.intervaltimer" in answer.json()["detail"]


async def test_a_sensor_reads_no_events_and_mints_nothing(shared_api: ApiProcess) -> None:
    async with shared_api.client() as sensor:
        assert (await sensor.get("/api/v1/events")).status_code == 403
        assert (await sensor.get("/api/v1/events", params={"rule_namespace": "default"})).status_code == 403
        assert (await sensor.get("/api/v1/identities")).status_code == 403
        body = {"sensor_ref": "attune-system/core.timer", "trigger_types": ["core.intervaltimer"]}
        assert (await sensor.post("/auth/sensor-token", json=body)).status_code == 403


async def test_whoami_says_for_whom_a_token_speaks(shared_api: ApiProcess) -> None:
    async with shared_api.client() as sensor, shared_api.reader() as admin:
        assert (await sensor.get("/auth/whoami")).json()["data"]["login"] == "sensor:attune-system/core.timer"
        assert (await admin.get("/auth/whoami")).json()["data"] == {"login": "service:admin", "kind": "admin"}


async def test_a_token_ends_while_it_is_remembered(shared_api: ApiProcess) -> None:
    token = shared_api.minter.token(exp=_now(6))
    async with shared_api.client(token) as client:
        statuses: list[int] = []
        while 401 not in statuses and len(statuses) < 20_000:
            statuses.append((await client.get("/auth/whoami")).status_code)
    assert statuses[0] == 200
    assert time.time() >= jwt.decode(token, options={"verify_signature": False})["exp"]


@pytest.mark.alone
async def test_new_keys_are_believed_at_once_and_old_ones_no_longer(api: ApiProcess) -> None:
    old, new = api.minter, Minter("key-2")
    async with api.client(old.token()) as first, api.client(new.token()) as second:
        assert (await first.get("/auth/whoami")).status_code == 200
        assert (await second.get("/auth/whoami")).status_code == 401
        write_jwks(api.jwks_file, old, new)
        assert (await second.get("/auth/whoami")).status_code == 200
        assert (await first.get("/auth/whoami")).status_code == 200
        published = (await first.get("/.well-known/jwks.json")).json()["keys"]
        assert [key["kid"] for key in published] == ["key-1", "key-2"]
        assert all(set(key) == {"kty", "crv", "kid", "use", "alg", "x"} for key in published)
        write_jwks(api.jwks_file, new)

        async def withdrawn() -> bool:
            return (await first.get("/auth/whoami")).status_code != 200

        await until(withdrawn, within=2)
        api.jwks_file.write_text("damaged")
        assert (await second.get("/auth/whoami")).status_code == 200


async def test_without_keys_it_says_so_and_is_not_ready(api: ApiProcess) -> None:
    api.stop()
    api.jwks_file.unlink()
    api.start()
    async with api.client() as sensor:
        answer = await sensor.post("/api/v1/events", json=report())
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert (await sensor.get("/.well-known/jwks.json")).status_code == 503
        ready = await sensor.get("/ready")
        assert ready.status_code == 503
        assert "keys" in ready.json()["problems"]
        assert (await sensor.get("/health")).status_code == 200
        write_jwks(api.jwks_file, api.minter)
        assert (await sensor.get("/ready")).status_code == 200
        assert (await sensor.post("/api/v1/events", json=report())).status_code == 201


def test_no_secret_is_in_the_log(api: ApiProcess) -> None:
    token = api.minter.token()
    body = {"sensor_ref": "default/edge", "trigger_types": ["a.b"]}
    with httpx.Client(base_url=api.url, trust_env=False, timeout=60) as client:
        for path, content, bearer in (
            ("/api/v1/events", report(), token),
            ("/api/v1/events", report(trigger_type="core.x"), token),
            ("/api/v1/events", report(), token[:-4]),
            ("/auth/sensor-token", body, ADMIN_TOKEN),
            ("/auth/sensor-token", body, ADMIN_TOKEN + "x"),
        ):
            client.post(path, json=content, headers={"Authorization": f"Bearer {bearer}"})
        minted = client.post("/auth/sensor-token", json=body, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
        metrics = client.get("/metrics").text
    api.stop()
    said = api.log.read_text() + metrics
    secrets = [token, minted.json()["data"]["token"], ADMIN_TOKEN, api.minter.private_jwk()["d"]]
    assert not [secret for secret in secrets if secret in said or secret.rpartition(".")[2] in said]
