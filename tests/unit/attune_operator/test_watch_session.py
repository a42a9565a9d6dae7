"""What kopf can decode, and a token that is refused."""

import json
import ssl

import pytest

from attune_kit.backoff import Backoff
from attune_kit.kubernetes.access import Access
from attune_operator.runtime.watch_session import decode_list, is_shallow
from attune_operator.watching import Login


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def test_lines_are_shown_unless_they_are_nested_too_deep() -> None:
    assert is_shallow(b'{"type":"ADDED","object":{}}')
    wide = json.dumps({"object": [{"a": [index]} for index in range(2_000)]}).encode()
    assert is_shallow(wide)
    assert is_shallow(f'{{"object":{nested(400)}}}'.encode())
    assert not is_shallow(f'{{"object":{nested(900)}}}'.encode())
    assert not is_shallow(f'{{"object":[{nested(9_000)}]}}'.encode())


@pytest.mark.parametrize("levels", [1_200, 9_000])
def test_a_list_has_the_objects_that_can_be_decoded(levels: int) -> None:
    text = f'{{"kind":"SensorList","items":[{{"a":1}},{{"spec":{nested(levels)}}},{{"a":2}}]}}'
    assert decode_list(text) == {"kind": "SensorList", "items": [{"a": 1}, {"a": 2}]}
    assert decode_list('{"items":[{"a":[1]}]}') == {"items": [{"a": [1]}]}


async def test_the_same_token_is_tried_again_after_a_pause_and_another_at_once() -> None:
    tokens = iter(["one", "one", "two", "two", "two", "three"])
    pauses: list[int] = []

    class Paused(Backoff):
        def delay(self, *, attempt: int, chance: float | None = None) -> float:
            pauses.append(attempt)
            return 0.0

    access = Access(
        server="https://kubernetes.invalid", verify=ssl.create_default_context(), bearer=lambda: next(tokens)
    )
    log_in = Login(access, backoff=Paused(initial=1, maximum=1))
    sent = []
    for _ in range(4):
        session = (await log_in()).aiohttp_session
        sent.append(session.headers["Authorization"])
        await session.close()
    assert sent == ["Bearer one", "Bearer two", "Bearer two", "Bearer three"]
    assert len(pauses) == 2
