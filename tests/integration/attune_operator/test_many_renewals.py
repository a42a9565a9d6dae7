"""Many Sensors whose tokens are due at once."""

import asyncio
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from support.eventually import until
from support.kubectl_user import KubectlUser, running, secret_text, settings_for
from support.nats_server import NatsServer

from attune_contract import claims
from attune_contract.resources import Sensor
from attune_operator.credentials.issuer import Issuer
from attune_operator.credentials.keys import load as load_keys
from attune_operator.credentials.keystore import KEYS_KEY, KEYS_SECRET
from attune_operator.resources import companions, kinds
from attune_operator.resources.kinds import Object

pytest_plugins = ["support.operator_fixtures"]
pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.nats,
    pytest.mark.last(rank=1, reason="the shared API server has much to clear up after it"),
]


@pytest.mark.timeout(1500)
async def test_500_that_are_due_at_once_are_renewed_before_any_expires(
    user: KubectlUser, nats_server: NatsServer
) -> None:
    count, left, ttl = 500, timedelta(seconds=600), timedelta(hours=1)
    async with running(settings_for(user, nats_server)):
        signing = load_keys(secret_text(await user.get(kinds.SECRET, KEYS_SECRET), KEYS_KEY))
    # Written some time ago: two thirds of their life are long over, and the rest will not last.
    past = Issuer(
        issuer=claims.DEFAULT_ISSUER,
        shortest_ttl=ttl,
        keys=lambda: signing,
        now=lambda: datetime.now(UTC) - ttl + left,
    )

    async def one(number: int) -> None:
        # Paused, for the API server has enough to do without 500 pods.
        body = await user.apply_sensor(f"s{number}", paused=True, token={"ttl": "1h"})
        sensor = Sensor.from_object(body)
        issued = past.issue(past.assess(sensor, None))
        await user.client.apply(kinds.SECRET, companions.secret(sensor, issued.files, not_before=None))

    for begin in range(0, count, 20):
        await asyncio.gather(*(one(number) for number in range(begin, begin + 20)))

    async def expiries() -> list[float]:
        secrets: list[Object] = await user.client.list_objects(
            kinds.SECRET, user.namespace, labels="app.kubernetes.io/name=attune-sensor"
        )
        texts = [secret_text(body, "token") for body in secrets]
        return [float(jwt.decode(text, options={"verify_signature": False})["exp"]) for text in texts]

    old = await expiries()
    assert len(old) == count
    began = datetime.now(UTC).timestamp()
    assert max(old) < began + left.total_seconds()
    async with running(settings_for(user, nats_server, sweep_interval="60s")):

        async def all_renewed() -> bool:
            ends = await expiries()
            assert min(ends) > datetime.now(UTC).timestamp(), "one expired"
            return min(ends) > max(old)

        await until(all_renewed, within=left.total_seconds(), every=0.5)
