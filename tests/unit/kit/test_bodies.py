"""What comes without a content type is carried as JSON, text or base64, and never lost."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune_kit.bodies import read_body


@pytest.mark.parametrize(
    ("raw", "encoding", "carried"),
    [
        (b"", "none", None),
        (b'{"a": 1}', "json", {"a": 1}),
        (b"17", "json", 17),
        (b"{not json", "text", "{not json"),
        ("größer".encode(), "text", "größer"),
        (b'"\\u0000"', "text", '"\\u0000"'),
        (b'"\\ud800"', "text", '"\\ud800"'),
        (b"[" * 40 + b"]" * 40, "text", "[" * 40 + "]" * 40),
        (b"\xff\x00", "base64", "/wA="),
    ],
)
def test_a_body_is_carried_as_what_it_is(raw: bytes, encoding: str, carried: object) -> None:
    body = read_body(raw)
    assert (body.encoding, msgspec.json.decode(msgspec.json.encode(body.carried))) == (encoding, carried)


@given(st.binary())
def test_nothing_is_lost(raw: bytes) -> None:
    body = read_body(raw)
    match body.encoding:
        case "none":
            assert raw == b""
        case "json":
            assert bytes(body.carried) == raw
        case "text":
            assert body.carried.encode() == raw
        case "base64":
            assert base64.b64decode(body.carried) == raw
