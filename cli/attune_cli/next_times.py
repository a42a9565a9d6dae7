"""When timer Rules would fire next, by the timer's own code: what ``attune lint --next`` prints. Pure; the clock is passed in.

A Rule that does not exist yet is taken as created now, as it would be if it were applied now.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Any, Final

from attune_contract.messages import NEVER_FIRES, RuleState
from attune_sensor import InvalidRuleError, Rule
from attune_timer import instants
from attune_timer.cron import CronSchedule
from attune_timer.parameters import CRON_TIMER, DATETIME_TIMER, INTERVAL_TIMER, timer_of
from attune_timer.schedule import Schedule

#: The trigger types whose times can be computed here.
TIMERS: Final = frozenset({INTERVAL_TIMER, CRON_TIMER, DATETIME_TIMER})


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTime:
    """One occurrence.

    Attributes:
        scheduled: when it is scheduled, in the timer's zone.
        latest: when it fires at the latest (``jitter``); the same where there is no jitter.
        remark: what daylight saving makes of it; empty if nothing.
    """

    scheduled: datetime
    latest: datetime
    remark: str = ""

    def plain(self) -> dict[str, str]:
        """For JSON and YAML."""
        said = {"local": self.scheduled.isoformat(), "utc": _utc(self.scheduled)}
        if self.latest != self.scheduled:
            said["latest"] = _utc(self.latest)
        return {**said, "remark": self.remark} if self.remark else said


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTimes:
    """The next occurrences of one Rule; ``ends`` says that there are no more, ``problem`` why there are none."""

    file: str
    line: int
    rule: str
    trigger_type: str
    zone: str
    times: tuple[NextTime, ...] = ()
    ends: bool = False
    problem: str = ""

    def plain(self) -> dict[str, Any]:
        """For JSON and YAML."""
        said = {"file": self.file, "line": self.line, "rule": self.rule, "type": self.trigger_type, "zone": self.zone}
        rest = {"ends": self.ends, **({"problem": self.problem} if self.problem else {})}
        return {**said, "times": [time.plain() for time in self.times], **rest}

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.file}:{self.line}: Rule {self.rule} ({self.trigger_type}, {self.zone}):"
        for time in self.times:
            local = time.scheduled.isoformat(sep=" ", timespec=_precision(time.scheduled))
            spread = "" if time.latest == time.scheduled else f" to {_utc(time.latest)}"
            yield f"  {local:{_WIDE}}  {_utc(time.scheduled)}{spread}{f'  ({time.remark})' if time.remark else ''}"
        if self.problem:
            yield f"  {self.problem}"
        elif self.ends:
            yield "  and then not any more"


_WIDE: Final = len("2026-11-28 06:30:00+01:00")


def next_times(
    body: Mapping[str, Any], *, trigger_type: str, file: str, line: int, number: int, now: datetime
) -> NextTimes:
    """The next ``number`` occurrences of a timer Rule.

    Args:
        body: the Rule, as it would be applied.
        trigger_type: the canonical trigger type, one of :data:`TIMERS`.
        file: where the Rule stands.
        line: in which line.
        number: how many.
        now: the present time, with a zone.
    """
    metadata, trigger = body["metadata"], body["spec"]["trigger"]
    ref = f"{metadata['namespace']}/{metadata['name']}"
    parameters = dict(trigger.get("parameters") or {})
    made = NextTimes(file=file, line=line, rule=ref, trigger_type=trigger_type, zone="UTC")
    since = instants.from_datetime(now)
    state = RuleState(
        uid=str(uuid.uuid5(uuid.NAMESPACE_URL, ref)),
        namespace=metadata["namespace"],
        name=metadata["name"],
        generation=1,
        enabled=True,
        trigger_type=trigger_type,
        parameters=parameters,
        created_at=now.replace(microsecond=0),  # as the API server writes it
    )
    try:
        timer = timer_of(Rule(state=state, since_us=since))
    except InvalidRuleError as error:
        return _but(made, problem=f"It is refused: {error}.")
    zone: tzinfo = timer.schedule.zone if isinstance(timer.schedule, CronSchedule) else UTC
    made = _but(made, zone=str(zone))
    found = list(_occurrences(timer.schedule, after=since, number=number))
    if not found:
        return _but(made, problem=f"{NEVER_FIRES}: its time is over.")
    jitter = timedelta(microseconds=timer.jitter)
    moments = [instants.to_datetime(at).astimezone(zone) for at in found]
    times = tuple(
        NextTime(
            scheduled=at,
            latest=at.astimezone(UTC) + jitter if jitter else at,
            remark=_remark(timer.schedule, before, at),
        )
        for before, at in pairwise([moments[0], *moments])
    )
    return _but(made, times=times, ends=len(times) < number)


def _but(made: NextTimes, **changes: Any) -> NextTimes:
    return NextTimes(**{name: changes.get(name, getattr(made, name)) for name in made.__slots__})


def _occurrences(schedule: Schedule, *, after: int, number: int) -> Iterator[int]:
    for _ in range(number):
        found = schedule.next(after)
        if found is None:
            return
        yield found.at
        after = found.at


def _remark(schedule: Schedule, before: datetime, at: datetime) -> str:
    """What daylight saving makes of an occurrence, and that it began or ended since the one before."""
    said = []
    if before.utcoffset() != at.utcoffset():
        said.append(f"clocks change from {_offset(before)} to {_offset(at)} before it")
    if isinstance(schedule, CronSchedule):
        local = at.replace(tzinfo=None, fold=0)
        if schedule.cron.wall_clock and schedule.cron.after(local - timedelta(seconds=1)) != local:
            said.append("the clock skips its local time, so it comes at the end of the gap")
    if at.replace(fold=0).utcoffset() != at.replace(fold=1).utcoffset():
        said.append(f"this local time comes twice, it is the {'second' if at.fold else 'first'}")
    return "; ".join(said)


def _offset(time: datetime) -> str:
    return time.isoformat()[-6:]


def _utc(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec=_precision(time)).replace("+00:00", "Z")


def _precision(time: datetime) -> str:
    return "milliseconds" if time.microsecond else "seconds"
