"""What a sensor does when NATS or the stream fails it (protocol, "Reading the rule stream")."""

import asyncio

from attune_conformance.check import check
from attune_conformance.errors import CheckFailedError
from attune_conformance.rules import changed
from attune_conformance.testbed import Testbed
from attune_contract.messages import AckState


@check("nats-lost", "goes on with the rules it knows while NATS is away, and catches up when it is back")
async def nats_lost(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    gone = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    await testbed.runs(gone)
    await asyncio.to_thread(testbed.nats.kill)
    await testbed.fires(rule, more=2, when="while NATS was away")
    await asyncio.to_thread(testbed.nats.start)
    await testbed.delete(gone)
    later = await testbed.put(testbed.new_rule())
    await testbed.runs(later, within=testbed.profile.recovery, when="which was created after NATS came back")
    await testbed.silent(gone, because="it was deleted after NATS came back")
    await testbed.fires(rule, when="after NATS came back")


@check("nats-away-at-start", "waits for NATS instead of ending, not ready, and then runs its rules", nats=False)
async def nats_away_at_start(testbed: Testbed) -> None:
    await testbed.start()
    await testbed.tries_nats()
    await testbed.answers("/live", 200, why="a sensor that waits for NATS is alive")
    await testbed.answers("/ready", 503, why="a sensor that has not read its rules is not ready")
    await testbed.start_nats()
    rule = await testbed.put(testbed.new_rule())
    await testbed.runs(rule, within=testbed.profile.recovery, when="after NATS had come")
    await testbed.answers("/ready", 200, why="it has read its rules")


@check("stream-missing-at-start", "waits for the stream to be made instead of ending")
async def stream_missing_at_start(testbed: Testbed) -> None:
    await testbed.rules.delete_rules()
    await testbed.start()
    await testbed.until(lambda: testbed.rules.requests > 0, "The sensor did not ask for a consumer of ATTUNE_RULES")
    await testbed.passes(1.0)
    await testbed.answers("/live", 200, why="a sensor that waits for the stream is alive")
    await testbed.rules.make_streams()
    rule = await testbed.put(testbed.new_rule())
    await testbed.runs(rule, within=testbed.profile.recovery, when="after the stream was made")


@check("stream-made-again", "finds its rules again after the stream was deleted and created again")
async def stream_made_again(testbed: Testbed) -> None:
    """The sequence begins at 1 again; a consumer that resumes at its old one loses what comes before it."""
    rules = [await testbed.put(testbed.new_rule()) for _ in range(5)]
    await testbed.start()
    for rule in rules:
        await testbed.acked(rule, AckState.ACTIVE)
    await testbed.rules.delete_rules()
    await testbed.rules.make_streams()
    for rule in rules:
        await testbed.rules.put(rule)
    later = await testbed.put(testbed.new_rule())
    await testbed.runs(
        later, within=testbed.profile.recovery, when="which was created after the stream was created again"
    )
    for rule in rules:
        await testbed.fires(rule, when="after the stream was created again")


@check("consumer-lost", "notices that its consumer is gone, and makes another")
async def consumer_lost(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    if await testbed.rules.delete_consumers() == 0:
        raise CheckFailedError("The sensor has no consumer of ATTUNE_RULES, so it cannot hear of changes.")
    later = await testbed.put(testbed.new_rule())
    await testbed.runs(
        later, within=testbed.profile.recovery, when="which was created after the sensor's consumer was deleted"
    )


@check("deleted-while-away", "stops a rule whose tombstone was written while it was not running")
async def deleted_while_away(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    other = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    await testbed.sensor.kill()
    await testbed.delete(rule)
    await testbed.start()
    await testbed.runs(other, when="after a restart")
    await testbed.silent(rule, because="it was deleted while the sensor was away")


@check("acks-again", "acks its rules again after the connection was lost, as the stream may have lost them")
async def acks_again(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.acked(rule, AckState.ACTIVE)
    # What it does next shows that it knows its first ack to be stored, and does not send it again because of that.
    await testbed.fires(rule, more=3)
    await testbed.rules.purge_acks()
    await asyncio.to_thread(testbed.nats.kill)
    await asyncio.to_thread(testbed.nats.start)
    await testbed.acked(rule, AckState.ACTIVE, within=testbed.profile.recovery)


@check("many-rules", "reads a snapshot of 2,000 rules whole")
async def many_rules(testbed: Testbed) -> None:
    rules = [testbed.new_rule(enabled=False) for _ in range(1999)]
    for begin in range(0, len(rules), 100):
        await asyncio.gather(*(testbed.rules.put(rule) for rule in rules[begin : begin + 100]))
    last = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(last, within=testbed.profile.recovery)
    for rule in (rules[0], rules[1000], rules[-1]):
        await testbed.acked(rule, AckState.STOPPED, within=testbed.profile.recovery)
    # What follows a snapshot is live.
    await testbed.acked(await testbed.put(changed(rules[7])), AckState.STOPPED)
