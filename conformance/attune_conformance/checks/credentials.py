"""What a sensor does with its credentials (protocol, "Credentials")."""

import asyncio
import math
from datetime import timedelta
from typing import Final

from attune_conformance.check import check
from attune_conformance.errors import CheckFailedError
from attune_conformance.testbed import Testbed

#: Requests a second beyond which a sensor that is refused hammers the API.
_MOST_REQUESTS: Final = 20.0
#: Seconds of refusal that are watched.
_REFUSED: Final = 4.0


@check("token-renewed", "takes a renewed token from its file without a restart and without losing an event")
async def token_renewed(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    await testbed.renew(keep_old=False)
    renewed = testbed.token
    await testbed.fires(rule, more=2, when="after its token was renewed and the old one refused")
    if testbed.api.requests[-1].token != renewed:
        raise CheckFailedError("The sensor goes on with its old token although the file holds another.")
    await testbed.all_delivered(of="with the old token")


@check("unauthorised", "keeps its events while its token is refused, without hammering, and delivers them afterwards")
async def unauthorised(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    testbed.api.valid_tokens = set()
    began = len(testbed.api.requests)
    await testbed.until(lambda: testbed.api.unauthorised > 0, "Nothing was sent while the token was refused")
    await testbed.passes(_REFUSED)
    rate = (len(testbed.api.requests) - began) / _REFUSED
    if rate > _MOST_REQUESTS:
        raise CheckFailedError(
            f"While its token was refused the sensor sent {rate:.0f} requests a second; it should back off."
        )
    testbed.api.valid_tokens = {testbed.token}
    await testbed.all_delivered(of="while the token was refused")
    await testbed.fires(rule, when="after its token was accepted again")


def _short(testbed: Testbed) -> timedelta:
    """A life that is over soon, and yet long enough for the sensor to start in it."""
    return timedelta(seconds=math.ceil(testbed.profile.slack))


@check("nats-creds-renewed", "goes on hearing of rules when its NATS credentials were renewed before they expired")
async def nats_creds_renewed(testbed: Testbed) -> None:
    lifetime = _short(testbed)
    await testbed.renew(lifetime=lifetime)
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    await testbed.renew()
    # The server ends connections whose user has expired.
    await testbed.passes(lifetime.total_seconds() + 2)
    later = await testbed.put(testbed.new_rule())
    await testbed.runs(
        later, within=testbed.profile.recovery, when="which was created after the first NATS credentials had expired"
    )


@check("nats-creds-expired", "comes back when its NATS credentials expired first and were renewed later")
async def nats_creds_expired(testbed: Testbed) -> None:
    lifetime = _short(testbed)
    await testbed.renew(lifetime=lifetime)
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    await testbed.passes(lifetime.total_seconds() + 2)
    await testbed.renew()
    later = await testbed.put(testbed.new_rule())
    await testbed.runs(
        later,
        within=testbed.profile.recovery,
        when="which was created after NATS credentials had expired and were renewed",
    )


@check("no-secrets-told", "prints neither its token nor its NATS seed")
async def no_secrets_told(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    testbed.api.valid_tokens = set()
    await testbed.until(lambda: testbed.api.unauthorised > 0, "Nothing was sent while the token was refused")
    await testbed.renew()
    await testbed.fires(rule)
    await asyncio.to_thread(testbed.nats.kill)
    await testbed.passes(1.0)
    if logs := testbed.leaked_secrets():
        raise CheckFailedError(f"The token or the NATS seed stands in the sensor's output ({', '.join(logs)}).")
