"""What is nested too deep to be decoded."""

import json

import pytest

from attune_kit.kubernetes.client import decode_page
from attune_kit.kubernetes.depth import cut


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (b'{"a":{"b":1},"c":2}', b'{"a":{"b":1},"c":2}'),
        (b'{"a":{"b":{"c":1}},"d":[[[]],2]}', b'{"a":{"b":"X"},"d":["X",2]}'),
        (b'{"a":"{[{[","b\\"{":{"c":"]}"}}', b'{"a":"{[{[","b\\"{":{"c":"]}"}}'),
        (b'[[{"a":"]"},{"b":[]}],3]', b'[["X","X"],3]'),
    ],
)
def test_what_is_deeper_than_two_levels_is_cut_out(text: bytes, left: bytes) -> None:
    found = cut(text, levels=2, mark=b'"X"')
    assert found == left
    json.loads(found)


@pytest.mark.parametrize("levels", [1_200, 9_000])
def test_a_page_with_an_object_that_is_too_deep_has_the_others(levels: int) -> None:
    deep = b'{"metadata":{"name":"deep"},"spec":' + nested(levels) + b"}"
    body = (
        b'{"metadata":{"continue":"more"},"items":[{"metadata":{"name":"one"}},'
        + deep
        + b',{"metadata":{"name":"two"}}]}'
    )
    page = decode_page(body)
    assert [json.loads(bytes(item))["metadata"]["name"] for item in page.items or []] == ["one", "two"]
    assert page.metadata.more == "more"
