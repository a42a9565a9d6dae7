"""What a sensor does with its credentials (protocol, "Credentials")."""

import math
from datetime import timedelta
from typing import Final

from attune_conformance.check import Failed, check
from attune_conformance.world import World

#: Requests a second beyond which a sensor that is refused hammers the API.
_MOST_REQUESTS: Final = 20.0
#: Seconds of refusal that are watched.
_REFUSED: Final = 4.0


@check("token-renewed", "takes a renewed token from its file without a restart and without losing an event")
async def token_renewed(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    await world.renew(keep_old=False)
    renewed = world.token
    await world.fires(rule, more=2, when="after its token was renewed and the old one refused")
    if world.api.requests[-1].token != renewed:
        raise Failed("The sensor goes on with its old token although the file holds another.")
    await world.all_delivered(of="with the old token")


@check("unauthorised", "keeps its events while its token is refused, without hammering, and delivers them afterwards")
async def unauthorised(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    world.api.valid_tokens = set()
    began = len(world.api.requests)
    await world.until(lambda: world.api.unauthorised > 0, "Nothing was sent while the token was refused")
    await world.passes(_REFUSED)
    rate = (len(world.api.requests) - began) / _REFUSED
    if rate > _MOST_REQUESTS:
        raise Failed(f"While its token was refused the sensor sent {rate:.0f} requests a second; it should back off.")
    world.api.valid_tokens = {world.token}
    await world.all_delivered(of="while the token was refused")
    await world.fires(rule, when="after its token was accepted again")


def _short(world: World) -> timedelta:
    """A life that is over soon, and yet long enough for the sensor to start in it."""
    return timedelta(seconds=math.ceil(world.profile.slack))


@check("nats-creds-renewed", "goes on hearing of rules when its NATS credentials were renewed before they expired")
async def nats_creds_renewed(world: World) -> None:
    lifetime = _short(world)
    await world.renew(lifetime=lifetime)
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    await world.renew()
    # The server ends connections whose user has expired.
    await world.passes(lifetime.total_seconds() + 2)
    later = await world.put(world.new_rule())
    await world.runs(
        later, within=world.profile.recovery, when="which was created after the first NATS credentials had expired"
    )


@check("nats-creds-expired", "comes back when its NATS credentials expired first and were renewed later")
async def nats_creds_expired(world: World) -> None:
    lifetime = _short(world)
    await world.renew(lifetime=lifetime)
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    await world.passes(lifetime.total_seconds() + 2)
    await world.renew()
    later = await world.put(world.new_rule())
    await world.runs(
        later,
        within=world.profile.recovery,
        when="which was created after NATS credentials had expired and were renewed",
    )


@check("no-secrets-told", "prints neither its token nor its NATS seed")
async def no_secrets_told(world: World) -> None:
    rule = await world.put(world.new_rule())
    await world.start()
    await world.runs(rule)
    world.api.valid_tokens = set()
    await world.until(lambda: world.api.unauthorised > 0, "Nothing was sent while the token was refused")
    await world.renew()
    await world.fires(rule)
    await world.nats.kill()
    await world.passes(1.0)
    if logs := world.told_secrets():
        raise Failed(f"The token or the NATS seed stands in the sensor's output ({', '.join(logs)}).")
