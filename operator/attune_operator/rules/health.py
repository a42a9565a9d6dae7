"""How Sensors fare, by their own word and by their silence.

A sensor says every few seconds over NATS how it fares (:class:`attune_contract.messages.SensorHealth`). What it says becomes the
Sensor's condition Healthy; that a pod runs and is not heard means that it cannot reach NATS. Nothing is judged while we are
without a connection ourselves, and a word counts as fresh from when we read it, so a start of the operator accuses nobody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from attune_contract import subjects
from attune_contract.identity import SensorRef
from attune_contract.messages import InvalidMessage, SensorHealth, decode_health
from attune_contract.names import HealthReason
from attune_operator.runtime.views import HealthView, SensorRuntime

#: A sensor that was not heard for so many times its own interval is silent.
_SILENT_AFTER: Final = 3
#: Nobody's interval counts as shorter or longer than this (seconds).
_EVERY: Final = (1.0, 60.0)
#: How long (seconds) a pod may run before it is missed, and a sensor may know of no rule though some are bound to it.
_GRACE: Final = 30.0
#: Words of pods that are gone are taken off the stream after so long (seconds).
_FORGET_AFTER: Final = 600.0
#: Instances of one Sensor, and Sensors, that are remembered.
_MAX_INSTANCES: Final = 64
_MAX_SENSORS: Final = 20_000
_MAX_MESSAGE: Final = 300
_SHOWN: Final = 3

#: What problems are called in the condition, the gravest first.
_REASONS: Final[Mapping[str, HealthReason]] = {
    "token": HealthReason.TOKEN_UNUSABLE,
    "api": HealthReason.API_UNAVAILABLE,
    "events": HealthReason.EVENTS_DROPPED,
    "spool": HealthReason.SPOOL_FAILING,
    "rules": HealthReason.RULES_NOT_SERVED,
}


@dataclass(frozen=True, slots=True)
class _Heard:
    health: SensorHealth
    at: float

    def silent(self, now: float) -> bool:
        shortest, longest = _EVERY
        return now - self.at > _SILENT_AFTER * min(max(self.health.every, shortest), longest)


def parse_health(*, subject: str, body: bytes) -> tuple[str, SensorHealth] | None:
    """Read a message of the ack stream; None when it is not about a sensor's health.

    Returns:
        The binding that it speaks for, and what it says.

    Raises:
        InvalidMessage: it cannot be read, or speaks of another instance than its subject.
    """
    found = subjects.split_health(subject)
    if found is None:
        return None
    binding, instance = found
    health = decode_health(body)
    if subjects.health_subject("", health.instance).rpartition(".")[2] != instance:
        raise InvalidMessage(f"it speaks of the instance {health.instance[:64]!r} on the subject of {instance!r}")
    return binding, health


class HealthBook:
    """The last word of each instance of each Sensor. Times are the event loop's, in seconds."""

    def __init__(self) -> None:
        self._heard: dict[str, dict[str, _Heard]] = {}
        self._awaited: dict[tuple[str, str], float] = {}

    def hear(self, binding: str, health: SensorHealth, *, now: float) -> bool:
        """Remember a word; returns whether it says something new."""
        instances = self._heard.get(binding)
        if instances is None:
            if len(self._heard) >= _MAX_SENSORS:
                return False
            instances = self._heard[binding] = {}
        if health.instance not in instances and len(instances) >= _MAX_INSTANCES:
            del instances[min(instances, key=lambda name: instances[name].at)]
        before = instances.get(health.instance)
        instances[health.instance] = _Heard(health, now)
        return (
            before is None
            or before.silent(now)
            or before.health.problems != health.problems
            or bool(before.health.rules) != bool(health.rules)
        )

    def begin(self, *, now: float) -> None:
        """A connection has been made: silence is counted from now on."""
        for instances in self._heard.values():
            for name, heard in instances.items():
                instances[name] = _Heard(heard.health, now)
        self._awaited.clear()

    def judge(self, ref: SensorRef, *, runtime: SensorRuntime | None, bound: int, now: float) -> HealthView:
        """The content of the condition Healthy.

        Args:
            ref: the Sensor.
            runtime: how its pods do; None while that is not known.
            bound: how many Rules are bound to it.
            now: the present time.
        """
        heard = self._heard.get(ref.token, {})
        names = runtime.instances if runtime is not None else None
        if names is None:  # nobody knows which there are: those that were heard lately
            names = frozenset(name for name, each in heard.items() if not each.silent(now)) or frozenset(heard)
        if not names:
            return HealthView(reason=HealthReason.NO_POD, message="No pod of it runs, so nothing can be said.")
        present = {name: heard[name] for name in sorted(names) if name in heard}
        unheard = sorted(names - present.keys())
        missed = self._missed(ref.token, unheard, now)
        if not heard and runtime is not None and runtime.ready_replicas >= len(names):
            missed = False  # it works, and does not speak of itself
        idle = [name for name, each in present.items() if each.health.rules == 0] if bound else []
        return _judge(
            present=present,
            silent=[name for name, each in present.items() if each.silent(now)] or (unheard if missed else []),
            idle=idle if self._waited(ref.token, bool(idle), now) else [],
            bound=bound,
        )

    def departed(self, *, living: Mapping[str, frozenset[str] | None], now: float) -> list[tuple[str, str]]:
        """Words that nobody needs any more, as (binding, instance), which are forgotten here.

        Args:
            living: the instances of each Sensor that there is, by its binding; None where they are not known.
            now: the present time.
        """
        gone = [
            (binding, name)
            for binding, instances in self._heard.items()
            for name, heard in instances.items()
            if now - heard.at > _FORGET_AFTER and name not in (living.get(binding) or ())
        ]
        for binding, name in gone:
            self._heard[binding].pop(name)
            if not self._heard[binding]:
                del self._heard[binding]
        return gone

    def _missed(self, binding: str, unheard: Iterable[str], now: float) -> bool:
        """Whether a pod has been running for a while without a word."""
        unheard = set(unheard)
        for key in [key for key in self._awaited if key[0] == binding and key[1] and key[1] not in unheard]:
            del self._awaited[key]
        return any(now - self._awaited.setdefault((binding, name), now) > _GRACE for name in unheard)

    def _waited(self, binding: str, idle: bool, now: float) -> bool:
        """Whether a sensor has known of no rule for a while."""
        if not idle:
            self._awaited.pop((binding, ""), None)
            return False
        return now - self._awaited.setdefault((binding, ""), now) > _GRACE


def _judge(*, present: Mapping[str, _Heard], silent: list[str], idle: list[str], bound: int) -> HealthView:
    if silent:
        return _unhealthy(
            HealthReason.NATS_UNAVAILABLE,
            f"Nothing is heard of {_pods(silent)} over NATS: it cannot reach the server, or hangs. Look at its log, "
            "and whether a NetworkPolicy keeps it from NATS.",
        )
    found = [
        (name, kind, text) for name, heard in present.items() for kind, text in sorted(heard.health.problems.items())
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
            f"{_count(bound, 'Rule')} bound to this Sensor, and {_pods(idle)} knows of none. Look at its log; it says whether "
            "the rules were read.",
        )
    if not present:
        return HealthView(
            message="Its pods say nothing of how they fare. Those that are written with the SDK do; others need not.",
        )
    if bound == 0:
        return HealthView(
            healthy=True,
            reason=HealthReason.NO_RULES,
            message="It reaches the API and NATS, and no Rule is bound to it, so it reports nothing. A Rule names one of its "
            "trigger types, in a namespace that spec.rules.namespaces admits.",
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
