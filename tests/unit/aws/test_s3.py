"""The AWS sensor's rules about buckets, and what it remembers of them; and that its manifest agrees with its program."""

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.rule_stream import rule_state

from attune_aws.config import Server, servers_of
from attune_aws.s3_parameters import BucketSubscription, Parameters, subscription_of
from attune_aws.s3_payload import message_of, object_of, payload_of
from attune_aws.s3_state import MOST_OBJECTS, Object, State, mark_of, new_in, pack, settle, unpack
from attune_contract.resources import Sensor as SensorResource
from attune_sensor import MOST_STATE_BYTES, InvalidRuleError, Rule

PACK = Path(__file__).parents[3] / "packs" / "aws" / "core.aws.yaml"
SENSOR = SensorResource.from_object(yaml.safe_load(PACK.read_text()))
DECLARED = SENSOR.spec.canonical("core.s3objects")
assert DECLARED is not None
PAYLOADS = jsonschema.Draft202012Validator(DECLARED.payload_schema or {})
PARAMETERS = jsonschema.Draft202012Validator(DECLARED.parameters_schema or {})
SERVERS = {"default": Server(name="default", region="eu-central-1"), "other": Server(name="other")}


def rule(**parameters: Any) -> Rule:
    return Rule(state=rule_state(trigger_type="core.s3objects", parameters=parameters), since_us=0)


def subscription(**parameters: Any) -> BucketSubscription:
    return subscription_of(rule(**{"bucket": "inbox", **parameters}), servers=SERVERS)


@pytest.mark.parametrize(
    ("parameters", "good"),
    [
        ({"bucket": "inbox"}, True),
        ({"bucket": "inbox", "prefix": "in/", "server": "other", "order": "name", "from": "beginning"}, True),
        ({"bucket": "inbox", "changes": True, "every": "1h30m"}, True),
        ({"bucket": "inbox", "order": "name", "changes": False}, True),
        ({}, False),
        ({"bucket": ""}, False),
        ({"bucket": "a/b"}, False),
        ({"bucket": "inbox", "prefix": "x" * 1025}, False),
        ({"bucket": "inbox", "order": "size"}, False),
        ({"bucket": "inbox", "order": "name", "changes": True}, False),
        ({"bucket": "inbox", "every": "often"}, False),
        ({"bucket": "inbox", "from": "yesterday"}, False),
        ({"bucket": "inbox", "secretAccessKey": "x"}, False),
    ],
)
def test_the_manifest_and_the_program_agree(parameters: dict[str, Any], good: bool) -> None:
    assert PARAMETERS.is_valid(parameters) == good
    if good:
        subscription_of(rule(**parameters), servers=SERVERS)
    else:
        with pytest.raises(InvalidRuleError):
            subscription_of(rule(**parameters), servers=SERVERS)


def test_the_samples_of_the_pack_can_be_used() -> None:
    for sample in (DECLARED.parameters_schema or {})["examples"] if DECLARED else []:
        subscription_of(rule(**sample), servers=servers_of(SENSOR.spec.config or {}))


@pytest.mark.parametrize("every", ["999ms", "25h", "0s"])
def test_how_often_has_limits(every: str) -> None:
    with pytest.raises(InvalidRuleError, match="not between 1s and 24h"):
        subscription(every=every)


def test_a_rule_begins_again_when_it_asks_for_something_else() -> None:
    asked: list[dict[str, Any]] = [
        {},
        {"prefix": "in/"},
        {"server": "other"},
        {"order": "name"},
        {"changes": True},
        {"from": "beginning"},
    ]
    assert len({subscription(**each).fingerprint for each in asked}) == len(asked)
    assert subscription(every="5m").fingerprint == subscription().fingerprint


def written(key: str, at: int, etag: str = "e") -> Object:
    return Object(key=key, etag=etag, size=1, at=at)


def test_an_object_is_named_by_its_key_and_a_change_by_what_was_written() -> None:
    first, again = written("a", 1_000_000), written("a", 2_000_000, "f")
    assert message_of(subscription(), first).occurrence == message_of(subscription(), again).occurrence
    changes = subscription(changes=True)
    names = {message_of(changes, each).occurrence for each in (first, again, written("a", 3_000_000))}
    assert len(names) == 3
    assert message_of(changes, first).occurred_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


@given(st.text(), st.text())
def test_payloads_are_json_that_the_manifest_declares(key: str, storage: str) -> None:
    storage = storage.encode("utf-8", "replace").decode().replace("\0", "")
    listed = {
        "Key": key,
        "ETag": '"e"',
        "Size": 7,
        "LastModified": datetime(2026, 11, 28, 13, tzinfo=UTC),
        "StorageClass": storage,
    }
    payload = payload_of("shop/inbox", Parameters(bucket="inbox"), object_of(listed))
    payload = msgspec.json.decode(msgspec.json.encode(payload))
    PAYLOADS.validate(payload)
    assert (payload["etag"], payload["lastModified"]) == ("e", "2026-11-28T13:00:00.000Z")


def look(state: State, bucket: dict[str, Object], *, most: int, changes: bool) -> list[Object]:
    """One listing, all of which is stored afterwards."""
    found = new_in(state, bucket.values(), changes=changes)
    state.known |= {mark_of(each, changes=changes) for each in found}
    settle(state, [(each.at, mark_of(each, changes=changes)) for each in bucket.values()], most=most)
    return found


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3))), max_size=8),
    st.integers(1, 5),
    st.booleans(),
)
def test_each_object_is_new_once_in_the_order_of_writing(
    rounds: list[list[tuple[str, int]]], most: int, changes: bool
) -> None:
    """However few are remembered by name. Time goes on between listings, but many are written at the same."""
    state, bucket, told = State(fingerprint=b""), dict[str, Object](), list[Object]()
    ever = dict[str, Object]()
    content = itertools.count()
    for number, writes in enumerate(rounds):
        for key, offset in writes:
            if key not in ever or changes:
                bucket[key] = ever[key] = written(key, 10 * number + offset, str(next(content)))
        expected = sorted((each for each in bucket.values() if each not in told), key=lambda each: (each.at, each.key))
        found = look(state, bucket, most=most, changes=changes)
        assert found == expected
        told += found
        state = unpack(pack(state)) or State(fingerprint=b"lost")
    assert state.fingerprint == b""


def test_what_is_deleted_is_forgotten() -> None:
    state = State(fingerprint=b"")
    look(state, {"a": written("a", 1), "b": written("b", 2)}, most=10, changes=False)
    look(state, {"b": written("b", 2)}, most=10, changes=False)
    assert state.known == {mark_of(written("b", 2), changes=False)}


def test_the_largest_state_can_be_kept() -> None:
    known = {number.to_bytes(8, "big") for number in range(MOST_OBJECTS)}
    packed = pack(State(fingerprint=b"x" * 16, marker="k" * 1024, before=2**62, known=known))
    assert len(packed) < MOST_STATE_BYTES
    assert (unpack(packed) or State(fingerprint=b"")).known == known


@pytest.mark.parametrize("packed", [b"", b"\x00", msgspec.msgpack.encode([2, b"", "", 0, b""])])
def test_a_state_of_another_program_is_none(packed: bytes) -> None:
    assert unpack(packed) is None
