"""Keys, tokens and revocation as pure functions; the running API is in tests/integration/api/test_security.py."""

import json
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.api_process import SENSOR, TYPE, Minter, write_jwks

from attune_api.identity.callers import AdminCaller, ClusterCaller
from attune_api.identity.cluster import KEEP_YES, Cluster, ClusterUnavailableError, ExpiringCache, Right
from attune_api.identity.errors import InvalidTokenError, invalid_token
from attune_api.identity.keys import (
    KeysUnavailableError,
    SigningKeys,
    VerificationKeys,
    parse_public,
    parse_signing,
)
from attune_api.identity.minting import NotMintableError, TokenRequest, mint_token, subject_for
from attune_api.identity.revocation import accepted_types
from attune_api.identity.tokens import CLOCK_LEEWAY, VerifiedToken, check_times, looks_like_sensor_token, verify
from attune_contract.claims import DEFAULT_ISSUER, SensorClaims
from attune_contract.messages import IdentityState
from attune_kit.kubernetes.client import KubernetesError


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def _verified(**changes: Any) -> VerifiedToken:
    minter = Minter()
    return verify(minter.token(**changes), keys=parse_public(_jwks(minter)), issuer=DEFAULT_ISSUER)


def _jwks(*minters: Minter) -> bytes:
    return json.dumps({"keys": [minter.public_jwk() for minter in minters]}).encode()


def _state(**changes: Any) -> IdentityState:
    subject = Minter().payload()["sub"]
    return IdentityState(**{"sensor_ref": str(SENSOR), "uid": subject, "trigger_types": (TYPE,), **changes})


@pytest.mark.parametrize(
    ("now", "accepted"),
    [(99 - CLOCK_LEEWAY, False), (100 - CLOCK_LEEWAY, True), (100, True), (199.9, True), (200, False), (10**9, False)],
)
def test_a_token_is_good_from_nbf_with_leeway_until_exp_without(now: float, accepted: bool) -> None:
    token = _verified(iat=100, nbf=100, exp=200)
    if accepted:
        check_times(token, now=now)
    else:
        with pytest.raises(InvalidTokenError):
            check_times(token, now=now)


def test_revocation_judges_uid_iat_and_trigger_types() -> None:
    token = _verified(iat=500, exp=4100, metadata={"trigger_types": [TYPE, "core.other"]})
    assert accepted_types(token, state=None) == {TYPE, "core.other"}
    assert accepted_types(token, state=_state()) == {TYPE}
    assert accepted_types(token, state=_state(trigger_types=())) == set()
    assert accepted_types(token, state=_state(not_before=500)) == {TYPE}
    for refused in (_state(not_before=501), _state(uid="another"), _state(deleted=True)):
        with pytest.raises(InvalidTokenError):
            accepted_types(token, state=refused)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"[]",
        b'{"keys": 7}',
        b"[" * 100_000,
        b"\xff",
        json.dumps({"keys": [Minter().private_jwk()]}).encode(),
        json.dumps({"keys": [{**Minter().public_jwk(), "x": "AA"}]}).encode(),
        json.dumps({"keys": [{**Minter().public_jwk(), "x": None}]}).encode(),
    ],
)
def test_a_damaged_key_set_is_refused_without_repeating_it(damaged: bytes) -> None:
    with pytest.raises(ValueError) as caught:
        parse_public(damaged)
    assert len(str(caught.value)) < 200


def test_keys_of_other_kinds_are_left_out() -> None:
    good = Minter("good")
    others = [
        {"kty": "oct", "k": "AAAA", "kid": "hmac"},
        {"kty": "RSA", "n": "AQ", "e": "AQAB", "kid": "rsa"},
        {**Minter("no-kid").public_jwk(), "kid": ""},
        {**Minter("enc").public_jwk(), "use": "enc"},
        {**Minter("x").public_jwk(), "crv": "X25519"},
        7,
    ]
    assert set(parse_public(json.dumps({"keys": [*others, good.public_jwk()]}).encode())) == {"good"}


def test_the_last_good_keys_stay_in_force_when_the_file_is_damaged_or_gone(tmp_path: Path) -> None:
    clock, file, minter = Clock(), tmp_path / "jwks.json", Minter()
    keys = VerificationKeys(file, clock=clock)
    with pytest.raises(KeysUnavailableError, match=r"jwks\.json"):
        keys.current()
    write_jwks(file, minter)
    assert set(keys.current().by_id) == {minter.kid}
    for break_it in (lambda: file.write_text("damaged"), file.unlink):
        break_it()
        clock.now += 10
        assert set(keys.current().by_id) == {minter.kid}


def test_the_file_is_looked_at_now_and_then_or_at_once_when_asked(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "jwks.json"
    write_jwks(file, Minter("a"))
    keys = VerificationKeys(file, clock=clock)
    assert set(keys.current().by_id) == {"a"}
    write_jwks(file, Minter("a"), Minter("b"))
    assert set(keys.current().by_id) == {"a"}
    assert set(keys.current(at_once=True).by_id) == {"a", "b"}
    write_jwks(file, Minter("c"))
    clock.now += 1
    assert set(keys.current().by_id) == {"c"}


def test_a_signing_key_that_was_withdrawn_signs_no_more(tmp_path: Path) -> None:
    file, minter = tmp_path / "signing-keys.json", Minter()
    file.write_text(json.dumps({"keys": [minter.private_jwk()], "active": minter.kid}))
    keys = SigningKeys(file)
    assert keys.current().kid == minter.kid
    assert minter.private_jwk()["d"] not in repr(keys.current())
    file.write_text(json.dumps({"keys": [], "active": minter.kid}))
    with pytest.raises(KeysUnavailableError):
        keys.current()


@pytest.mark.parametrize(
    "document", [{}, {"keys": []}, {"keys": [], "active": 7}, {"keys": [{"kid": "a"}], "active": "a"}]
)
def test_signing_keys_without_an_active_one_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        parse_signing(json.dumps(document).encode())


def test_while_no_key_is_active_the_one_that_will_be_first_signs() -> None:
    lost, later, soon = Minter("lost"), Minter("later"), Minter("soon")
    keys = [
        lost.public_jwk(),
        {**later.private_jwk(), "activates_at": "2026-11-23T13:00:00+00:00"},
        {**soon.private_jwk(), "activates_at": "2026-11-23T12:00:00+00:00"},
    ]
    assert parse_signing(json.dumps({"keys": keys, "active": None}).encode()).kid == "soon"
    keys[2]["retired_at"] = "2026-11-23T12:30:00+00:00"
    assert parse_signing(json.dumps({"keys": keys, "active": None}).encode()).kid == "later"


def test_a_minted_token_is_one_that_is_accepted() -> None:
    minter = Minter()
    request = TokenRequest(sensor_ref="default/edge", trigger_types=["a.b", "a.b", "c.d"], ttl_seconds=3600)
    now = datetime.fromtimestamp(1_000_000.75, UTC)
    minted = mint_token(
        request,
        subject="subject",
        key=parse_signing(json.dumps({"keys": [minter.private_jwk()], "active": minter.kid}).encode()),
        issuer=DEFAULT_ISSUER,
        now=now,
        token_id=uuid.UUID(int=1),
    )
    verified = verify(minted.token, keys=parse_public(_jwks(minter)), issuer=DEFAULT_ISSUER)
    check_times(verified, now=now.timestamp())
    assert verified.claims == minted.claims
    assert isinstance(verified.claims, SensorClaims)
    assert (verified.expires_at - verified.issued_at, verified.claims.trigger_types) == (3600, ("a.b", "c.d"))
    assert minted.token not in repr(minted)


def test_the_subject_of_a_token_is_the_sensors_uid_where_there_is_a_sensor() -> None:
    request = TokenRequest(sensor_ref=str(SENSOR), trigger_types=[TYPE])
    identity_id = uuid.UUID(int=7)
    assert subject_for(request, identity_id=identity_id, state=None) == str(identity_id)
    assert subject_for(request, identity_id=identity_id, state=_state(uid="u")) == "u"
    for state in (_state(deleted=True), _state(trigger_types=("core.other",))):
        with pytest.raises(NotMintableError):
            subject_for(request, identity_id=identity_id, state=state)


def test_tokens_of_the_cluster_are_told_from_sensors() -> None:
    assert looks_like_sensor_token(Minter().token(), issuer=DEFAULT_ISSUER)
    cluster = Minter().token(iss="https://kubernetes.default.svc", aud=["https://kubernetes"], token_type=None)
    assert not looks_like_sensor_token(cluster, issuer=DEFAULT_ISSUER)
    assert not looks_like_sensor_token("opaque", issuer=DEFAULT_ISSUER)
    assert not looks_like_sensor_token("a.b.c", issuer=DEFAULT_ISSUER)


def test_a_challenge_cannot_be_broken_out_of() -> None:
    header = invalid_token('a "quote", a \\ and a line\r\nX-Evil: 1').headers["WWW-Authenticate"]
    assert "\n" not in header
    assert header.count('"') == 6  # realm, error, error_description


def test_logins() -> None:
    assert ClusterCaller(username="system:serviceaccount:team-a:reader").login == "service:team-a/reader"
    assert ClusterCaller(username="alice").login == "user:alice"
    assert AdminCaller().login == "service:admin"


def test_a_cache_forgets_in_time_and_never_grows_beyond_its_bound() -> None:
    clock = Clock()
    cache: ExpiringCache[int, str] = ExpiringCache(most=3, clock=clock)
    for key in range(5):
        cache.put(key, str(key), seconds=10)
    assert [cache.get(key) for key in range(5)] == [None, None, "2", "3", "4"]
    clock.now += 10
    assert cache.get(4) is None


class _Answers:
    """An API server as the client sees it; what a real one answers is in tests/integration/api/test_cluster.py."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: bytes | KubernetesError = b""
        self.says({"authenticated": True, "user": {"username": "alice"}})

    def says(self, status: dict[str, Any]) -> None:
        self.answer = json.dumps({"status": status}).encode()

    async def request(self, method: str, path: str, *, body: Any = None) -> bytes:
        assert method == "POST"
        self.asked.append(body)
        if isinstance(self.answer, KubernetesError):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        pass


async def test_the_cluster_is_asked_once_in_a_while() -> None:
    clock, answers = Clock(), _Answers()
    cluster = Cluster(client=answers, clock=clock)
    caller = await cluster.who("token")
    assert caller == await cluster.who("token") == ClusterCaller(username="alice")
    assert len(answers.asked) == 1
    clock.now += KEEP_YES
    await cluster.who("token")
    assert len(answers.asked) == 2
    answers.says({"allowed": True, "denied": True})
    assert not await cluster.may(caller, Right(verb="list", resource="rules"))
    assert answers.asked[-1]["spec"]["resourceAttributes"] == {
        "verb": "list",
        "resource": "rules",
        "group": "attune.dev",
    }
    await cluster.close()


@pytest.mark.parametrize(
    "answer",
    [
        KubernetesError("", status=500),
        KubernetesError("", status=403),
        KubernetesError("no answer"),
        b"not JSON",
        b"[]",
        b"{}",
    ],
)
async def test_an_answer_that_is_none_lets_nobody_in(answer: bytes | KubernetesError) -> None:
    answers = _Answers()
    answers.answer = answer
    cluster = Cluster(client=answers, clock=Clock(time.monotonic()))
    with pytest.raises(ClusterUnavailableError):
        await cluster.who("token")
    await cluster.close()


@pytest.mark.parametrize("status", [{}, {"authenticated": "yes", "user": {"username": "a"}}, {"authenticated": True}])
async def test_only_a_plain_yes_counts(status: dict[str, Any]) -> None:
    answers = _Answers()
    answers.says(status)
    cluster = Cluster(client=answers, clock=Clock())
    assert await cluster.who("token") is None
    assert not await cluster.may(ClusterCaller(username="a"), Right(verb="list", resource="rules"))
    await cluster.close()
