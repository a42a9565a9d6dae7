"""How the operator meets somebody who keeps changing its objects: it repairs at once, then less and less often. Pure.

Each repair rolls pods, and so does each change: without an end, no pod lives long enough to serve.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

#: So many changes are repaired at once: a person tries something, a tool is switched off too late.
_AT_ONCE: Final = 4
_FIRST: Final = timedelta(seconds=5)
_LONGEST: Final = timedelta(minutes=5)
#: Nobody insists any more when an object was left alone for so much longer than the last wait.
_CALM: Final = timedelta(minutes=1)
#: Managers and fields that are named.
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class History:
    """What was done about one object.

    Attributes:
        since: when the first repair was.
        last: when the latest repair was.
        changes: how often each field manager had changed it, by manager.
        fields: which fields they had changed, as ``spec.template``.
    """

    since: datetime
    last: datetime
    changes: Mapping[str, int]
    fields: tuple[str, ...]
    repairs: int = 1


def repaired(before: History | None, *, by: Sequence[str], fields: Sequence[str], now: datetime) -> History:
    """Return the history after a repair of what the managers ``by`` had changed."""
    if before is None:
        return History(now, now, dict.fromkeys(by, 1) or {"somebody": 1}, tuple(fields))
    changes = dict(before.changes)
    for name in by or ("somebody",):
        changes[name] = changes.get(name, 0) + 1
    return replace(
        before,
        last=now,
        changes=changes,
        fields=tuple(dict.fromkeys((*before.fields, *fields))),
        repairs=before.repairs + 1,
    )


def _wait(history: History) -> timedelta:
    """How long after the latest repair the next one is made."""
    more = history.repairs - _AT_ONCE
    return timedelta() if more < 0 else min(_LONGEST, _FIRST * 2 ** min(more, 10))


def wait(history: History | None, *, now: datetime) -> float:
    """Return the seconds for which the object is left as it was changed; 0: repair it now."""
    return 0.0 if history is None else max(0.0, (history.last + _wait(history) - now).total_seconds())


def calm(history: History, *, now: datetime) -> bool:
    """Whether nobody insists any more, given that the object is as it should be."""
    return now - history.last >= 2 * _wait(history) + _CALM


def sentence(kind: str, history: History) -> str | None:
    """Return who insists and on what, for the condition; None while there is too little to say so."""
    if history.repairs < _AT_ONCE:
        return None
    most = sorted(history.changes.items(), key=lambda item: (-item[1], item[0]))[:_NAMED]
    who = "; ".join(f"{name} changed {_fields(history)} {number} times" for name, number in most)
    return (
        f"{who} in the {kind} since {history.since:%H:%M:%S} UTC. The operator repairs it ever less often, and pods roll each "
        "time: have that controller leave the object alone, or set in the Sensor what it sets."
    )


def _fields(history: History) -> str:
    return " and ".join(history.fields[:_NAMED]) or "it"
