"""When credentials are made again, and why."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from attune_contract.claims import SensorClaims
from attune_contract.identity import SensorRef
from attune_contract.resources import Sensor
from attune_operator.credentials import keys as signing
from attune_operator.credentials import mint, policy
from attune_operator.credentials.issuer import Issuer
from attune_operator.credentials.keys import KeyPolicy, KeySet
from attune_operator.credentials.mint import ReadToken
from attune_operator.credentials.policy import Input, NatsUser

ISSUED = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
TTL = timedelta(hours=24)
REF = SensorRef("attune-system", "core.timer")
LEAD = KeyPolicy(period=timedelta(days=30), lead=timedelta(minutes=5))
KEYS, _ = signing.advance(KeySet(), now=ISSUED, policy=LEAD, requested="", new_seed=lambda: b"1" * 32)
TYPES = ("core.intervaltimer", "core.crontimer")


def token(**changes: object) -> ReadToken:
    fields: dict[str, object] = {
        "issuer": "attune-operator",
        "subject": "uid-1",
        "sensor": REF,
        "trigger_types": TYPES,
        "issued_at": ISSUED,
        "expires_at": ISSUED + TTL,
        "token_id": "id",
        **changes,
    }
    return ReadToken(kid=KEYS.active or "", claims=SensorClaims(**fields))  # type: ignore[arg-type]


def state(**changes: object) -> Input:
    fields: dict[str, object] = {
        "ref": REF,
        "uid": "uid-1",
        "trigger_types": TYPES,
        "ttl": TTL,
        "now": ISSUED + timedelta(hours=1),
        "keys": KEYS,
        "secret_exists": True,
        "token": token(),
        **changes,
    }
    return Input(**fields)  # type: ignore[arg-type]


def reason(data: Input) -> str | None:
    renewal = policy.decide(data)
    return renewal.reason if renewal else None


def test_a_good_token_is_left_alone() -> None:
    assert policy.decide(state()) is None


NEXT, _ = signing.advance(KEYS, now=ISSUED, policy=LEAD, requested="x", new_seed=lambda: b"2" * 32)
REPLACED, _ = signing.advance(
    NEXT, now=ISSUED + timedelta(minutes=6), policy=LEAD, requested="x", new_seed=lambda: b"3" * 32
)
LOST, _ = signing.advance(
    signing.recovered(KEYS.jwks(), now=ISSUED), now=ISSUED, policy=LEAD, requested="", new_seed=lambda: b"4" * 32
)
FOUND_AGAIN, _ = signing.advance(LOST, now=ISSUED + LEAD.lead, policy=LEAD, requested="", new_seed=lambda: b"5" * 32)
NATS = NatsUser(subject="uid-1", expires_at=ISSUED + TTL, current=True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"secret_exists": False, "token": None}, "Missing"),
        ({"token": None}, "Missing"),
        ({"token": None, "damage": "it is not a JSON Web Token"}, "Damaged"),
        ({"token": token(subject="uid-0")}, "OtherSensor"),
        ({"token": token(sensor=SensorRef("other", "core.timer"))}, "OtherSensor"),
        ({"now": ISSUED + TTL}, "Expired"),
        ({"trigger_types": ("core.intervaltimer",)}, "TriggerTypesNarrowed"),
        ({"trigger_types": (*TYPES, "core.new")}, "TriggerTypesChanged"),
        ({"trigger_types": ("core.intervaltimer", "core.new")}, "TriggerTypesNarrowed"),
        ({"trigger_types": tuple(reversed(TYPES))}, None),
        ({"keys": NEXT}, None),
        ({"keys": REPLACED}, "SigningKeyReplaced"),
        ({"keys": LOST}, None),
        ({"keys": FOUND_AGAIN}, "SigningKeyReplaced"),
        ({"rotate_at": ISSUED + timedelta(minutes=30)}, "Asked"),
        ({"rotate_at": ISSUED}, None),
        ({"rotate_at": ISSUED + timedelta(hours=2)}, None),
        ({"revoke_before": ISSUED + timedelta(minutes=30)}, "Revoked"),
        ({"revoke_before": ISSUED}, None),
        ({"revoke_before": ISSUED + timedelta(hours=2)}, None),
        ({"not_before": int(ISSUED.timestamp())}, None),
        ({"not_before": int(ISSUED.timestamp()) + 1}, "Refused"),
        ({"ttl": timedelta(hours=12)}, "TTLChanged"),
        ({"now": ISSUED + TTL * 0.61}, None),
        ({"now": ISSUED + TTL * 0.72}, "Due"),
        ({"nats_wanted": True}, "NatsCredentials"),
        ({"nats_wanted": True, "nats_damage": "no seed"}, "NatsCredentials"),
        ({"nats_wanted": True, "nats": NATS}, None),
        ({"nats_wanted": True, "nats": replace(NATS, current=False)}, "NatsCredentials"),
        ({"nats_wanted": True, "nats": replace(NATS, subject="uid-0")}, "NatsCredentials"),
        ({"nats_wanted": True, "nats": replace(NATS, expires_at=ISSUED)}, "NatsCredentials"),
    ],
)
def test_reasons(changes: dict[str, object], expected: str | None) -> None:
    assert reason(state(**changes)) == expected


def test_renewal_is_asked_for_in_whole_seconds_and_once() -> None:
    asked = ISSUED + timedelta(minutes=30, milliseconds=500)
    assert reason(state(rotate_at=asked, now=asked)) is None, "a token made now could not be told from the old one"
    due = ISSUED + timedelta(minutes=30, seconds=1)
    assert reason(state(rotate_at=asked, now=due)) == "Asked"
    assert reason(state(rotate_at=asked, now=due, token=token(issued_at=due, expires_at=due + TTL))) is None


def test_renewal_comes_at_two_thirds_of_the_real_life_give_or_take_five_percent() -> None:
    short = token(expires_at=ISSUED + timedelta(minutes=15))
    parts = [
        (policy.due_at(replace(short, claims=replace(short.claims, subject=f"uid-{n}"))) - ISSUED)
        / timedelta(minutes=15)
        for n in range(500)
    ]
    assert min(parts) > 2 / 3 - 0.0501
    assert max(parts) < 2 / 3 + 0.0501
    # Spread over the whole of it: no tenth of the window gets more than twice its share.
    tenths = [int((part - (2 / 3 - 0.05)) / 0.01) for part in parts]
    assert max(tenths.count(n) for n in range(10)) < 100


def test_the_same_token_is_due_at_the_same_time_whoever_asks() -> None:
    assert policy.due_at(token()) == policy.due_at(token())


def test_narrowing_refuses_the_token_that_is_out() -> None:
    data = state(trigger_types=("core.intervaltimer",))
    assert policy.accepted_from(data, policy.decide(data)) == int(ISSUED.timestamp()) + 1


def test_revoking_refuses_what_is_older_and_nothing_else() -> None:
    limit = ISSUED + timedelta(minutes=30, milliseconds=1)
    data = state(revoke_before=limit)
    assert policy.accepted_from(data, policy.decide(data)) == int(ISSUED.timestamp()) + 1801
    ahead = state(revoke_before=ISSUED + timedelta(hours=2))
    assert policy.accepted_from(ahead, policy.decide(ahead)) is None


def test_what_was_refused_once_stays_refused() -> None:
    later = int(ISSUED.timestamp()) + 7200
    data = state(not_before=later, revoke_before=ISSUED, token=token(issued_at=ISSUED + timedelta(hours=3)))
    assert policy.accepted_from(data, None) == later


def test_an_ordinary_renewal_refuses_nothing() -> None:
    data = state(now=ISSUED + TTL * 0.72)
    assert policy.accepted_from(data, policy.decide(data)) is None


def test_the_next_look_is_at_the_earliest_time_at_which_something_changes() -> None:
    assert policy.recheck_at(state(token=None)) is None
    due = policy.recheck_at(state())
    assert due is not None
    assert due - policy.due_at(token()) < timedelta(seconds=1)
    asked = ISSUED + timedelta(hours=2)
    assert policy.recheck_at(state(rotate_at=asked)) == asked
    assert policy.recheck_at(state(revoke_before=asked, rotate_at=ISSUED)) == asked


def test_a_token_is_read_as_it_was_minted_also_when_it_has_expired() -> None:
    made = token(issued_at=ISSUED - timedelta(days=400), expires_at=ISSUED - timedelta(days=399))
    key = KEYS.signing_key
    assert key is not None
    text = mint.mint(made.claims, key=key)
    assert mint.read(text, keys=KEYS, issuer="attune-operator") == made


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda text: "", "not a JSON Web Token"),
        (lambda text: "a.b.c", "not a JSON Web Token"),
        (lambda text: text[:-4] + "AAAA", "does not verify"),
        (lambda text: ".".join([text.split(".")[0], "e30", text.split(".")[2]]), "does not verify"),
    ],
)
def test_a_damaged_token_is_refused_and_not_shown(damage: object, why: str) -> None:
    key = KEYS.signing_key
    assert key is not None
    text = damage(mint.mint(token().claims, key=key))  # type: ignore[operator]
    with pytest.raises(mint.DamagedError, match=why) as refused:
        mint.read(text, keys=KEYS, issuer="attune-operator")
    assert not text or text not in str(refused.value)


def test_a_token_of_another_issuer_or_an_unknown_key_is_damaged() -> None:
    key = KEYS.signing_key
    assert key is not None
    text = mint.mint(token().claims, key=key)
    with pytest.raises(mint.DamagedError, match="InvalidIssuerError"):
        mint.read(text, keys=KEYS, issuer="somebody")
    with pytest.raises(mint.DamagedError, match="no longer published"):
        mint.read(text, keys=KeySet(), issuer="attune-operator")


def test_credentials_that_could_not_be_read_again_are_not_made() -> None:
    # Written, they would be found damaged at the next look, and be made again, without end.
    issuer = Issuer(issuer="attune-operator", shortest_ttl=timedelta(minutes=1), keys=lambda: KEYS)
    body = {
        "apiVersion": "attune.dev/v1alpha1",
        "kind": "Sensor",
        "metadata": {"name": "core.timer", "namespace": "ns", "uid": "uid-1"},
        "spec": {"image": "x", "triggerTypes": [{"name": "a.b"}]},
    }
    assert issuer.issue(issuer.assess(Sensor.from_object(body), None)).token.claims.subject == "uid-1"
    body["metadata"] = {"name": "../x", "namespace": "ns", "uid": "uid-1"}
    assessed = issuer.assess(Sensor.from_object(body), None)
    with pytest.raises(ValueError, match="no token can be created"):
        issuer.issue(assessed)
