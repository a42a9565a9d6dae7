"""What a source remembers of its rule: kept when it is worth it, and again before the API forgets it."""

from typing import Any, cast

import msgspec
import pytest
from support.rule_stream import rule_state

from attune_sensor import ApiUnavailableError, KeptState, Rule, RuleMemory, RuleStore, SourceError, SourceEvents

RULE = Rule(state=rule_state(trigger_type="acme.folder", parameters={}), since_us=0)


class State(msgspec.Struct):
    fingerprint: bytes
    number: int = 0


class Api:
    """Keeps one state, while it is there."""

    def __init__(self) -> None:
        self.memory: RuleMemory | None = None
        self.away = self.elsewhere = False

    async def load(self, rule: Rule) -> RuleMemory | None:
        if self.away:
            raise ApiUnavailableError("it is away")
        return self.memory

    async def save(self, rule: Rule, *, position: int, state: bytes) -> bool:
        if self.away:
            raise ApiUnavailableError("it is away")
        if not self.elsewhere:
            self.memory = RuleMemory(generation=1, position=position, state=state)
        return not self.elsewhere


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def unpack(packed: bytes) -> State | None:
    return None if packed == b"of another version" else msgspec.json.decode(packed, type=State)


def kept(api: Api, clock: Clock) -> KeptState[Any]:
    store = RuleStore(cast("SourceEvents", api), RULE, monotonic=clock)
    return KeptState(store, pack=msgspec.json.encode, unpack=unpack, pause=lambda size: 2.0 + size, monotonic=clock)


async def test_it_goes_on_where_the_pod_before_it_ended() -> None:
    api, clock = Api(), Clock()
    first = kept(api, clock)
    assert not await first.load(b"f")
    with pytest.raises(RuntimeError, match="not open"):
        _ = first.current
    first.state = State(b"f", 7)
    await first.begin()
    second = kept(api, clock)
    assert await second.load(b"f")
    assert second.current == State(b"f", 7)
    assert not second.dirty


@pytest.mark.parametrize("packed", [b"of another version", msgspec.json.encode(State(b"other"))])
async def test_what_belongs_to_something_else_is_of_no_use(packed: bytes) -> None:
    api = Api()
    api.memory = RuleMemory(generation=1, position=1, state=packed)
    made = kept(api, Clock())
    assert not await made.load(b"f")
    assert made.state is None


async def test_it_is_kept_now_and_then_and_the_less_often_the_larger_it_is() -> None:
    api, clock = Api(), Clock()
    made = kept(api, clock)
    made.state = State(b"f")
    assert await made.keep()
    assert api.memory is None  # there is nothing new
    made.dirty = True
    assert made.due
    assert await made.keep()
    size = len(msgspec.json.encode(made.state))
    made.dirty = True
    clock.now += 1.9 + size
    assert not made.due
    clock.now += 0.2
    assert made.due


async def test_what_the_api_does_not_take_now_is_kept_later() -> None:
    api, clock = Api(), Clock()
    made = kept(api, clock)
    made.state = State(b"f", 1)
    api.away = True
    with pytest.raises(SourceError, match="does not keep now"):
        await made.begin()
    with pytest.raises(SourceError, match="it is away"):
        await made.load(b"f")
    assert made.dirty
    api.away = False
    assert await made.keep()
    assert not made.dirty
    api.elsewhere = made.dirty = True
    with pytest.raises(SourceError, match="another pod"):
        await made.keep()


async def test_it_is_kept_again_before_it_is_forgotten() -> None:
    api, clock = Api(), Clock()
    made = kept(api, clock)
    made.state = State(b"f")
    await made.begin()
    assert not made.refresh()
    clock.now += 7 * 3600
    assert made.refresh()
    assert made.due
    assert await made.keep()
    assert api.memory is not None
    assert api.memory.position == 2
    assert not made.refresh()
