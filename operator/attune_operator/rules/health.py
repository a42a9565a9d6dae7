"""The health of Sensors, from their health reports and from their silence.

A sensor reports its health over NATS every few seconds (:class:`attune_contract.messages.SensorHealth`). The reports become
the Sensor's condition Healthy. A pod that runs and does not report cannot reach NATS. Nothing is judged while the operator
itself has no connection, and a report counts as fresh from when it was read, so a start of the operator blames nobody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import InvalidMessageError, SensorHealth, decode_health
from attune_contract.names import HealthReason
from attune_operator.runtime.views import HealthView, SensorRuntime

#: A sensor that has not reported for so many of its own intervals is silent.
_SILENT_AFTER: Final = 3
#: An interval counts as no shorter and no longer than this (seconds).
_EVERY: Final = (1.0, 60.0)
#: How long (seconds) a pod may run without a report, and a sensor may know no rule although some are bound to it.
_GRACE: Final = 30.0
#: Reports of pods that are gone are purged from the stream after so long (seconds).
_FORGET_AFTER: Final = 600.0
#: Instances of one Sensor, and Sensors, that are remembered.
_MAX_INSTANCES: Final = 64
_MAX_SENSORS: Final = 20_000
_MAX_MESSAGE: Final = 300
_SHOWN: Final = 3

#: The condition's reason for each kind of problem, the gravest first.
_REASONS: Final[Mapping[str, HealthReason]] = {
    "token": HealthReason.TOKEN_UNUSABLE,
    "api": HealthReason.API_UNAVAILABLE,
    "events": HealthReason.EVENTS_DROPPED,
    "spool": HealthReason.SPOOL_FAILING,
    "rules": HealthReason.RULES_NOT_SERVED,
}


@dataclass(frozen=True, slots=True)
class _Report:
    health: SensorHealth
    at: float

    def silent(self, now: float) -> bool:
        shortest, longest = _EVERY
        return now - self.at > _SILENT_AFTER * min(max(self.health.every, shortest), longest)


def parse_health(*, subject: str, body: bytes) -> tuple[str, SensorHealth] | None:
    """Read a message of the ack stream; None if it is no health report.

    Returns:
        The binding that it is about, and the report.

    Raises:
        InvalidMessageError: it cannot be read, or is about another instance than its subject.
    """
    found = subjects.split_health(subject)
    if found is None:
        return None
    binding, instance = found
    health = decode_health(body)
    if subjects.health_subject("", health.instance).rpartition(".")[2] != instance:
        raise InvalidMessageError(
            f"it is about the instance {health.instance[:64]!r}, but on the subject of {instance!r}"
        )
    return binding, health


class SensorHealthCache:
    """The latest report of each instance of each Sensor. Times are the event loop's, in seconds."""

    def __init__(self) -> None:
        self._reports: dict[str, dict[str, _Report]] = {}
        self._awaited: dict[tuple[str, str], float] = {}

    def put(self, binding: str, health: SensorHealth, *, now: float) -> bool:
        """Remember a report; returns whether it says something new."""
        instances = self._reports.get(binding)
        if instances is None:
            if len(self._reports) >= _MAX_SENSORS:
                return False
            instances = self._reports[binding] = {}
        if health.instance not in instances and len(instances) >= _MAX_INSTANCES:
            del instances[min(instances, key=lambda name: instances[name].at)]
        before = instances.get(health.instance)
        instances[health.instance] = _Report(health, now)
        return (
            before is None
            or before.silent(now)
            or before.health.problems != health.problems
            or bool(before.health.rules) != bool(health.rules)
        )

    def begin(self, *, now: float) -> None:
        """A connection begins: silence is counted from now on."""
        for instances in self._reports.values():
            for name, report in instances.items():
                instances[name] = _Report(report.health, now)
        self._awaited.clear()

    def judge(self, ref: SensorRef, *, runtime: SensorRuntime | None, bound: int, now: float) -> HealthView:
        """The content of the condition Healthy.

        Args:
            ref: the Sensor.
            runtime: the state of its pods; None while it is not known.
            bound: how many Rules are bound to it.
            now: the present time.
        """
        reports = self._reports.get(ref.token, {})
        names = runtime.instances if runtime is not None else None
        if names is None:  # it is not known which there are: those that reported lately
            names = frozenset(name for name, each in reports.items() if not each.silent(now)) or frozenset(reports)
        if not names:
            if runtime is not None and runtime.ready_replicas:
                return HealthView()  # it has just begun
            return HealthView(reason=HealthReason.NO_POD, message="None of its pods runs, so its health is not known.")
        present = {name: reports[name] for name in sorted(names) if name in reports}
        unreported = sorted(names - present.keys())
        missed = self._missed(ref.token, unreported, now)
        if not reports and runtime is not None and runtime.ready_replicas >= len(names):
            missed = False  # it works, and sends no reports
        idle = [name for name, each in present.items() if each.health.rules == 0] if bound else []
        return _judge(
            present=present,
            silent=[name for name, each in present.items() if each.silent(now)] or (unreported if missed else []),
            idle=idle if self._waited(ref.token, bool(idle), now) else [],
            bound=bound,
        )

    def departed(self, *, living: Mapping[str, frozenset[str] | None], now: float) -> list[tuple[str, str]]:
        """Forget the reports of pods that are gone; returns them as (binding, instance).

        Args:
            living: the instances of each existing Sensor, by its binding; None where they are not known.
            now: the present time.
        """
        gone = [
            (binding, name)
            for binding, instances in self._reports.items()
            for name, report in instances.items()
            if now - report.at > _FORGET_AFTER and name not in (living.get(binding) or ())
        ]
        for binding, name in gone:
            self._reports[binding].pop(name)
            if not self._reports[binding]:
                del self._reports[binding]
        return gone

    def _missed(self, binding: str, unreported: Iterable[str], now: float) -> bool:
        """Whether a pod has been running for a while without a report."""
        unreported = set(unreported)
        for key in [key for key in self._awaited if key[0] == binding and key[1] and key[1] not in unreported]:
            del self._awaited[key]
        return any(now - self._awaited.setdefault((binding, name), now) > _GRACE for name in unreported)

    def _waited(self, binding: str, idle: bool, now: float) -> bool:
        """Whether a sensor has known no rule for a while."""
        if not idle:
            self._awaited.pop((binding, ""), None)
            return False
        return now - self._awaited.setdefault((binding, ""), now) > _GRACE


def _judge(*, present: Mapping[str, _Report], silent: list[str], idle: list[str], bound: int) -> HealthView:
    if silent:
        return _unhealthy(
            HealthReason.NATS_UNAVAILABLE,
            f"No health report from {_pods(silent)} over NATS: it cannot reach the server, or hangs. Check its log, "
            "and whether a NetworkPolicy blocks its way to NATS.",
        )
    found = [
        (name, kind, text) for name, report in present.items() for kind, text in sorted(report.health.problems.items())
    ]
    if found:
        order = list(_REASONS)
        found.sort(key=lambda each: (order.index(each[1]) if each[1] in order else len(order), each[0]))
        shown = "; ".join(f"{name}: {text[:_MAX_MESSAGE]}" for name, _, text in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return _unhealthy(_REASONS.get(found[0][1], HealthReason.PROBLEM), f"{shown}{more}")
    if idle:
        return _unhealthy(
            HealthReason.RULES_NOT_SERVED,
            f"{_count(bound, 'Rule')} bound to this Sensor, but {_pods(idle)} knows none. Its log says whether the rules were "
            "read.",
        )
    if not present:
        return HealthView(
            message="Its pods send no health reports. Sensors written with the SDK do; others need not.",
        )
    if bound == 0:
        return HealthView(
            healthy=True,
            reason=HealthReason.NO_RULES,
            message="It reaches the API and NATS. No Rule is bound to it, so it reports no events. A Rule is bound if it names "
            "one of its trigger types, in a namespace that spec.rules.namespaces admits.",
        )
    return HealthView(
        healthy=True,
        reason=HealthReason.HEALTHY,
        message=f"It reaches the API and NATS. {_count(bound, 'Rule')} bound to it.",
    )


def _unhealthy(reason: HealthReason, message: str) -> HealthView:
    return HealthView(healthy=False, reason=reason, message=message)


def _pods(names: list[str]) -> str:
    return f"the pod {names[0]}" if len(names) == 1 else f"{len(names)} pods ({', '.join(names[:_SHOWN])})"


def _count(number: int, what: str) -> str:
    return f"{number} {what} is" if number == 1 else f"{number} {what}s are"
