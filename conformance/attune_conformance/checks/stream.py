"""What a sensor does when NATS or the stream fails it (protocol, "Reading the rule stream")."""

from attune_conformance.check import Failed, check
from attune_conformance.rules import changed
from attune_conformance.world import World
from attune_contract.messages import AckState


@check("nats-lost", "goes on with the rules it knows while NATS is away, and catches up when it is back")
async def nats_lost(world: World) -> None:
    rule = await world.put(world.new_rule())
    gone = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    await world.runs(gone)
    await world.nats.kill()
    await world.fires(rule, more=2, when="while NATS was away")
    await world.nats.start()
    await world.bury(gone)
    later = await world.put(world.new_rule())
    await world.runs(later, within=world.profile.recovery, when="which was created after NATS came back")
    await world.silent(gone, because="it was deleted after NATS came back")
    await world.fires(rule, when="after NATS came back")


@check("nats-away-at-start", "waits for NATS instead of ending, not ready, and then runs its rules", nats=False)
async def nats_away_at_start(world: World) -> None:
    await world.start()
    await world.answers("/live", 200, why="a sensor that waits for NATS is alive")
    await world.answers("/ready", 503, why="a sensor that has not read its rules is not ready")
    await world.start_nats()
    rule = await world.put(world.new_rule())
    await world.runs(rule, within=world.profile.recovery, when="after NATS had come")
    await world.answers("/ready", 200, why="it has read its rules")


@check("stream-missing-at-start", "waits for the stream to be made instead of ending")
async def stream_missing_at_start(world: World) -> None:
    await world.rules.delete_rules()
    await world.start()
    await world.until(lambda: world.rules.requests > 0, "The sensor did not ask for a consumer of ATTUNE_RULES")
    await world.passes(1.0)
    await world.answers("/live", 200, why="a sensor that waits for the stream is alive")
    await world.rules.make_streams()
    rule = await world.put(world.new_rule())
    await world.runs(rule, within=world.profile.recovery, when="after the stream was made")


@check("stream-made-again", "finds its rules again when the stream was deleted and made anew")
async def stream_made_again(world: World) -> None:
    """The sequence begins at 1 again; a consumer that resumes at its old one loses what comes before it."""
    rules = [await world.put(world.new_rule()) for _ in range(5)]
    await world.start()
    for rule in rules:
        await world.acked(rule, AckState.ACTIVE)
    await world.rules.delete_rules()
    await world.rules.make_streams()
    for rule in rules:
        await world.rules.put(rule)
    later = await world.put(world.new_rule())
    await world.runs(later, within=world.profile.recovery, when="which was created after the stream was made again")
    for rule in rules:
        await world.fires(rule, when="after the stream was made again")


@check("consumer-lost", "notices that its consumer is gone, and makes another")
async def consumer_lost(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    if await world.rules.delete_consumers() == 0:
        raise Failed("The sensor has no consumer of ATTUNE_RULES, so it cannot hear of changes.")
    later = await world.put(world.new_rule())
    await world.runs(
        later, within=world.profile.recovery, when="which was created after the sensor's consumer was deleted"
    )


@check("deleted-while-away", "stops a rule whose tombstone was written while it was not running")
async def deleted_while_away(world: World) -> None:
    rule = await world.put(world.new_rule())
    other = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    await world.sensor.kill()
    await world.bury(rule)
    await world.start()
    await world.runs(other, when="after a restart")
    await world.silent(rule, because="it was deleted while the sensor was away")


@check("acks-again", "acks its rules again after the connection was lost, as the stream may have lost them")
async def acks_again(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.acked(rule, AckState.ACTIVE)
    await world.rules.forget_acks()
    await world.nats.kill()
    await world.nats.start()
    await world.acked(rule, AckState.ACTIVE, within=world.profile.recovery)


@check("many-rules", "reads a snapshot of 2,000 rules whole")
async def many_rules(world: World) -> None:
    rules = [world.new_rule(enabled=False) for _ in range(1999)]
    for rule in rules:
        await world.rules.put(rule)
    last = await world.put(world.new_rule())
    await world.start()
    await world.runs(last, within=world.profile.recovery)
    for rule in (rules[0], rules[1000], rules[-1]):
        await world.acked(rule, AckState.STOPPED, within=world.profile.recovery)
    # What follows a snapshot is live.
    await world.acked(await world.put(changed(rules[7])), AckState.STOPPED)
