"""Logs of events for rules about events, the sensor's decider living and dying through one, and what should come of it."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any

from attune_patterns.decide import Decider, Outcome, Pattern, Seen, begin
from attune_patterns.events import instant
from attune_patterns.operators import LATE
from attune_patterns.state import Mark, pack, unpack

START = 1_700_000_000_000_000
SECOND = 1_000_000


@dataclass(frozen=True)
class Entry:
    """An event of the log: when the API received it, when it occurred, and what it is about."""

    received: int
    at: int
    key: str
    member: int = 0


Log = Sequence[Entry]
#: What happened: key, status, when, and the places in the log (from 1) of the events that it is made of.
Happened = tuple[str, str, int, tuple[int, ...]]


def seen(entry: Entry, seq: int) -> Seen:
    """An entry as the decider takes it."""
    mark = Mark(at=min(entry.at, entry.received), seq=seq, member=entry.member, hops=0, id=seq.to_bytes(16))
    return Seen(key=entry.key, received=entry.received, mark=mark)


def happened(outcome: Outcome) -> Happened:
    """An outcome in a form that can be compared."""
    fired = outcome.fired
    return outcome.key, fired.status, fired.at, tuple(mark.seq for mark in fired.marks)


def live(pattern: Pattern, log: Log, *, until: int, chance: random.Random | None = None) -> dict[str, Happened]:
    """What comes of a log, by the names of the occurrences. As the API does, an occurrence is kept once, as it was first.

    Args:
        pattern: what decides.
        log: the events.
        until: the log's time at its end.
        chance: when the decider is asked in between, when its state is kept, and when it is killed and goes on from what was
            kept. None: never.
    """
    state = begin(pattern, fingerprint="", now=START, position=0)
    kept = pack(state)
    decider = Decider(pattern, state)
    stored: dict[str, Happened] = {}

    def store(outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            stored.setdefault(outcome.fired.occurrence, happened(outcome))

    place = 0
    clock = list(accumulate((entry.received for entry in log), max, initial=START))
    while place < len(log):
        entry = log[place]
        if chance is not None and chance.random() < 0.3:
            # The API was asked, and had nothing before the next event. Its clock may have been set back.
            store(decider.advance(chance.randint(START, max(clock[place], entry.received))))
        place += 1
        store(decider.take(seen(entry, place)))
        if chance is not None and chance.random() < 0.2:
            kept = pack(decider.state)
        if chance is not None and chance.random() < 0.15:
            decider = Decider(pattern, unpack(kept))
            place = decider.state.position
    store(decider.advance(until))
    return stored


def absent_of(
    entries: Sequence[tuple[int, Entry]], *, clock: Callable[[int], int], within: int, until: int
) -> list[Happened]:
    """When one key was missing, and when it came back.

    Args:
        entries: its events with their places in the log.
        clock: the log's time when the event at a place came.
        within: the time in which the next one has to come.
        until: the log's time at its end.
    """
    found: list[Happened] = []
    last: tuple[int, int] | None = None
    due, missing = 0, False
    for place, entry in [*entries, (None, None)]:
        now = until if place is None else clock(place)
        if last is not None and not missing and due <= now:
            missing = True
            found.append((entries[0][1].key, "missing", last[0] + within, (last[1],)))
        if place is None or entry is None:
            break
        at = min(entry.at, entry.received)
        if last is None or at >= last[0]:
            if missing:
                found.append((entry.key, "back", at, (place,)))
            last, missing = (at, place), False
        due = max(last[0] + within, now + min(within, LATE))
    return found


def counts_of(
    entries: Sequence[tuple[int, Entry]], *, clock: Callable[[int], int], window: int, count: int
) -> list[Happened]:
    """When one key had so many events within a window."""
    found: list[Happened] = []
    open_: list[tuple[int, int]] = []
    touched = 0
    for place, entry in entries:
        if open_ and touched + window <= clock(place):
            open_ = []  # nothing came for so long that nobody waits for what is late
        touched = clock(place)
        at = min(entry.at, entry.received)
        open_ = sorted([*open_, (at, place)])
        open_ = [each for each in open_ if each[0] >= open_[-1][0] - window]
        if len(open_) == count:
            found.append((entry.key, "reached", open_[-1][0], tuple(place for _, place in open_)))
            open_ = []
    return found


def of_each_key(log: Log, model: Callable[..., list[Happened]], **more: int) -> list[Happened]:
    """What a model of one key says of all keys of a log."""
    clock = list(accumulate((entry.received for entry in log), max, initial=START))
    keys: dict[str, list[tuple[int, Entry]]] = {}
    for place, entry in enumerate(log, 1):
        keys.setdefault(entry.key, []).append((place, entry))
    found = (model(entries, clock=lambda place: clock[place], **more) for entries in keys.values())
    return sorted(each for of_key in found for each in of_key)


def entries_of(events: Sequence[dict[str, Any]]) -> Log:
    """Events as the API has them, whose key is in their payload, as a log."""
    return [Entry(_us(each["received_at"]), _us(each["occurred_at"]), each["payload"]["key"]) for each in events]


def happened_of(events: Sequence[dict[str, Any]], log: Sequence[dict[str, Any]]) -> list[Happened]:
    """Events of a rule about events, in a form that can be compared with a model's.

    Args:
        events: the events.
        log: those that they are about, as the API has them.
    """
    places = {event["id"]: place for place, event in enumerate(log, 1)}
    return sorted(
        (
            event["payload"]["key"],
            event["payload"]["status"],
            _us(event["occurred_at"]),
            tuple(places[each["id"]] for each in event["payload"]["events"]),
        )
        for event in events
    )


def _us(text: str) -> int:
    return instant(datetime.fromisoformat(text))
