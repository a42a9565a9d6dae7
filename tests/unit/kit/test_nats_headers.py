"""Headers are read as nats-py reads them, or left to it."""

import uuid
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from support.rule_stream import rule_state

from attune_contract.messages import RuleEventType, rule_event_headers
from attune_kit.nats.headers import read_headers

NAMES = st.sampled_from(
    [b"ce-type", b"ce-id", b"Nats-TTL", b"content-type", b"x", b" ce-id", b"ce-id ", b"c e", b"\xff"]
)
LINES = st.builds(
    lambda name, separator, value: name + separator + value,
    NAMES,
    st.sampled_from([b":", b": ", b":\t", b"", b"::"]),
    st.one_of(st.binary(max_size=8), st.sampled_from([b"a:b", b" a ", b"\xc3\xa9", b"\x1c", "\u2003é".encode()])),
)


@given(st.lists(LINES, max_size=5))
def test_what_is_read_is_what_nats_py_reads(lines: list[bytes]) -> None:
    block = b"\r\n".join([*lines, b"", b""])
    assert read_headers(block) in (None, Client._parse_header_lines(block))


def test_the_headers_of_a_rule_are_not_left_to_nats_py() -> None:
    headers = rule_event_headers(RuleEventType.UPDATED, rule_state(), time=datetime.now(UTC), event_id=uuid.uuid4())
    headers |= {"Nats-Expected-Last-Subject-Sequence": "7", "Nats-Rollup": "sub", "Nats-TTL": "3600s"}
    block = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n"
    assert read_headers(block) == headers


def test_a_name_that_is_not_ours_is_left_to_nats_py() -> None:
    assert read_headers(b"ce-id: 1\r\nother: 2\r\n\r\n") is None
