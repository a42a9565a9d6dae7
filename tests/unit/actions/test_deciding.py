"""The pure parts of the runner: what becomes of a run, which addresses and requests are allowed, what is hidden, how fast."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.actions_stage import event, http, rule_actions

from attune_actions.kinds.request import RequestError, build, checked_url, redirected
from attune_actions.limits import Circuits, RateLimits, Slots, Spacing
from attune_actions.masking import Masks
from attune_actions.settling import Outcome, RetryPolicy, changed, new_run, of_status, settled
from attune_contract.actions import Run, RunReason, RunState
from attune_kit.actions.plan import Plan
from attune_kit.addresses import AddressRules
from attune_kit.cel.library import EvaluationError

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
POLICY = RetryPolicy(attempts=3, backoff=2.0, max_backoff=60.0, timeout=30.0)


def a_run() -> Run:
    (step,) = Plan(rule_actions("r", http("http://a.example/"))).steps([], event(1))
    return new_run(event(1), step, rule_generation=1, now=NOW)


def after(run: Run, outcome: Outcome, *, chance: float = 0.0, now: datetime = NOW) -> Run:
    return settled(run, outcome, POLICY, began=now, seconds=0.1, now=now, chance=chance)


FAILED = Outcome(reason=RunReason.TARGET_REFUSED, again=True, status=500, message="the target answered 500")


def test_a_run_fails_after_its_last_attempt() -> None:
    run = a_run()
    waits = []
    for _ in range(2):
        run = after(run, FAILED)
        assert run.state is RunState.WAITING
        assert run.next_attempt_at is not None
        waits.append((run.next_attempt_at - NOW).total_seconds())
    assert waits == [1.0, 2.0]  # half of the doubling backoff: the chance was 0
    run = after(run, FAILED)
    assert (run.state, run.attempts_made, run.next_attempt_at) == (RunState.FAILED, 3, None)
    assert [each.number for each in run.attempts] == [1, 2, 3]


def test_what_cannot_succeed_is_not_tried_again() -> None:
    run = after(a_run(), Outcome(reason=RunReason.TARGET_REFUSED, status=404))
    assert (run.state, run.attempts_made) == (RunState.FAILED, 1)


def test_a_target_s_wish_is_kept_up_to_the_longest_wait() -> None:
    def wait(seconds: float) -> float:
        found = after(a_run(), Outcome(reason=RunReason.TARGET_REFUSED, again=True, not_before=seconds)).next_attempt_at
        assert found is not None
        return (found - NOW).total_seconds()

    assert (wait(0), wait(20), wait(3600)) == (1.0, 20.0, 60.0)


def test_what_is_held_back_is_no_attempt_but_ends_some_time() -> None:
    held = Outcome(reason=RunReason.CIRCUIT_OPEN, refused=True, not_before=5.0)
    run = after(a_run(), held)
    assert (run.state, run.attempts_made) == (RunState.WAITING, 0)
    late = NOW + timedelta(seconds=POLICY.horizon + 1)
    assert after(run, held, now=late).state is RunState.FAILED


def test_each_change_has_a_higher_revision_and_a_later_life_a_higher_one_still() -> None:
    run = a_run()
    assert changed(run, now=NOW).revision == run.revision + 1
    assert changed(run, now=NOW + timedelta(seconds=1)).revision > changed(changed(run, now=NOW), now=NOW).revision


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
def test_statuses_that_pass(status: int) -> None:
    assert of_status(status, retry_after=None, now=NOW).again


@pytest.mark.parametrize("status", [301, 400, 401, 404, 409, 422])
def test_statuses_that_stay(status: int) -> None:
    found = of_status(status, retry_after="5", now=NOW)
    assert (found.again, found.succeeded, found.not_before) == (False, False, 0.0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Fri, 27 Nov 2026 12:00:30 GMT", 30.0),
        ("Fri, 27 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", 0.0),
        ("-1", 0.0),
    ],
)
def test_retry_after(header: str, seconds: float) -> None:
    assert of_status(503, retry_after=header, now=NOW).not_before == seconds


REFUSED = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "255.255.255.255", "::1", "::",
    "fe80::1", "fe80::1%eth0", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.96.0.1", "::127.0.0.1",
    "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "10.96.0.1", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "no address",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_refused(address: str) -> None:
    assert AddressRules(denied=["10.96.0.0/12"]).refusal(address) is not None


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "10.1.2.3", "192.168.1.1", "2606:2800:220:1::1", "::ffff:10.1.2.3"]
)
def test_addresses_that_are_not(address: str) -> None:
    assert AddressRules(denied=["10.96.0.0/12"]).refusal(address) is None


def test_a_value_allows_what_is_denied() -> None:
    rules = AddressRules(denied=["10.96.0.0/12"], allowed=["10.96.7.7/32", "127.0.0.1"])
    assert rules.refusal("10.96.7.7") is None
    assert rules.refusal("10.96.7.8") is not None
    assert rules.refusal("127.0.0.1") is None
    assert rules.refusal("127.0.0.2") is not None


@pytest.mark.parametrize(
    "url",
    ["ftp://a.example/", "http:///x", "a.example", "http://user:pass@a.example/", "http://a.example/\r\nX: y",
     "http://a.example/ x", "http://a.example:99999/", "http://[::1", "http://a%2eexample/", "http://a.example\\@b/",
     "file:///etc/passwd", "http://a/" + "x" * 9000],
)  # fmt: skip
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(RequestError):
        checked_url(url)


def request_of(**more: Any) -> Any:
    return build({"url": "http://a.example/", **more}, run=a_run(), event=event(1), secrets={}, agent="t")


def test_no_value_begins_another_header() -> None:
    for value in ("x\r\nInjected: y", "x\nInjected: y", "x\rInjected: y", "x\0y"):
        with pytest.raises(RequestError):
            request_of(headers=[{"name": "X", "value": value}])
    with pytest.raises(RequestError):
        request_of(headers=[{"name": "X\r\nInjected", "value": "y"}])
    for name in ("Host", "content-length", "Transfer-Encoding", "Idempotency-Key", "Proxy-Authorization"):
        with pytest.raises(RequestError):
            request_of(headers=[{"name": name, "value": "y"}])


def test_bodies() -> None:
    assert request_of(body={"a": 1}).body == b'{"a":1}'
    assert request_of(form={"a": "x y&z"}).body == b"a=x+y%26z"
    assert request_of(text="hello").headers["Content-Type"] == "text/plain; charset=utf-8"
    binary = request_of(cloudEvent="Binary")
    assert (binary.body, binary.headers["ce-id"]) == (b'{"k":1}', str(event(1).id))
    assert b'"data":{"k":1}' in request_of(cloudEvent="Structured").body
    assert request_of(query={"q": "a&b=c"}).url == "http://a.example/?q=a%26b%3Dc"


def test_redirects_take_no_secret_elsewhere() -> None:
    http_ = {
        "url": "https://a.example/x",
        "method": "GET",
        "headers": [{"name": "X-Key", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    }
    request = build(http_, run=a_run(), event=event(1), secrets={"X-Key": "hidden"}, agent="t")
    same = redirected(request, 302, "/y", hops=0)
    other = redirected(request, 302, "https://b.example/", hops=0)
    assert same is not None
    assert other is not None
    assert "X-Key" in same.headers
    assert "X-Key" not in other.headers
    with pytest.raises(RequestError):
        redirected(request, 302, "http://a.example/", hops=0)
    with pytest.raises(RequestError):
        redirected(request, 302, "/y", hops=5)
    post = build({"url": "https://a.example/"}, run=a_run(), event=event(1), secrets={}, agent="t")
    assert redirected(post, 302, "/y", hops=0) is None
    assert redirected(post, 307, "/y", hops=0) is not None


def test_secrets_are_hidden_in_each_form() -> None:
    masks = Masks(["Bearer s3cr3t/tok+en"])
    for shown in ("s3cr3t/tok+en", "s3cr3t%2Ftok%2Ben", "Bearer s3cr3t/tok+en", "QmVhcmVyIHMzY3IzdC90b2srZW4="):
        assert masks.hide(f"<{shown}>") == "<***>"


@given(st.text(min_size=4, max_size=30).filter(lambda text: len(text.strip()) >= 4), st.text(max_size=20))
def test_no_secret_is_left(secret: str, around: str) -> None:
    shown = Masks([secret]).hide(f"{around}{secret}{around}")
    assert secret not in shown or secret in f"{around}***{around}" or set(secret) <= {"*"}


def test_slots_leave_room_for_other_rules() -> None:
    slots = Slots(total=1000, per_rule=64)
    for rule in range(50):
        while slots.take(f"slow-{rule}"):
            pass
    assert slots.used < 1000
    assert slots.take("another")


def test_a_rate_limit() -> None:
    limits = RateLimits()
    assert [limits.take("a", per_second=2.0, burst=2, now=0.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert limits.take("a", per_second=2.0, burst=2, now=0.5) == 0.0
    assert limits.take("b", per_second=2.0, burst=2, now=0.5) == 0.0


def test_those_that_wait_come_back_one_after_the_other() -> None:
    spacing = Spacing()
    found = [spacing.delay("a", now=0.0, apart=0.5, least=0.1, most=1.0) for _ in range(4)]
    assert found == pytest.approx([0.1, 0.6, 1.0, 1.0])


def test_a_circuit_opens_lets_one_through_and_closes() -> None:
    circuits = Circuits(after=3, first=1.0, longest=4.0)
    for _ in range(3):
        assert circuits.closed_for("t", now=0.0, patience=5.0) == 0.0
        circuits.failed("t", now=0.0)
    assert circuits.closed_for("t", now=0.5, patience=5.0) == pytest.approx(0.5)
    assert circuits.closed_for("u", now=0.5, patience=5.0) == 0.0
    assert circuits.closed_for("t", now=1.0, patience=5.0) == 0.0  # one attempt
    assert circuits.closed_for("t", now=1.1, patience=5.0) > 0.0  # no second one beside it
    circuits.failed("t", now=1.2)
    assert circuits.closed_for("t", now=2.0, patience=5.0) == pytest.approx(1.2)  # twice as long
    assert circuits.closed_for("t", now=3.3, patience=5.0) == 0.0
    circuits.answered("t")
    assert circuits.closed_for("t", now=3.3, patience=5.0) == 0.0


# -- the plan ------------------------------------------------------------------------------------------------------------


def test_results_cannot_change_a_url_s_host_or_add_parameters() -> None:
    plan = Plan(rule_actions("r", http("https://a.example/${event.payload.name}?q=${event.payload.q}")))
    assert plan.program is not None
    (step,) = plan.steps(["../x@evil.example/?y", "1&admin=1"], event(1))
    assert step.request["url"] == "https://a.example/..%2Fx%40evil.example%2F%3Fy?q=1%26admin%3D1"


def test_an_expression_s_text_is_no_template_and_no_json() -> None:
    plan = Plan(
        rule_actions("r", http("https://a.example/", body={"text": "${event.payload.t}", "n": "<${event.payload.t}>"}))
    )
    hostile = '","admin":true,"x":"${event.data.secret}'
    (step,) = plan.steps([hostile], event(1))
    assert step.request["body"] == {"text": hostile, "n": f"<{hostile}>"}


def test_without_expressions_nothing_is_evaluated() -> None:
    plan = Plan(rule_actions("r", http("https://a.example/", text="costs $${5}")))
    assert plan.program is None
    (step,) = plan.steps([], event(1))
    assert (step.fate, step.request["text"]) == ("run", "costs ${5}")


def test_conditions() -> None:
    plan = Plan(rule_actions("r", http("https://a.example/", when="event.payload.a"), when="event.payload.r"))
    assert [each.fate for each in plan.steps([True, True], event(1))] == ["run"]
    assert [each.reason for each in plan.steps([False, True], event(1))] == [RunReason.CONDITION_FALSE]
    assert [each.fate for each in plan.steps([True, False], event(1))] == ["skip"]
    missing = EvaluationError('Key not found in map : "a"')
    assert [each.fate for each in plan.steps([True, missing], event(1))] == ["skip"]
    wrong = EvaluationError("No matching overloads found : _>_(string, int64)")
    assert [(each.fate, each.reason) for each in plan.steps([True, wrong], event(1))] == [
        ("fail", RunReason.INVALID_EXPRESSION)
    ]


def test_a_template_without_a_result_fails_its_action_alone() -> None:
    plan = Plan(
        rule_actions(
            "r", http("https://a.example/", name="a", text="${event.payload.x}"), http("https://a.example/", name="b")
        )
    )
    assert [each.fate for each in plan.steps([EvaluationError("no")], event(1))] == ["fail", "run"]


async def test_a_run_waits_for_a_slot_unless_the_rule_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune_actions.limits._PATIENCE", 0.05)
    slots = Slots(total=100, per_rule=1)
    assert await slots.acquire("r")
    next_one = asyncio.create_task(slots.acquire("r"))
    await asyncio.sleep(0)
    slots.give_back("r")
    assert await next_one  # it has the slot that was given back
    assert not await slots.acquire("r")  # in vain
    assert slots.is_stuck("r")
    assert not await slots.acquire("r")  # nothing waits any more
    slots.give_back("r", seconds=10.0)
    assert slots.is_stuck("r")
    assert await slots.acquire("r")
    slots.give_back("r", seconds=0.01)
    assert not slots.is_stuck("r")
    assert slots.used == 0


async def test_nothing_waits_for_long_while_no_slot_becomes_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune_actions.limits._STANDSTILL", 0.05)
    monkeypatch.setattr("attune_actions.limits._PATIENCE", 3600.0)
    slots = Slots(total=100, per_rule=2)
    noticed: list[int] = []
    slots.on_waiting = lambda: noticed.append(slots.waiting)
    assert [await slots.acquire("slow") for _ in range(2)] == [True, True]
    assert await asyncio.gather(*(slots.acquire("slow") for _ in range(3))) == [False] * 3
    assert noticed == [1, 2, 3]
    assert slots.waiting == 0
    assert slots.is_stuck("slow")
    assert slots.seconds_apart("slow") is None, "no attempt has ended"
    slots.give_back("slow", seconds=10.0)
    assert slots.seconds_apart("slow") == 10.0, "one is under way"
    slots.give_back("slow", seconds=0.1)
    assert (slots.is_stuck("slow"), slots.seconds_apart("slow"), slots.used) == (False, None, 0)


async def test_who_waits_for_slots_that_become_free_goes_on_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attune_actions.limits._STANDSTILL", 3600.0)
    slots = Slots(total=100, per_rule=1)
    assert await slots.acquire("r")
    waiting = [asyncio.create_task(slots.acquire("r")) for _ in range(20)]
    for task in waiting:
        await asyncio.sleep(0)
        assert slots.waiting == sum(not each.done() for each in waiting)
        slots.give_back("r")
        assert await task
    slots.give_back("r")
    assert (slots.used, slots.waiting) == (0, 0)


async def test_who_no_longer_waits_keeps_no_slot() -> None:
    slots = Slots(total=100, per_rule=1)
    assert await slots.acquire("r")
    waiting = asyncio.create_task(slots.acquire("r"))
    await asyncio.sleep(0)
    slots.give_back("r")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert slots.used == (0 if waiting.cancelled() else 1)
