"""What events look like (protocol, "Events" and "Ids")."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from attune_conformance.api import StoredEvent
from attune_conformance.check import check
from attune_conformance.errors import CheckFailedError, NotApplicableError
from attune_conformance.testbed import Testbed
from attune_contract.messages import AckState

_SEEN: Final = 5


@check("events-well-formed", "reports events as agreed: fields, times, ids, sizes, trigger type, rule")
async def events_well_formed(testbed: Testbed) -> None:
    rules = [await testbed.put(testbed.new_rule()) for _ in range(3)]
    await testbed.start()
    for rule in rules:
        await testbed.fires(rule, more=3)
    if testbed.api.violations:
        raise CheckFailedError(f"{next(iter(testbed.api.violations))}.")
    known = {rule.uid: rule for rule in rules}
    for stored in testbed.api.stored:
        report = stored.report
        rule_found = known.get(report.rule_uid)
        if rule_found is None:
            raise CheckFailedError(f"An event names the rule {report.rule_uid!r}, which was never there.")
        if (report.rule_namespace, report.rule_name) != (rule_found.namespace, rule_found.name):
            raise CheckFailedError(
                f"An event of {rule_found.namespace}/{rule_found.name} names {report.rule_namespace}/{report.rule_name}."
            )
        if report.trigger_type != rule_found.trigger_type:
            raise CheckFailedError(
                f"An event of a rule of type {rule_found.trigger_type!r} has the type {report.trigger_type!r}."
            )


@check("ids-by-occurrence", "gives the same occurrence the same id in two instances")
async def ids_by_occurrence(testbed: Testbed) -> None:
    """Two replicas report each occurrence; only its id tells that it is one."""
    if not testbed.profile.repeatable:
        raise NotApplicableError("two instances of this sensor do not report the same occurrences (--no-repeatable)")
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    await testbed.launch(instance=2)
    before = len(testbed.api.stored)
    await testbed.until(
        lambda: sum(count >= 2 for count in testbed.api.arrivals.values()) >= _SEEN,
        f"Two instances ran side by side, and not {_SEEN} of their events had the same id",
        within=testbed.profile.patience + _SEEN * testbed.profile.every,
    )
    if double := _under_several_ids(testbed, testbed.api.stored[before:]):
        raise CheckFailedError(f"The occurrence {double[0]} was reported under {double[1]} different ids.")


@check("ids-over-restarts", "never gives an occurrence another id after a restart")
async def ids_over_restarts(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    await testbed.fires(rule, more=2)
    await testbed.sensor.kill()
    await testbed.start()
    await testbed.fires(rule, more=3, when="after a restart")
    if double := _under_several_ids(testbed, testbed.api.of(rule.uid)):
        raise CheckFailedError(f"The occurrence {double[0]} has {double[1]} ids: one before a restart, another after.")


def _under_several_ids(testbed: Testbed, events: Iterable[StoredEvent]) -> tuple[str, int] | None:
    """An occurrence that was reported under more than one id, and under how many; None when there is none."""
    field = testbed.profile.occurrence
    ids: dict[tuple[str, str], set[object]] = defaultdict(set)
    for report in (stored.report for stored in events):
        told = f"at {report.occurred_at}"
        if field is not None:
            if field not in report.payload:
                raise CheckFailedError(f"An event's payload has no {field!r}, which should tell occurrences apart.")
            told = f"of {field} {report.payload[field]!r}"
        ids[report.rule_uid, told].add(report.id)
    return next(((told, len(found)) for (_, told), found in ids.items() if len(found) > 1), None)


@check("one-event-once", "reports an occurrence once while all goes well")
async def one_event_once(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    # A second look at the same rule must not make it fire twice.
    await testbed.rules.put(rule)
    await testbed.acked(rule, AckState.ACTIVE)
    await testbed.fires(rule, more=4)
    await testbed.passes(0.5)
    if double := [event for event, count in testbed.api.arrivals.items() if count > 1]:
        raise CheckFailedError(
            f"{len(double)} events were sent more than once although every one was answered as stored."
        )
