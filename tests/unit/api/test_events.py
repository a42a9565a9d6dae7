"""Reading reports, cursors and messages, as pure functions."""

import gzip
import json
import uuid
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from support.api_process import report

from attune_api.app import create_app
from attune_api.events.ingest.reports import (
    MAX_PAYLOAD_DEPTH,
    InvalidReportError,
    Refusal,
    as_row,
    find_fault,
    read_batch,
    read_report,
)
from attune_api.events.ingest.sql import Status
from attune_api.events.table import EVENTS
from attune_api.storage.types import UtcTime, sqlite_time
from attune_api.streams.outbox import message
from attune_api.web.bodies import gunzip
from attune_api.web.cursors import Cursor, InvalidCursorError, decode_text, encode_text
from attune_api.web.problems import ProblemError
from attune_contract.events import Event, EventReport


def test_an_event_s_fields_are_the_table_s_columns_and_what_is_documented() -> None:
    assert set(EventReport.__struct_fields__) < set(Event.__struct_fields__) == set(EVENTS.c.keys())
    documented = create_app().openapi()["components"]["schemas"]
    for kind in (EventReport, Event):
        properties = documented[kind.__name__]["properties"]
        assert set(properties) == set(kind.__struct_fields__)
        assert all(each["description"] and each["examples"] for each in properties.values())


def test_what_the_contract_writes_is_read() -> None:
    said = msgspec.json.decode(json.dumps(report(3)).encode(), type=EventReport)
    read = read_report(msgspec.json.encode(said))
    assert msgspec.structs.asdict(read) == msgspec.structs.asdict(said)


def test_fields_of_newer_versions_are_ignored() -> None:
    assert read_report(json.dumps({**report(), "severity": "high"}).encode()).payload == {"k": 0}


@pytest.mark.parametrize(
    ("given_", "kept"),
    [("", ""), ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",) * 2, ("nonsense", ""), ("\0", "")],
)
def test_a_trace_that_is_not_valid_costs_no_event(given_: str, kept: str) -> None:
    read = read_report(json.dumps({**report(), "traceparent": given_, "tracestate": "a=1"}).encode())
    row = as_row(read, sensor_ref="a/b", received_at=datetime.now(UTC))
    assert (row["traceparent"], row["tracestate"]) == (kept, "a=1" if kept else "")


def _nested(depth: int) -> dict[str, Any]:
    payload: dict[str, Any] = {}
    for _ in range(depth - 1):
        payload = {"a": payload}
    return payload


def test_the_payload_may_be_as_deep_as_the_bound_and_no_deeper() -> None:
    read_report(json.dumps(report(payload=_nested(MAX_PAYLOAD_DEPTH))).encode())
    with pytest.raises(InvalidReportError, match="deeper than 32"):
        read_report(json.dumps(report(payload=_nested(MAX_PAYLOAD_DEPTH + 1))).encode())


def test_a_backslash_before_u0000_is_no_nul() -> None:
    assert read_report(json.dumps(report(payload={"text": "\\u0000"})).encode()).payload == {"text": "\\u0000"}
    with pytest.raises(InvalidReportError, match="NUL"):
        read_report(json.dumps(report(payload={"text": "\0"})).encode())


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(body=st.binary(max_size=200) | st.builds(lambda v: json.dumps(v).encode("utf-8", "surrogatepass"), _VALUES))
def test_reading_fails_in_no_other_way_than_it_says(body: bytes) -> None:
    for read in (read_report, read_batch):
        with suppress(InvalidReportError):  # anything else would be answered with 500
            read(body)


@given(st.lists(st.integers(0, 3), max_size=8))
def test_a_bad_event_of_a_batch_is_refused_in_its_place(kinds: list[int]) -> None:
    bad: list[Any] = [{**report(), "id": "no"}, "nonsense", report(payload={"x": "\0"})]
    events = [report(n) if kind == 3 else bad[kind] for n, kind in enumerate(kinds)]
    read = read_batch(json.dumps({"events": events}).encode())
    assert [isinstance(item, Refusal) for item in read] == [kind != 3 for kind in kinds]


_TYPE = st.sampled_from(["core.intervaltimer", "acme.queue", "no type", ""])
_UID = st.sampled_from(["7c1f3f0e-37e9-4d5e-9d2f-3f1b8f8f9a10", "u_1", "a.b", ""])
_NAME = st.sampled_from(["default", "team-a", "No", "-a"])


@given(st.lists(st.tuples(_TYPE, _UID, _NAME, _NAME), max_size=8))
def test_an_event_of_a_batch_is_read_as_it_is_alone(sources: list[tuple[str, str, str, str]]) -> None:
    events = [
        {**report(n), "trigger_type": kind, "rule_uid": uid, "rule_namespace": namespace, "rule_name": name}
        for n, (kind, uid, namespace, name) in enumerate(sources)
    ]
    for event, read in zip(events, read_batch(json.dumps({"events": events}).encode()), strict=True):
        body, now = json.dumps(event).encode(), datetime.now(UTC)
        if isinstance(read, Refusal):
            with pytest.raises(InvalidReportError) as caught:
                read_report(body)
            assert read.reason == str(caught.value)
        else:
            alone = as_row(read_report(body), sensor_ref="a/b", received_at=now)
            assert as_row(read, sensor_ref="a/b", received_at=now) == alone


@given(_VALUES, st.booleans())
def test_a_payload_is_too_deep_as_a_plain_walk_finds(value: Any, nul: bool) -> None:
    payload = {"a": value}
    for _ in range(MAX_PAYLOAD_DEPTH - 3):
        payload = {"b": payload}
    told = find_fault(msgspec.convert(report(payload=payload), EventReport, strict=False), may_hold_nul=nul)
    if not nul:
        assert (told is not None) == (_depth(payload) > MAX_PAYLOAD_DEPTH)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


@given(seq=st.integers(0, 2**63 - 1), order=st.sampled_from(["asc", "desc"]))
def test_a_cursor_comes_back_as_it_was_and_goes_one_way_only(seq: int, order: Any) -> None:
    text = Cursor(seq=seq, order=order).encode()
    assert Cursor.decode(text, order=order) == Cursor(seq=seq, order=order)
    with pytest.raises(InvalidCursorError, match="order="):
        Cursor.decode(text, order="asc" if order == "desc" else "desc")


@given(st.text())
def test_any_other_text_is_no_cursor(text: str) -> None:
    for decode in (lambda cursor: Cursor.decode(cursor, order="asc"), decode_text):
        with pytest.raises(InvalidCursorError):
            decode(text)


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_text_cursor_comes_back_as_it_was(key: str) -> None:
    assert decode_text(encode_text(key)) == key


def test_gzip_is_unpacked_up_to_the_bound() -> None:
    assert gunzip(gzip.compress(b"x" * 100), most=100) == b"x" * 100
    with pytest.raises(ProblemError) as caught:
        gunzip(gzip.compress(b"x" * 101), most=100)
    assert caught.value.status == 413
    for broken in (b"", b"x", gzip.compress(b"x")[:-1], gzip.compress(b"x") * 2, zlib.compress(b"x")):
        with pytest.raises(ProblemError) as caught:
            gunzip(broken, most=100)
        assert caught.value.status == 400


def _stored(payload: bytes) -> Event:
    values = dict.fromkeys(Event.__struct_fields__, "x")
    return Event(**{**values, "id": uuid.UUID(int=1), "seq": 1, "payload": msgspec.Raw(payload)})  # type: ignore[arg-type]


def test_a_message_that_is_too_large_says_where_the_whole_is() -> None:
    subject, body, headers = message(_stored(b'{"a":1}'), largest=1_048_576)
    assert subject == "attune.events.x.x"
    assert msgspec.json.decode(body)["payload"] == {"a": 1}
    assert "ce-dataref" not in headers
    _, body, headers = message(_stored(b'"' + b"y" * 2_000_000 + b'"'), largest=1_048_576)
    assert len(body) < 1000
    assert headers["ce-dataref"] == f"/api/v1/events/{uuid.UUID(int=1)}?rule_uid=x"


def test_results_of_a_batch_are_documented_with_every_status_there_is() -> None:
    documented = create_app().openapi()["components"]["schemas"]["Result"]["properties"]["status"]["enum"]
    assert set(documented) == {*(status.value for status in Status), "deferred"}  # which is none in the database


@given(
    st.datetimes(
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=11))])
    )
)
def test_a_time_is_written_to_sqlite_as_the_type_of_its_column_says(time: datetime) -> None:
    assume(2 <= time.year <= 9998)
    dialect = SQLiteDialect_pysqlite()
    process = UtcTime().dialect_impl(dialect).bind_processor(dialect)
    assert process is not None
    assert sqlite_time(time) == process(time)
