"""Signing keys: published before they sign, kept after, never lost sight of."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from attune_operator.credentials import keys as signing
from attune_operator.credentials.keys import KeyPolicy, KeySet, KeyState

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
POLICY = KeyPolicy(period=timedelta(days=30), lead=timedelta(minutes=5))


class Seeds:
    """Predictable "random" bytes."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> bytes:
        self.made += 1
        return bytes([self.made]) * 32


@pytest.fixture
def seeds() -> Seeds:
    return Seeds()


def step(keys: KeySet, seeds: Seeds, *, after: timedelta = timedelta(0), requested: str = "") -> KeySet:
    return signing.advance(keys, now=NOW + after, policy=POLICY, requested=requested, new_seed=seeds)[0]


def states(keys: KeySet) -> list[KeyState]:
    return [keys.state(key) for key in keys.keys]


def test_the_first_key_signs_at_once_since_nobody_knows_another(seeds: Seeds) -> None:
    keys = step(KeySet(), seeds)
    assert states(keys) == [KeyState.ACTIVE]
    assert keys.signing_key is not None
    assert keys.signing_key.kid == keys.active


def test_nothing_changes_when_nothing_is_due(seeds: Seeds) -> None:
    keys = step(KeySet(), seeds)
    again, changes = signing.advance(keys, now=NOW + timedelta(days=29), policy=POLICY, requested="", new_seed=seeds)
    assert again == keys
    assert changes == ()


def test_a_request_publishes_the_next_key_before_it_signs(seeds: Seeds) -> None:
    first = step(KeySet(), seeds)
    asked = step(first, seeds, requested="now")
    assert states(asked) == [KeyState.ACTIVE, KeyState.NEXT]
    assert asked.active == first.active
    assert len(asked.jwks()["keys"]) == 2


def test_a_request_is_carried_out_once(seeds: Seeds) -> None:
    keys = step(step(KeySet(), seeds), seeds, requested="now")
    assert step(keys, seeds, requested="now") == keys
    done = step(keys, seeds, requested="now", after=timedelta(minutes=6))
    assert step(done, seeds, requested="now", after=timedelta(minutes=7)) == done


def test_after_the_lead_the_next_key_signs_and_the_old_one_is_retired(seeds: Seeds) -> None:
    first = step(KeySet(), seeds)
    keys = step(step(first, seeds, requested="now"), seeds, requested="now", after=timedelta(minutes=5))
    assert states(keys) == [KeyState.RETIRED, KeyState.ACTIVE]
    assert keys.keys[0].kid == first.active
    assert keys.keys[0].seed is not None
    assert len(keys.jwks()["keys"]) == 2


def test_a_retired_key_stays_published_for_the_longest_ttl(seeds: Seeds) -> None:
    keys = step(step(KeySet(), seeds), seeds, requested="now")
    keys = step(keys, seeds, requested="now", after=timedelta(minutes=5))
    retired_for = timedelta(minutes=5) + signing.RETAIN
    assert len(step(keys, seeds, requested="now", after=retired_for - timedelta(seconds=1)).keys) == 2
    assert states(step(keys, seeds, requested="now", after=retired_for)) == [KeyState.ACTIVE]


def test_an_old_key_is_replaced_by_itself(seeds: Seeds) -> None:
    keys = step(step(KeySet(), seeds), seeds, after=timedelta(days=30))
    assert states(keys) == [KeyState.ACTIVE, KeyState.NEXT]


def test_next_change_is_when_something_becomes_due(seeds: Seeds) -> None:
    keys = step(KeySet(), seeds)
    assert signing.next_change(keys, POLICY) == NOW + POLICY.period
    assert signing.next_change(step(keys, seeds, requested="x"), POLICY) == NOW + POLICY.lead
    assert signing.next_change(KeySet(), POLICY) is None


def test_when_private_parts_are_lost_the_published_ones_go_on_verifying(seeds: Seeds) -> None:
    before = step(KeySet(), seeds)
    left = signing.recovered(json.loads(json.dumps(before.jwks())), now=NOW)
    assert states(left) == [KeyState.RETIRED]
    keys = step(left, seeds)
    # The API has not seen the new key yet: it waits for the lead, except for who has no token at all.
    assert states(keys) == [KeyState.RETIRED, KeyState.NEXT]
    assert keys.active is None
    assert keys.signing_key == keys.keys[1]
    assert states(step(keys, seeds, after=POLICY.lead)) == [KeyState.RETIRED, KeyState.ACTIVE]


def test_what_is_not_an_ed25519_key_is_not_recovered() -> None:
    jwks = {"keys": [{"kty": "RSA", "n": "x"}, {"crv": "Ed25519", "x": "short"}, {"crv": "Ed25519", "x": "ü!"}, 7]}
    assert signing.recovered(jwks, now=NOW) == KeySet()
    assert signing.recovered({"keys": "x"}, now=NOW) == KeySet()


def test_what_is_written_is_what_is_read(seeds: Seeds) -> None:
    keys = step(step(KeySet(), seeds), seeds, requested="now")
    keys = step(keys, seeds, requested="now", after=timedelta(minutes=5))
    assert signing.load(signing.dump(keys)) == keys


def test_the_public_set_holds_no_private_part(seeds: Seeds) -> None:
    keys = step(step(KeySet(), seeds), seeds, requested="now")
    for jwk in keys.jwks()["keys"]:
        assert set(jwk) == {"kty", "crv", "x", "kid", "use", "alg"}
        assert (jwk["kty"], jwk["crv"], jwk["alg"]) == ("OKP", "Ed25519", "EdDSA")


def test_kid_is_the_thumbprint_of_rfc_8037() -> None:
    # RFC 8037, appendix A.3
    assert signing.thumbprint("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo") == (
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    )


def test_no_representation_shows_a_seed(seeds: Seeds) -> None:
    key = step(KeySet(), seeds).keys[0]
    assert key.seed is not None
    private = json.loads(signing.dump(KeySet(keys=(key,))))["keys"][0]["d"]
    for text in (repr(key), repr(KeySet(keys=(key,), active=key.kid))):
        assert private not in text
        assert repr(key.seed) not in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"keys": 1}',
        '{"keys": [{}]}',
        '{"keys": [{"x": "AA", "created_at": 1}]}',
        '{"active": "a", "keys": []}',
    ],
)
def test_a_damaged_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        signing.load(text)


def test_a_private_part_that_does_not_fit_is_refused_without_being_shown(seeds: Seeds) -> None:
    document = json.loads(signing.dump(step(KeySet(), seeds)))
    secret = document["keys"][0]["d"] = "A" * 43
    with pytest.raises(ValueError, match="does not fit") as refused:
        signing.load(json.dumps(document))
    assert secret not in str(refused.value)
