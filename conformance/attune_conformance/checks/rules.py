"""What a sensor does with its rules (protocol, "Rules" and "Acks")."""

import msgspec

from attune_conformance.check import check
from attune_conformance.errors import CheckFailedError, NotApplicableError
from attune_conformance.rules import changed
from attune_conformance.testbed import Testbed
from attune_contract.messages import AckState, RuleState


@check("rules-there-first", "runs a rule that was there before it started")
async def rules_there_first(testbed: Testbed) -> None:
    """The oldest fault of all: healthy, silent, and no events, because the rule came first."""
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule, when="although it was there before the sensor")


@check("rule-created", "starts with no rule at all, and runs one that comes later")
async def rule_created(testbed: Testbed) -> None:
    await testbed.start()
    await testbed.answers("/ready", 200, why="no rule is a complete rule state too")
    rule = await testbed.put(testbed.new_rule())
    await testbed.runs(rule, when="although it was created while the sensor ran")


@check("rule-updated", "takes up a changed rule, and says so of its new generation")
async def rule_updated(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    newer = await testbed.put(changed(rule))
    await testbed.runs(newer, when="after it was updated")


@check("rule-disabled", "stops a disabled rule, acks Stopped, and runs it again when it is enabled")
async def rule_disabled(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    off = await testbed.put(changed(rule, enabled=False))
    await testbed.acked(off, AckState.STOPPED)
    await testbed.silent(off, because="it was disabled and acked Stopped")
    on = await testbed.put(changed(off, enabled=True))
    await testbed.runs(on, when="after it was enabled again")


@check("rule-disabled-first", "does not run a rule that is disabled from the beginning, and acks Stopped")
async def rule_disabled_first(testbed: Testbed) -> None:
    off = await testbed.put(testbed.new_rule(enabled=False))
    other = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.acked(off, AckState.STOPPED)
    await testbed.runs(other)
    await testbed.silent(off, because="it is disabled")


@check("rule-deleted", "stops a rule when its tombstone comes")
async def rule_deleted(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    other = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    await testbed.runs(other)
    await testbed.delete(rule)
    # The other rule's next generation is acked: then the tombstone before it was read as well.
    await testbed.acked(await testbed.put(changed(other)), AckState.ACTIVE)
    await testbed.silent(rule, because="it was deleted")
    await testbed.fires(other, when="after another one was deleted")


@check("older-generation", "drops a lower generation than the one it has")
async def older_generation(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule(generation=5))
    fence = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    await testbed.rules.put(changed(rule, generation=4, enabled=False))
    await testbed.acked(await testbed.put(changed(fence)), AckState.ACTIVE)
    await testbed.fires(rule, when="after a lower generation came, which must be dropped")
    ack = await testbed.rules.ack(rule.uid)
    if ack is None or ack.generation != 5:
        raise CheckFailedError(f"After generation 4 came behind generation 5, the sensor acked {ack}.")


@check("unreadable-message", "goes on when a message of the rule stream cannot be read")
async def unreadable_message(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    await testbed.rules.put_raw(testbed.new_rule().uid, b"{not json")
    await testbed.rules.put_raw(testbed.new_rule().uid, b'{"uid": 5}')
    later = await testbed.put(testbed.new_rule())
    await testbed.runs(later, when="after a message that could not be read")
    await testbed.fires(rule, when="after a message that could not be read")


@check("unknown-fields", "ignores fields that it does not know, so that newer operators can add some")
async def unknown_fields(testbed: Testbed) -> None:
    rule = testbed.new_rule()
    await testbed.start()
    testbed.expect(rule)
    await testbed.rules.put_raw(rule.uid, _with_unknown_field(rule))
    await testbed.runs(rule, when="although its message has an unknown field")


def _with_unknown_field(rule: RuleState) -> bytes:
    fields = msgspec.to_builtins(rule)
    return msgspec.json.encode({**fields, "a_field_of_the_future": {"answer": 42}})


@check("foreign-trigger-type", "rejects a rule of a trigger type that it does not provide")
async def foreign_trigger_type(testbed: Testbed) -> None:
    foreign = await testbed.put(testbed.new_rule(trigger_type="conformance.nobodys"))
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    ack = await testbed.acked(foreign, AckState.REJECTED)
    if not ack.message:
        raise CheckFailedError("The sensor acked Rejected without a message; it should say which types it provides.")
    await testbed.silent(foreign, because="its trigger type is not this sensor's")


@check("bad-parameters", "rejects parameters that it cannot run with, with a sentence, and runs its other rules")
async def bad_parameters(testbed: Testbed) -> None:
    if testbed.profile.bad_parameters is None:
        raise NotApplicableError("no parameters were named that the sensor must reject (--bad-parameters)")
    bad = await testbed.put(testbed.new_rule(parameters=dict(testbed.profile.bad_parameters)))
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    ack = await testbed.acked(bad, AckState.REJECTED)
    if not ack.message:
        raise CheckFailedError("The sensor acked Rejected without a message; its words become the Rule's condition.")
    mended = await testbed.put(changed(bad, parameters=testbed.profile.parameters_for(bad.name)))
    await testbed.runs(mended, when="after its parameters were mended")


@check("acks-well-formed", "acks as agreed: which rule, generation, state, instance and when")
async def acks_well_formed(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    ack = await testbed.acked(rule, AckState.ACTIVE)
    if testbed.rules.unreadable_acks:
        raise CheckFailedError(f"An ack could not be read: {testbed.rules.unreadable_acks[0]}")
    if ack.instance != "instance-1":
        raise CheckFailedError(
            f"The ack's instance is {ack.instance!r}; it must be that of ATTUNE_SENSOR_INSTANCE, 'instance-1'."
        )
    if ack.at.tzinfo is None:
        raise CheckFailedError("The ack's time has no zone.")
    if ack.next_at is not None and ack.next_at.tzinfo is None:
        raise CheckFailedError("The ack's next_at, when the next occurrence is due, has no zone.")
