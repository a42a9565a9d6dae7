"""Lines out of bytes, what they mean, and how fast they are taken."""

import random

import pytest

from attune_sensor import AckState
from attune_stdio.lines import Line, LineSplitter
from attune_stdio.messages import AckLine, EventLine, LineError, parse
from attune_stdio.restarts import Restarts
from attune_stdio.throttle import Throttle
from attune_stdio.warnings import ProgramWarnings


def split(data: bytes, *, limit: int = 1000, chunk: int = 7) -> list[Line]:
    splitter = LineSplitter(limit=limit)
    lines = [line for at in range(0, len(data), chunk) for line in splitter.feed(data[at : at + chunk])]
    return lines if (last := splitter.end()) is None else [*lines, last]


@pytest.mark.parametrize("chunk", [1, 3, 64, 10_000])
def test_lines_are_the_same_however_the_bytes_come(chunk: int) -> None:
    texts = [bytes(random.Random(n).choices(b"abc ", k=n)) for n in range(40)]
    assert [line.text for line in split(b"\n".join(texts) + b"\n", chunk=chunk)] == texts


def test_the_last_line_need_not_end() -> None:
    assert [line.text for line in split(b"one\ntwo")] == [b"one", b"two"]
    assert split(b"") == []


@pytest.mark.parametrize("chunk", [10, 300, 65_536, 10_000_000])
def test_a_line_that_is_too_long_is_cut_and_measured_and_the_next_is_whole(chunk: int) -> None:
    cut, next_one = split(b"x" * 5_000_000 + b"\nnext\n", limit=1000, chunk=chunk)
    assert cut.length == 5_000_000
    assert cut.cut
    assert len(cut.text) <= 1000
    assert (next_one.text, next_one.cut) == (b"next", False)


def test_an_endless_line_takes_no_memory() -> None:
    splitter = LineSplitter(limit=1000)
    for _ in range(1000):
        assert splitter.feed(b"x" * 10_000) == []
        assert sum(map(len, splitter._parts)) <= 1000


def test_an_event_may_say_as_little_as_its_payload() -> None:
    assert parse(b'{"payload": {"a": 1}}') == EventLine(payload={"a": 1})
    assert parse(b'{"payload": {}, "traceparent": "00-a", "tracestate": null}') == EventLine(
        payload={}, traceparent="00-a"
    )
    line = parse(b'{"payload": {}, "occurrence": 17, "occurred_at": "2026-11-23T12:00:00+01:00", "rule": "a/b"}')
    assert isinstance(line, EventLine)
    assert (line.occurrence, line.rule) == ("17", "a/b")
    assert line.occurred_at is not None
    assert line.occurred_at.isoformat() == "2026-11-23T11:00:00+00:00"


def test_an_ack_has_a_state_and_a_message() -> None:
    assert parse(b'{"ack": "Rejected", "message": "no such queue", "rule": "u"}') == AckLine(
        ack=AckState.REJECTED, message="no such queue", rule="u"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"hello", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b'{"payload": {}', "truncated"),
        (b'{"payload": "text"}', "payload"),
        (b"{}", "neither"),
        (b'{"payload": {}, "occured_at": "2026-11-23T12:00:00Z"}', "occured_at"),
        (b'{"payload": {}, "occurred_at": "2026-11-23T12:00:00"}', "zone"),
        (b'{"payload": {}, "occurred_at": "yesterday"}', "occurred_at"),
        (b'{"payload": {}, "occurrence": {}}', "occurrence"),
        (b'{"payload": {}, "message": "m"}', "goes with an `ack`"),
        (b'{"ack": "Active", "payload": {}}', "does not go with"),
        (b'{"ack": "Stopped"}', "one of Active"),
        (b'{"ack": "Happy"}', "ack"),
        (b'{"payload":' + b'{"a":' * 100_000, ""),
        (b'{"payload": {}, "occurrence": "' + b"x" * 5000 + b'"}', "4096"),
        (b"\x00\xff\xfe", "not a JSON object"),
    ],
)
def test_everything_else_is_refused_with_a_reason(text: bytes, why: str) -> None:
    with pytest.raises(LineError) as refused:
        parse(text)
    assert why in str(refused.value)


def test_the_throttle_lets_a_second_s_worth_through_and_then_so_many_a_second() -> None:
    throttle, now, waited = Throttle(rate=1000, now=0.0), 0.0, 0.0
    for number in range(5000):
        wait = throttle.take(1, now=now)
        assert wait == 0 or number >= 1000
        now += wait
        waited += wait
    assert 3.9 <= waited <= 4.0
    assert throttle.take(1, now=now + 10) == 0


def test_restarts_come_later_and_later_without_end_and_are_forgiven() -> None:
    restarts = Restarts(initial=1, maximum=60)
    attempt, delays = 0, []
    for _ in range(2000):
        attempt, delay = restarts.after(attempt=attempt, ran=0.1, chance=1.0)
        delays.append(delay)
    assert delays[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(delays[7:]) == {60}
    assert restarts.after(attempt=attempt, ran=59.9, chance=0.0) == (2001, 30)
    assert restarts.after(attempt=attempt, ran=60.0, chance=0.0) == (1, 0.5)


def test_remarks_are_told_at_once_and_are_forgotten() -> None:
    remarks = ProgramWarnings()
    assert remarks.changed_text(now=0) is None
    assert remarks.held_up(now=41)
    assert not remarks.held_up(now=42)
    assert "made to wait" in (remarks.changed_text(now=43) or "")
    assert remarks.changed_text(now=44) is None
    assert remarks.changed_text(now=400) == ""
