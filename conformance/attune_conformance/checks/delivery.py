"""What a sensor does when the API fails it (protocol, "Reporting events", "What answers mean")."""

import asyncio
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from attune_conformance.api import Request, always
from attune_conformance.check import Level, check
from attune_conformance.errors import CheckFailedError
from attune_conformance.testbed import Testbed
from attune_contract.messages import AckState, RuleState

_MOST_REQUESTS: Final = 20.0
_AWAY: Final = 4.0
#: Seconds for which the API asks to be left alone, and by how much of it a clock may differ.
_RETRY_AFTER: Final = 6
_TOLERANCE: Final = 0.1


async def _running(testbed: Testbed) -> RuleState:
    rule = await testbed.put(testbed.new_rule())
    await testbed.start()
    await testbed.runs(rule)
    return rule


def _gap(testbed: Testbed, rule: RuleState) -> None:
    """See that the stored events of a rule come in the order in which they occurred."""
    times = [event.report.occurred_at for event in testbed.api.of(rule.uid)]
    if times != sorted(times):
        raise CheckFailedError("Events of one rule did not arrive in the order in which they occurred.")


@check("api-5xx", "keeps its events through 5xx answers, backs off, and delivers them in order afterwards")
async def api_5xx(testbed: Testbed) -> None:
    rule = await _running(testbed)
    testbed.api.script = always(503)
    began = len(testbed.api.requests)
    await testbed.passes(_AWAY)
    rate = (len(testbed.api.requests) - began) / _AWAY
    if len(testbed.api.requests) == began:
        raise CheckFailedError("The sensor sent nothing while the API answered 503, although its rule is active.")
    if rate > _MOST_REQUESTS:
        raise CheckFailedError(
            f"While the API answered 503 the sensor sent {rate:.0f} requests a second; it should back off."
        )
    testbed.api.script = None
    await testbed.all_delivered(of="while the API answered 503")
    await testbed.fires(rule, when="after the API answered 503 for a while", within=testbed.profile.recovery)
    _gap(testbed, rule)


@check("api-429", "waits as long as Retry-After says, and delivers afterwards")
async def api_429(testbed: Testbed) -> None:
    rule = await _running(testbed)
    refused_at: list[float] = []

    async def once(request: Request) -> web.StreamResponse | None:
        if refused_at:
            return None
        refused_at.append(request.at)
        return await always(429, headers={"Retry-After": str(_RETRY_AFTER)})(request)

    testbed.api.script = once
    await testbed.until(lambda: bool(refused_at), "Nothing was sent")
    await testbed.until(
        lambda: testbed.api.requests[-1].at > refused_at[0],
        "Nothing was sent after a 429",
        within=testbed.profile.patience + _RETRY_AFTER,
    )
    waited = next(request.at for request in testbed.api.requests if request.at > refused_at[0]) - refused_at[0]
    if waited < _RETRY_AFTER - _TOLERANCE:
        raise CheckFailedError(
            f"The API answered 429 with Retry-After: {_RETRY_AFTER}, and the sensor came back after {waited:.1f} s."
        )
    await testbed.all_delivered(of="with a request that was answered with 429")
    await testbed.fires(rule)


@check("api-away", "keeps its events while nothing listens at the API's address, and then delivers them in order")
async def api_away(testbed: Testbed) -> None:
    rule = await _running(testbed)
    await testbed.api.stop()
    went = datetime.now(UTC)
    await testbed.passes(_AWAY + 2 * testbed.profile.every)
    # Of what occurred last, some may have been on its way when the API came back.
    middle = went + (datetime.now(UTC) - went) / 2
    await testbed.api.start()
    await testbed.fires(rule, more=2, within=testbed.profile.recovery, when="after the API was back")
    await testbed.until(
        lambda: any(went <= event.report.occurred_at <= middle for event in testbed.api.of(rule.uid)),
        "Nothing that occurred while the API was away was delivered",
    )
    _gap(testbed, rule)


@check("answer-lost", "sends events again when the answer was lost, with the same ids")
async def answer_lost(testbed: Testbed) -> None:
    rule = await _running(testbed)
    lost: set[object] = set()

    async def store_and_cut(request: Request) -> web.StreamResponse | None:
        if lost or not request.events:
            return None
        testbed.api.store(request.events)
        lost.update(event.id for event in request.events)
        if request.http.transport is not None:
            request.http.transport.abort()
        return web.Response()

    testbed.api.script = store_and_cut
    await testbed.until(lambda: bool(lost), "Nothing was sent")
    await testbed.until(
        lambda: all(count >= 2 for event, count in testbed.api.arrivals.items() if event in lost),
        "Events whose answer was lost were not sent again under the same ids",
        within=testbed.profile.recovery,
    )
    await testbed.fires(rule)


@check("answer-never", "gives up on a request that is never answered, and sends it again")
async def answer_never(testbed: Testbed) -> None:
    rule = await _running(testbed)
    hung: set[object] = set()
    never = asyncio.Event()

    async def hang(request: Request) -> web.StreamResponse | None:
        if hung or not request.events:
            return None
        hung.update(event.id for event in request.events)
        await never.wait()
        return None

    testbed.api.script = hang
    await testbed.until(lambda: bool(hung), "Nothing was sent")
    await testbed.until(
        lambda: hung <= {event.report.id for event in testbed.api.stored},
        "A request that was never answered was not given up and sent again",
        within=testbed.profile.recovery + 10,
    )
    never.set()
    await testbed.fires(rule)


@check("event-refused", "does not send a refused event again and again, and goes on with the others")
async def event_refused(testbed: Testbed) -> None:
    bad = await testbed.put(testbed.new_rule())
    good = await testbed.put(testbed.new_rule())
    testbed.api.refuse = lambda event: "as the check wants it" if event.rule_uid == bad.uid else None
    await testbed.start()
    await testbed.fires(good, more=2, when="while events of another rule were refused")
    await testbed.until(lambda: len(testbed.api.refused) >= 1, "No event of the second rule arrived")
    await testbed.passes(3.0)
    await testbed.fires(good, more=3, when="after events of another rule were refused")
    event, times = testbed.api.refused.most_common(1)[0]
    # A connection that was cut while the answer was on its way may make it two.
    if times > 2:
        raise CheckFailedError(f"The refused event {event} was sent {times} times; sending it unchanged cannot help.")


@check("refused-told", "acks Failing while all events of a rule are refused, and then Active again", level=Level.SHOULD)
async def refused_told(testbed: Testbed) -> None:
    rule = await testbed.put(testbed.new_rule())
    testbed.api.refuse = lambda event: "as the check wants it"
    await testbed.start()

    told = await testbed.acked(rule, AckState.FAILING, within=testbed.profile.recovery + 10)
    if not told.message:
        raise CheckFailedError("The rule was acked Failing without a message: its author does not get to know why.")
    testbed.api.refuse = lambda event: None
    await testbed.acked(rule, AckState.ACTIVE, within=testbed.profile.recovery + 10)


@check("request-refused", "does not get stuck on a request that is refused as a whole")
async def request_refused(testbed: Testbed) -> None:
    poison = await testbed.put(testbed.new_rule())
    good = await testbed.put(testbed.new_rule())

    async def refuse(request: Request) -> web.StreamResponse | None:
        if any(event.rule_uid == poison.uid for event in request.events):
            return await always(422)(request)
        return None

    testbed.api.script = refuse
    await testbed.start()
    await testbed.fires(good, more=3, when="while requests with events of another rule are refused with 422")


@check("kept-on-disk", "delivers after a crash what it could not deliver before", level=Level.SHOULD)
async def kept_on_disk(testbed: Testbed) -> None:
    """A sensor that keeps nothing on its disk loses what waits when it is killed while the API is away."""
    rule = await _running(testbed)
    testbed.api.script = always(503)
    await testbed.passes(_AWAY)
    await testbed.sensor.kill()
    testbed.api.script = None
    await testbed.start()
    await testbed.all_delivered(of="before the sensor was killed")
    await testbed.fires(rule)
