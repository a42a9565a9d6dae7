"""From what programs print to events: formats, times, names, hints. Pure parts."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune_stdio.hints import hints
from attune_stdio.messages import EventLine, LineError, parse, repaired
from attune_stdio.moments import MomentError, parse_moment
from attune_stdio.output import NOT_WANTED, Format, OutputOptions, OutputReader, parse_event
from attune_stdio.splitters import CsvSplitter, JsonSplitter
from attune_stdio.variables import expanded, of_program
from attune_stdio.warnings import ProgramWarnings


def records(data: bytes, *, chunk: int = 7, limit: int = 1000) -> list[bytes]:
    splitter = JsonSplitter(limit=limit)
    found = [line.text for at in range(0, len(data), chunk) for line in splitter.feed(data[at : at + chunk])]
    last = splitter.end()
    return found + ([] if last is None else [last.text])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(['"', "\\", '\\"', "{", "]", "\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.lists(JSON.filter(lambda value: isinstance(value, dict | list)), max_size=4), st.integers(1, 20), st.data())
def test_json_values_are_found_however_they_are_written(values: list[Any], chunk: int, data: st.DataObject) -> None:
    """Over several lines, without a newline between them, in pieces of any size."""
    text = "".join(
        data.draw(st.sampled_from(["", "\n", "  ", "\r\n"]))
        + json.dumps(value, indent=data.draw(st.sampled_from([None, 2])))
        for value in values
    )
    assert [json.loads(each) for each in records(text.encode(), chunk=chunk)] == values


def test_texts_and_numbers_end_with_their_line_and_so_does_what_is_no_json() -> None:
    assert records(b'1\n"a b"\nnull\n{"a":\n1}\nnot "json\n{"b": 2}') == [
        b"1", b'"a b"', b"null", b'{"a":\n1}', b'not "json', b'{"b": 2}'
    ]  # fmt: skip


def test_a_value_that_is_too_long_is_skipped_to_its_line_s_end() -> None:
    splitter = JsonSplitter(limit=50)
    found = splitter.feed(b'{"a": "' + b"x" * 100 + b'"}\n{"b": 1}\n')
    assert [line.cut for line in found] == [True, False]
    assert found[1].text == b'{"b": 1}'
    splitter.feed(b'{"a": [')
    assert splitter.waiting == 7


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_csv_records_may_have_newlines_in_quotes(chunk: int) -> None:
    data = b'a,"b\nc",d\r\n1,2,3\n"x""y",z,\n'
    splitter = CsvSplitter(limit=1000)
    found = [line.text for at in range(0, len(data), chunk) for line in splitter.feed(data[at : at + chunk])]
    reader = OutputReader(OutputOptions(format=Format.CSV))
    assert [reader.value(text.rstrip(b"\r")) for text in found] == [
        ["a", "b\nc", "d"],
        ["1", "2", "3"],
        ['x"y', "z", ""],
    ]


def test_csv_with_columns_is_an_object() -> None:
    reader = OutputReader(OutputOptions(format=Format.CSV, columns=("dir", "event", "file")))
    assert reader.value(b'/tmp/,"CREATE,ISDIR",a') == {"dir": "/tmp/", "event": "CREATE,ISDIR", "file": "a"}
    with pytest.raises(LineError, match="it has 2 columns; expected 3"):
        reader.value(b"a,b")


def test_regex_gives_its_named_groups_and_other_lines_are_not_wanted() -> None:
    reader = OutputReader(OutputOptions(format=Format.REGEX, pattern=r"^(?P<level>ERROR|WARN) (?P<text>.*)$"))
    assert reader.value(b"ERROR disk full") == {"level": "ERROR", "text": "disk full"}
    assert reader.value(b"INFO all well") is NOT_WANTED


def test_payloads_of_values_that_are_no_objects() -> None:
    reader = OutputReader(OutputOptions(format=Format.TEXT))
    assert reader.event("a line", {}) == EventLine(payload={"text": "a line"})
    assert OutputReader(OutputOptions(format=Format.JSON)).event([1], {}) == EventLine(payload={"value": [1]})


def test_expressions_say_what_an_event_is() -> None:
    reader = OutputReader(OutputOptions(format=Format.JSON))
    assert reader.event({"a": 1}, {"when": False}) is None
    assert reader.event(
        {"a": 1}, {"payload": {"b": 2}, "occurrence": 1.5, "occurredAt": 1_700_000_000_000}
    ) == EventLine(payload={"b": 2}, occurrence="1.5", occurred_at=datetime.fromtimestamp(1_700_000_000, UTC))
    assert reader.event({"a": 1}, {"occurrence": ""}) == EventLine(payload={"a": 1}), "as if it were absent"
    for results, complaint in (
        ({"payload": "x"}, "payload: the expression gives no object"),
        ({"occurrence": True}, "occurrence: the expression gives neither a text nor a number"),
        ({"occurredAt": "yesterday"}, "occurredAt: 'yesterday' is not a time"),
    ):
        with pytest.raises(LineError, match=complaint):
            reader.event({"a": 1}, results)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-23T12:00:00Z", "2026-11-23T12:00:00"),
        ("2026-11-23 12:00:00+0100", "2026-11-23T11:00:00"),
        ("2026-11-23T12:00:00.676Z+0000", "2026-11-23T12:00:00.676000"),  # mosquitto_sub's tst
        ("2026-11-23T12:00:00,5+01", "2026-11-23T11:00:00.500000"),
        ("2026-11-23 12:00 UTC", "2026-11-23T12:00:00"),
        ("2026-11-23T12:00:00.123456789-05:30", "2026-11-23T17:30:00.123456"),
        (1795435200, "2026-11-23T12:00:00"),
        (1795435200.5, "2026-11-23T12:00:00.500000"),
        ("1795435200", "2026-11-23T12:00:00"),
        (1795435200676, "2026-11-23T12:00:00.676000"),  # kcat, tshark
        ("1795435200676123", "2026-11-23T12:00:00.676123"),  # journald
        (1795435200676123456, "2026-11-23T12:00:00.676123"),
        ("1795435200.676123456", "2026-11-23T12:00:00.676123"),
    ],
)
def test_times_as_programs_print_them(value: Any, expected: str) -> None:
    assert parse_moment(value) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [("2026-11-23T12:00:00", "has no zone"), ("2026-02-30T12:00:00Z", "is not a time"), ("noon", "is not a time"),
     (True, "is not a time"), (None, "is not a time"), ("2026-11-23T25:00:00Z", "is not a time")],
)  # fmt: skip
def test_what_is_no_time(value: Any, complaint: str) -> None:
    with pytest.raises(MomentError, match=complaint):
        parse_moment(value)


def test_an_event_line_may_have_an_epoch_any_number_and_an_empty_occurrence() -> None:
    line = parse(b'{"payload": {}, "occurred_at": 1795435200676, "occurrence": 1.5}')
    assert isinstance(line, EventLine)
    assert (line.occurrence, line.occurred_at) == ("1.5", datetime(2026, 11, 23, 12, 0, 0, 676_000, tzinfo=UTC))
    assert parse(b'{"payload": {}, "occurrence": ""}') == EventLine(payload={})
    with pytest.raises(LineError):
        parse(b'{"payload": {}, "occurrence": true}')


def test_events_of_the_same_second_stay_apart_and_the_same_event_stays_one() -> None:
    stamp = '"occurred_at": "2026-11-23T12:00:00Z"'
    first, second, again = (
        parse_event(f'{{"payload": {payload}, {stamp}}}'.encode())
        for payload in ('{"a": 1, "b": 2}', '{"a": 2}', '{"b": 2, "a": 1}')
    )
    assert isinstance(first, EventLine)
    assert isinstance(second, EventLine)
    assert first.occurrence != second.occurrence
    assert first == again


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"payload": {"a": "\xff\xfe"}}', {"a": "\ufffd\ufffd"}),
        (b'{"payload": {"a": "x\\u0000y"}}', {"a": "x\ufffdy"}),
        (b'{"payload": {"a": "x\\\\u0000y"}}', {"a": "x\\u0000y"}),
        (b'\xef\xbb\xbf{"payload": {"a": 1}}', {"a": 1}),
        (b'{"payload": {"a": NaN, "b": [-Infinity]}}', {"a": None, "b": [None]}),
    ],
)
def test_bytes_that_would_lose_an_event_are_repaired(data: bytes, expected: dict[str, Any]) -> None:
    assert parse(data) == EventLine(payload=expected)
    assert repaired(b"plain") == b"plain"


def test_parameters_are_expanded_without_a_shell() -> None:
    variables = {"ATTUNE_PARAM_TOPIC": "a b; $(rm -rf)", "N": "1"}
    command = ("mosquitto_sub", "-t", "$(ATTUNE_PARAM_TOPIC)", "$(UNKNOWN)", "$$(N)", "echo $$", "x$(N)y")
    assert expanded(command, variables) == (
        "mosquitto_sub", "-t", "a b; $(rm -rf)", "$(UNKNOWN)", "$(N)", "echo $$", "x1y"
    )  # fmt: skip


def test_secrets_and_ports_are_the_program_s_business() -> None:
    given = of_program(
        {"ATTUNE_SECRETS_DIR": "/s", "ATTUNE_PORT_HTTP": "8000", "ATTUNE_API_TOKEN_FILE": "/t", "HOME": "/h"},
        scripts_dir=None,
    )
    assert given == {"ATTUNE_SECRETS_DIR": "/s", "ATTUNE_PORT_HTTP": "8000", "HOME": "/h", "PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize(
    ("command", "programs"),
    [
        (["grep", "-n", "x"], ["grep"]),
        (["/usr/bin/jq", "-c", "."], ["jq"]),
        (["jq", "--unbuffered", "."], []),
        (["sed", "-nu", "p"], []),
        (["sed", "s/u/v/"], ["sed"]),
        (["tshark", "-l", "-T", "ek"], []),
        (["tshark", "-T", "ek"], ["tshark"]),
        (["kcat", "-C", "-uq"], []),
        (["mawk", "{print}"], ["mawk"]),
        (["mawk", "-W", "interactive", "{print}"], []),
        (["perl", "-ne", "$|=1; print"], []),
        (["perl", "-ne", "print"], ["perl"]),
        (["sh", "-c", "redis-cli subscribe x | grep --line-buffered m | sed s/a/b/"], ["sed"]),
        (["sh", "-c", "exec jq ."], ["jq"]),
        (["mosquitto_sub", "-t", "x"], []),
    ],
)
def test_programs_that_hold_their_output_back_are_named(command: list[str], programs: list[str]) -> None:
    assert [text.partition(" ")[0] for text in hints(command)] == programs


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"format": "regex"}, "pattern and format: regex go together"),
        ({"format": "text", "pattern": "x"}, "pattern and format: regex go together"),
        ({"format": "regex", "pattern": "("}, "is not a regular expression"),
        ({"format": "json", "columns": ["a"]}, "columns go with format: csv"),
        ({"when": "true"}, "when: not with format: events"),
        ({"format": "json", "occurredAt": "line.ts"}, None),
    ],
)
def test_options_fit_together(options: dict[str, Any], complaint: str | None) -> None:
    problem = msgspec.convert(options, type=OutputOptions).problem()
    assert (problem is None) if complaint is None else complaint in (problem or "")


def test_hints_hold_as_long_as_the_program_runs() -> None:
    warnings = ProgramWarnings(["jq holds its output back."])
    assert warnings.text(now=0) == warnings.text(now=1e6) == "jq holds its output back."


def test_a_line_that_does_not_end_and_an_end_with_status_0_are_mentioned() -> None:
    warnings = ProgramWarnings()
    warnings.waiting(10, now=0)
    assert warnings.text(now=5) == ""
    warnings.waiting(700, now=9)
    assert warnings.text(now=11) == "700 bytes of its output wait for the end of their line."
    warnings.waiting(0, now=12)
    assert warnings.text(now=12) == ""
    warnings.ended_well(ran=2.0, words="Error: Server closed the connection", now=20)
    assert warnings.text(now=21) == (
        "It ended with status 0 after 2.0 s and was started again. It said last: Error: Server closed the connection"
    )


def test_silence_is_mentioned_until_something_comes() -> None:
    warnings = ProgramWarnings()
    warnings.started(now=10)
    assert warnings.text(now=12) == ""
    assert warnings.text(now=15) == "Its program has printed nothing so far."
    warnings.printed()
    assert warnings.text(now=16) == ""


def test_output_that_nobody_wants_is_mentioned_until_something_is_wanted() -> None:
    warnings = ProgramWarnings()
    for _ in range(2):
        warnings.read(wanted=False)
    assert warnings.text(now=1) == ""
    warnings.read(wanted=False)
    assert "Nothing that its program printed so far was wanted by the Sensor's spec.stdio" in warnings.text(now=2)
    warnings.read(wanted=True)
    warnings.read(wanted=False)
    assert warnings.text(now=3) == ""
