"""The pure parts of actions of kind ``emit``: what is handed over, how it is signed, and what the answers mean."""

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.actions_stage import event, rule_actions

from attune_actions.kinds.emit import emission_of, outcome_of
from attune_actions.settling import new_run
from attune_contract import emitted
from attune_contract.actions import EMITTED_TRIGGER_TYPE, Run, RunReason
from attune_contract.events import Event
from attune_kit.actions.emission import EmissionError, hops_behind
from attune_kit.actions.plan import Plan

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def emitted_event(hops: Any) -> Event:
    """An event of the Sensor."""
    found = event(1, payload={"a": 1, "emitted": {"name": "x", "hops": hops}})
    return msgspec.structs.replace(found, trigger_type=EMITTED_TRIGGER_TYPE)


def a_run(of: Event) -> Run:
    (step,) = Plan(rule_actions("r", {"name": "tell", "emit": {"name": "x"}})).steps([], event(1))
    return new_run(of, step, rule_generation=1, now=NOW)


def emission(request: dict[str, Any], of: Event | None = None) -> emitted.Emission:
    of = of or event(1)
    return emission_of(request, of, a_run(of))


def test_an_action_cannot_say_where_its_event_comes_from() -> None:
    made = emission({"name": "done", "payload": {"n": 1, "emitted": {"hops": -5}}})
    assert (made.namespace, made.origin.rule, made.origin.action, made.origin.hops) == ("demo", "demo/r", "tell", 1)
    # Of an event that is somebody else's, the field means nothing.
    assert hops_behind(event(1, payload={"emitted": {"hops": 7}})) == 0
    assert emission({"name": "done"}, event(1, payload={"emitted": {"hops": 7}})).origin.hops == 1


def test_hops_are_counted_and_bounded() -> None:
    assert [emission({"name": "x"}, emitted_event(hops)).origin.hops for hops in range(1, emitted.MOST_HOPS)] == list(
        range(2, emitted.MOST_HOPS + 1)
    )
    with pytest.raises(EmissionError, match="make a loop") as caught:
        emission({"name": "x"}, emitted_event(emitted.MOST_HOPS))
    assert caught.value.reason is RunReason.TOO_MANY_HOPS
    odd: Any
    for odd in (None, "many", -3, [], 1.5):
        assert emission({"name": "x"}, emitted_event(odd)).origin.hops == 1


def test_without_a_payload_it_is_that_of_the_event_at_hand() -> None:
    assert emission({"name": "x"}).payload == {"k": 1}
    assert emission({"name": "x", "payload": {}}).payload == {}


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"name": "a b"}, "is no name of an event"),
        ({"name": "a\n"}, "is no name of an event"),
        ({"name": ""}, "is no name of an event"),
        ({"name": 5}, "is no name of an event"),
        ({"name": "a" * 254}, "is no name of an event"),
        ({"name": "a", "payload": [1]}, "the payload is no object"),
        ({"name": "a", "payload": None}, "the payload is no object"),
        ({"name": "a", "payload": {"x": "y" * emitted.MOST_PAYLOAD_BYTES}}, "at most 262144 are allowed"),
    ],
)
def test_what_makes_no_event(request_: dict[str, Any], text: str) -> None:
    with pytest.raises(EmissionError, match=text):
        emission(request_)


def test_the_largest_payload_fits_into_a_request() -> None:
    made = emission({"name": "a" * emitted.MOST_NAME, "payload": {"x": "y" * (emitted.MOST_PAYLOAD_BYTES - 8)}})
    body = msgspec.json.encode(made)
    assert len(body) <= emitted.MOST_REQUEST_BYTES
    assert emitted.decode_emission(body) == made


@given(body=st.binary(max_size=50), other=st.binary(max_size=50), skew=st.integers(-400, 400))
def test_signatures(body: bytes, other: bytes, skew: int) -> None:
    given_ = emitted.signature("token", time=1_000_000, body=body)

    def holds(**changes: Any) -> bool:
        asked: dict[str, Any] = {
            "tokens": ["old", "token"], "time": "1000000", "given": given_, "body": body, "now": 1_000_000.0 + skew
        }  # fmt: skip
        return emitted.is_signed(**{**asked, **changes})

    assert holds() is (abs(skew) <= emitted.TOLERANCE)
    assert holds(body=other, now=1e6) is (other == body)
    assert not holds(tokens=["another", ""], now=1e6)
    assert not holds(time="1000001", now=1e6)
    for odd in ("", "x", "-1", "1e6", "٣"):
        assert not holds(time=odd, now=1e6)
        assert not holds(given=odd, now=1e6)


def answer(*statuses: str, reason: str = "") -> bytes:
    taken = tuple(
        emitted.Taken(rule=f"demo/{number}", id=uuid.UUID(int=number), status=status, reason=reason)
        for number, status in enumerate(statuses)
    )
    return msgspec.json.encode(emitted.Answer(events=taken))


def test_a_run_is_done_only_when_all_events_are_stored() -> None:
    done = outcome_of(200, answer("stored", "duplicate"), name="x")
    assert (done.succeeded, done.result) == (True, {"name": "x", "events": 2, "rules": ["demo/0", "demo/1"]})
    nobody = outcome_of(200, answer(), name="x")
    assert (nobody.succeeded, nobody.message) == (True, "no Rule of the namespace takes x")
    spooled = outcome_of(202, answer("stored", "spooled"), name="x")
    assert (spooled.succeeded, spooled.refused, spooled.not_before) == (False, True, 2.0)


@pytest.mark.parametrize(
    ("status", "reason", "again", "refused"),
    [
        (401, RunReason.TARGET_REFUSED, False, True),
        (413, RunReason.TARGET_REFUSED, False, False),
        (422, RunReason.TARGET_REFUSED, False, False),
        (429, RunReason.TARGET_UNREACHABLE, True, False),
        (503, RunReason.TARGET_UNREACHABLE, True, False),
    ],
)
def test_other_answers(status: int, reason: RunReason, again: bool, refused: bool) -> None:
    found = outcome_of(status, b'{"detail": "Why not."}', name="x", retry_after="3")
    assert (found.reason, found.again, found.refused) == (reason, again, refused)
    if status >= 429:
        assert found.not_before == 3.0
    if status != 401:
        assert "Why not." in found.message
    told = outcome_of(422, answer("stored", "refused", reason="it ended"), name="x")
    assert "for the Rule demo/1: it ended" in told.message


def test_what_makes_no_event_is_said_before_it_is_tried() -> None:
    """So `attune rules test` says what the runner then does."""
    plan = Plan(rule_actions("r", {"name": "tell", "emit": {"name": "${event.payload.n}", "payload": {}}}))

    def planned(name: Any, of: Event) -> tuple[str, RunReason, str]:
        (step,) = plan.steps([name], of)
        return step.fate, step.reason, step.message

    assert planned("done", event(1)) == ("run", RunReason.NONE, "")
    fate, reason, message = planned("a b", event(1))
    assert (fate, reason) == ("fail", RunReason.INVALID_EXPRESSION)
    assert (
        message == "the event is not made: 'a b' is no name of an event: it has letters, digits, and - . _ between them"
    )
    fate, reason, message = planned("done", emitted_event(emitted.MOST_HOPS))
    assert (fate, reason) == ("fail", RunReason.TOO_MANY_HOPS)
    assert "make a loop" in message
