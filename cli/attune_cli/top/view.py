"""What two readings of all metrics say: rates, lateness, lag, and what is wrong. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from attune_cli.metrics import Sample, total
from attune_cli.targets.pages import Part, cut_off
from attune_contract.telling import Object, condition, ref, rule_problem, sensor_problem

#: As in the chart's alerts: so many stored events that have not reached the stream, and so many seconds that a timer is late.
OUTBOX_BEHIND: Final = 1000
LATE: Final = 1.0
_QUANTILE: Final = 0.99


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What everybody said at one time.

    Attributes:
        at: when.
        metrics: the series of each part that answered.
        silent: why others did not answer.
        sensors: the Sensors.
        rules: Rules with a problem, or all that were looked at.
        unknown: what could not be asked for.
    """

    at: datetime
    metrics: Mapping[Part, list[Sample]]
    silent: Mapping[Part, str] = field(default_factory=dict)
    sensors: Sequence[Object] = ()
    rules: Sequence[Object] = ()
    unknown: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class SensorRow:
    """One Sensor: what its pods say together. None where nobody says it."""

    sensor: str
    ready: str
    pods: int
    rules: int
    events_per_second: float | None
    lateness_p99_seconds: float | None
    queued: int | None
    spooled: int | None
    api_p99_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class View:
    """What is shown, and printed as JSON. Rates and quantiles are of the time between two readings; None: nobody says it."""

    at: str
    seconds: float
    problems: list[str]
    unknown: list[str]
    stored_per_second: float | None
    refused_per_second: float | None
    dropped_per_second: float | None
    waiting_for_database: int | None
    lateness_p99_seconds: float | None
    outbox_lag: int | None
    spooled: int | None
    runs_succeeded_per_second: float | None
    runs_failed_per_second: float | None
    runs_under_way: int | None
    run_delay_p99_seconds: float | None
    open_circuits: int | None
    rules: dict[str, int]
    sensors: list[SensorRow]

    def plain(self) -> dict[str, Any]:
        """For JSON and YAML."""
        return asdict(self)


class _Between:
    """Two readings, and some of their parts."""

    def __init__(self, before: Reading, now: Reading, parts: Iterable[Part]) -> None:
        self._before = before.metrics
        self._now = now.metrics
        self._parts = [part for part in parts if part in now.metrics]
        self._seconds = (now.at - before.at).total_seconds()

    def gauge(self, name: str, **labels: str) -> float | None:
        """The sum over the parts, now."""
        return _sum(total(self._now[part], name, **labels) for part in self._parts)

    def most(self, name: str) -> float | None:
        """The largest of the parts, now."""
        return max((found for part in self._parts if (found := total(self._now[part], name)) is not None), default=None)

    def rate(self, name: str, **labels: str) -> float | None:
        """What a counter grew by, a second, over the parts that were there before. One that began again counts from 0."""
        grown = [
            now - before if now >= before else now
            for part in self._parts
            if part in self._before
            and (now := total(self._now[part], name, **labels)) is not None
            and (before := total(self._before[part], name, **labels) or 0.0) is not None
        ]
        return sum(grown) / self._seconds if grown and self._seconds > 0 else None

    def quantile(self, name: str) -> float | None:
        """Of what a histogram counted in between; None when nothing was."""
        buckets: dict[float, float] = {}
        for part in self._parts:
            if part not in self._before:
                continue
            before = _buckets(self._before[part], name)
            now = _buckets(self._now[part], name)
            again = any(now[bound] < before.get(bound, 0) for bound in now)
            for bound, count in now.items():
                buckets[bound] = buckets.get(bound, 0) + count - (0 if again else before.get(bound, 0))
        return quantile(buckets, _QUANTILE)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _buckets(found: list[Sample], name: str) -> dict[float, float]:
    buckets: dict[float, float] = {}
    for sample in found:
        if sample.name == f"{name}_bucket":
            bound = float(sample.labels["le"])
            buckets[bound] = buckets.get(bound, 0) + sample.value
    return buckets


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """A quantile of a histogram with cumulative buckets, as Prometheus' ``histogram_quantile`` estimates it: linearly within a
    bucket, and the last finite bound for what is above it. None when nothing was counted.
    """
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    wanted = share * buckets[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (wanted - below) / (buckets[bound] - below)
        lower, below = bound, buckets[bound]
    return lower


def compare(before: Reading, now: Reading) -> View:
    """What is shown, of two readings."""
    by_role = {role: [part for part in now.metrics if part.role == role] for role in ("api", "actions", "sensor")}
    api, runner = _Between(before, now, by_role["api"]), _Between(before, now, by_role["actions"])
    sensors = _Between(before, now, by_role["sensor"])
    newest, passed_on = api.most("attune_api_events_newest_seq"), api.most("attune_api_outbox_position")
    view = View(
        at=now.at.isoformat(timespec="seconds"),
        seconds=round((now.at - before.at).total_seconds(), 3),
        problems=[],
        unknown=list(now.unknown),
        stored_per_second=api.rate("attune_api_events_total", status="stored"),
        refused_per_second=api.rate("attune_api_events_total", status="refused"),
        dropped_per_second=sensors.rate("attune_sensor_events_total", result="dropped"),
        waiting_for_database=_whole(api.gauge("attune_api_events_waiting")),
        lateness_p99_seconds=sensors.quantile("attune_timer_lateness_seconds"),
        outbox_lag=None if newest is None or passed_on is None else max(0, int(newest - passed_on)),
        spooled=_whole(sensors.gauge("attune_sensor_spool_events")),
        runs_succeeded_per_second=runner.rate("attune_actions_runs_total", state="Succeeded"),
        runs_failed_per_second=runner.rate("attune_actions_runs_total", state="Failed"),
        runs_under_way=_whole(runner.gauge("attune_actions_under_way_runs")),
        run_delay_p99_seconds=runner.quantile("attune_actions_delay_seconds"),
        open_circuits=_whole(runner.gauge("attune_actions_open_circuits")),
        rules=rules_by_reason(now.metrics),
        sensors=[_row(body, before, now) for body in now.sensors],
    )
    view.problems.extend(_problems(view, now))
    return view


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def rules_by_reason(metrics: Mapping[Part, Iterable[Sample]]) -> dict[str, int]:
    """How many Rules there are by the reason of their condition Active, as the operator counts them (while one replaces another,
    the one that counts more), the most first.
    """
    counts: dict[str, int] = {}
    for part, found in metrics.items():
        for sample in found if part.role == "operator" else ():
            if sample.name == "attune_rules":
                reason = sample.labels.get("reason", "")
                counts[reason] = max(counts.get(reason, 0), int(sample.value))
    return {reason: count for reason, count in sorted(counts.items(), key=lambda entry: -entry[1]) if count}


def _row(body: Object, before: Reading, now: Reading) -> SensorRow:
    name = ref(body)
    pods = [part for part in now.metrics if part.sensor == name]
    between = _Between(before, now, pods)
    status = body.get("status") or {}
    return SensorRow(
        sensor=name,
        ready="Paused" if body["spec"].get("paused") else str(condition(body, "Ready").get("status", "Unknown")),
        pods=len(pods),
        rules=int((status.get("rules") or {}).get("bound", 0)),
        events_per_second=between.rate("attune_sensor_events_total", result="emitted"),
        lateness_p99_seconds=between.quantile("attune_timer_lateness_seconds"),
        queued=_whole(between.gauge("attune_sensor_queued_events")),
        spooled=_whole(between.gauge("attune_sensor_spool_events")),
        api_p99_seconds=between.quantile("attune_sensor_api_request_seconds"),
    )


def _problems(view: View, now: Reading) -> Iterator[str]:
    """What is wrong, the worst first."""
    for part in now.silent:
        yield f"{part.role} {part.sensor or part.name} gives no metrics: {now.silent[part]}"
    if view.dropped_per_second:
        yield f"sensors drop {view.dropped_per_second:.1f} events a second: they are lost"
    for part, found in now.metrics.items():
        if part.role == "api" and total(found, "attune_api_storage_writable") == 0:
            yield f"the API {part.name} cannot write to its database; its /ready says why"
        if cut_off(part, found):
            yield f"{part.role} {part.sensor or part.name} has no connection to NATS"
    for body in now.sensors:
        if (problem := sensor_problem(body)) is not None:
            yield f"Sensor {ref(body)}: {problem}"
    for body in now.rules:
        if (problem := rule_problem(body)) is not None:
            yield f"Rule {ref(body)}: {problem}"
    if view.spooled:
        yield f"{view.spooled} events wait on sensors' disks for the API"
    if view.outbox_lag is not None and view.outbox_lag > OUTBOX_BEHIND:
        yield f"{view.outbox_lag} stored events have not reached the stream"
    if view.refused_per_second:
        yield f"the API refuses {view.refused_per_second:.1f} events a second: attune rules list --problems"
    if view.lateness_p99_seconds is not None and view.lateness_p99_seconds > LATE:
        yield f"1 of 100 timers is more than {view.lateness_p99_seconds:.1f} s late"
    if view.runs_failed_per_second:
        yield "runs fail for good: attune runs list --state Failed"
    if view.open_circuits:
        yield f"{view.open_circuits} targets of actions get no requests, since they failed again and again"
