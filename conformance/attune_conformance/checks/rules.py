"""What a sensor does with its rules (protocol, "Rules" and "Acks")."""

import msgspec

from attune_conformance.check import Failed, NotApplicable, check
from attune_conformance.rules import changed
from attune_conformance.world import World
from attune_contract.messages import AckState, RuleState


@check("rules-there-first", "runs a rule that was there before it started")
async def rules_there_first(world: World) -> None:
    """The oldest fault of all: healthy, silent, and no events, because the rule came first."""
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule, when="although it was there before the sensor")


@check("rule-created", "starts with no rule at all, and runs one that comes later")
async def rule_created(world: World) -> None:
    await world.start()
    await world.answers("/ready", 200, why="no rule is a complete rule state too")
    rule = await world.put(world.new_rule())
    await world.runs(rule, when="although it was created while the sensor ran")


@check("rule-updated", "takes up a changed rule, and says so of its new generation")
async def rule_updated(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    newer = await world.put(changed(rule))
    await world.runs(newer, when="after it was updated")


@check("rule-disabled", "stops a disabled rule, acks Stopped, and runs it again when it is enabled")
async def rule_disabled(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    off = await world.put(changed(rule, enabled=False))
    await world.acked(off, AckState.STOPPED)
    await world.silent(off, because="it was disabled and acked Stopped")
    on = await world.put(changed(off, enabled=True))
    await world.runs(on, when="after it was enabled again")


@check("rule-disabled-first", "does not run a rule that is disabled from the beginning, and acks Stopped")
async def rule_disabled_first(world: World) -> None:
    off = await world.put(world.new_rule(enabled=False))
    other = await world.put(world.new_rule())
    await world.start()
    await world.acked(off, AckState.STOPPED)
    await world.runs(other)
    await world.silent(off, because="it is disabled")


@check("rule-deleted", "stops a rule when its tombstone comes")
async def rule_deleted(world: World) -> None:
    rule = await world.put(world.new_rule())
    other = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    await world.runs(other)
    await world.bury(rule)
    # The other rule's next generation is acked: then the tombstone before it was read as well.
    await world.acked(await world.put(changed(other)), AckState.ACTIVE)
    await world.silent(rule, because="it was deleted")
    await world.fires(other, when="after another one was deleted")


@check("older-generation", "drops a lower generation than the one it has")
async def older_generation(world: World) -> None:
    rule = await world.put(world.new_rule(generation=5))
    fence = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    await world.rules.put(changed(rule, generation=4, enabled=False))
    await world.acked(await world.put(changed(fence)), AckState.ACTIVE)
    await world.fires(rule, when="after a lower generation came, which must be dropped")
    ack = await world.rules.ack(rule.uid)
    if ack is None or ack.generation != 5:
        raise Failed(f"After generation 4 came behind generation 5, the sensor acked {ack}.")


@check("unreadable-message", "goes on when a message of the rule stream cannot be read")
async def unreadable_message(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    await world.rules.put_raw(world.new_rule().uid, b"{not json")
    await world.rules.put_raw(world.new_rule().uid, b'{"uid": 5}')
    later = await world.put(world.new_rule())
    await world.runs(later, when="after a message that could not be read")
    await world.fires(rule, when="after a message that could not be read")


@check("unknown-fields", "ignores fields that it does not know, so that newer operators can add some")
async def unknown_fields(world: World) -> None:
    rule = world.new_rule()
    await world.start()
    world.expect(rule)
    await world.rules.put_raw(rule.uid, _with_unknown_field(rule))
    await world.runs(rule, when="although its message has a field that nobody knows yet")


def _with_unknown_field(rule: RuleState) -> bytes:
    fields = msgspec.to_builtins(rule)
    return msgspec.json.encode({**fields, "a_field_of_the_future": {"answer": 42}})


@check("foreign-trigger-type", "rejects a rule of a trigger type that it does not provide")
async def foreign_trigger_type(world: World) -> None:
    foreign = await world.put(world.new_rule(trigger_type="conformance.nobodys"))
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    ack = await world.acked(foreign, AckState.REJECTED)
    if not ack.message:
        raise Failed("The sensor acked Rejected without a message; it should say which types it provides.")
    await world.silent(foreign, because="its trigger type is not this sensor's")


@check("bad-parameters", "rejects parameters that it cannot run with, with a sentence, and runs its other rules")
async def bad_parameters(world: World) -> None:
    if world.profile.bad_parameters is None:
        raise NotApplicable("no parameters were named that the sensor must reject (--bad-parameters)")
    bad = await world.put(world.new_rule(parameters=dict(world.profile.bad_parameters)))
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    ack = await world.acked(bad, AckState.REJECTED)
    if not ack.message:
        raise Failed("The sensor acked Rejected without a message; its words become the Rule's condition.")
    mended = await world.put(changed(bad, parameters=world.profile.parameters_for(bad.name)))
    await world.runs(mended, when="after its parameters were mended")


@check("acks-well-formed", "acks as agreed: which rule, generation, state, instance and when")
async def acks_well_formed(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    ack = await world.acked(rule, AckState.ACTIVE)
    if world.rules.unreadable_acks:
        raise Failed(f"An ack could not be read: {world.rules.unreadable_acks[0]}")
    if ack.instance != "instance-1":
        raise Failed(
            f"The ack's instance is {ack.instance!r}; it must be that of ATTUNE_SENSOR_INSTANCE, 'instance-1'."
        )
    if ack.at.tzinfo is None:
        raise Failed("The ack's time has no zone.")
