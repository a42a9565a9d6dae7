"""What events look like (protocol, "Events" and "Ids")."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from attune_conformance.api import StoredEvent
from attune_conformance.check import Failed, NotApplicable, check
from attune_conformance.world import World
from attune_contract.messages import AckState

_SEEN: Final = 5


@check("events-well-formed", "reports events as agreed: fields, times, ids, sizes, trigger type, rule")
async def events_well_formed(world: World) -> None:
    rules = [await world.put(world.new_rule()) for _ in range(3)]
    await world.start()
    for rule in rules:
        await world.fires(rule, more=3)
    if world.api.violations:
        raise Failed(f"{next(iter(world.api.violations))}.")
    known = {rule.uid: rule for rule in rules}
    for stored in world.api.stored:
        report = stored.report
        rule_found = known.get(report.rule_uid)
        if rule_found is None:
            raise Failed(f"An event names the rule {report.rule_uid!r}, which was never there.")
        if (report.rule_namespace, report.rule_name) != (rule_found.namespace, rule_found.name):
            raise Failed(
                f"An event of {rule_found.namespace}/{rule_found.name} names {report.rule_namespace}/{report.rule_name}."
            )
        if report.trigger_type != rule_found.trigger_type:
            raise Failed(
                f"An event of a rule of type {rule_found.trigger_type!r} has the type {report.trigger_type!r}."
            )


@check("ids-by-occurrence", "gives the same occurrence the same id in two instances")
async def ids_by_occurrence(world: World) -> None:
    """Two replicas report each occurrence; only its id tells that it is one."""
    if not world.profile.repeatable:
        raise NotApplicable("two instances of this sensor do not report the same occurrences (--no-repeatable)")
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    await world.launch(instance=2)
    before = len(world.api.stored)
    await world.until(
        lambda: sum(count >= 2 for count in world.api.arrivals.values()) >= _SEEN,
        f"Two instances ran side by side, and not {_SEEN} of their events had the same id",
        within=world.profile.patience + _SEEN * world.profile.every,
    )
    if double := _under_several_ids(world, world.api.stored[before:]):
        raise Failed(f"The occurrence {double[0]} was reported under {double[1]} different ids.")


@check("ids-over-restarts", "never gives an occurrence another id after a restart")
async def ids_over_restarts(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    await world.fires(rule, more=2)
    await world.sensor.kill()
    await world.start()
    await world.fires(rule, more=3, when="after a restart")
    if double := _under_several_ids(world, world.api.of(rule.uid)):
        raise Failed(f"The occurrence {double[0]} has {double[1]} ids: one before a restart, another after.")


def _under_several_ids(world: World, events: Iterable[StoredEvent]) -> tuple[str, int] | None:
    """An occurrence that was reported under more than one id, and under how many; None when there is none."""
    field = world.profile.occurrence
    ids: dict[tuple[str, str], set[object]] = defaultdict(set)
    for report in (stored.report for stored in events):
        told = f"at {report.occurred_at}"
        if field is not None:
            if field not in report.payload:
                raise Failed(f"An event's payload has no {field!r}, which should tell occurrences apart.")
            told = f"of {field} {report.payload[field]!r}"
        ids[report.rule_uid, told].add(report.id)
    return next(((told, len(found)) for (_, told), found in ids.items() if len(found) > 1), None)


@check("one-event-once", "reports an occurrence once while all goes well")
async def one_event_once(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    # A second look at the same rule must not make it fire twice.
    await world.rules.put(rule)
    await world.acked(rule, AckState.ACTIVE)
    await world.fires(rule, more=4)
    await world.passes(0.5)
    if double := [event for event, count in world.api.arrivals.items() if count > 1]:
        raise Failed(f"{len(double)} events were sent more than once although every one was answered as stored.")
