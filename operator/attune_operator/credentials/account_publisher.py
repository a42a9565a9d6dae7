"""Keeps the accounts that the NATS server knows equal to what they should be: how revocations take effect at once.

A server takes an account's new JWT from a user of the system account and closes the connections of users that it revokes
(``$SYS.REQ.CLAIMS.UPDATE``; NATS documentation, "Resolver"). Level-triggered: what the server has is read at each connection,
after each change and periodically, and what differs is published.
"""

import asyncio
import json
import random
from typing import Final

import nats.errors
import structlog

from attune_kit.backoff import Backoff
from attune_kit.nats.connection import NatsConnection, NatsEndpoint, NatsUnavailableError, describe, open_connection
from attune_operator.credentials import nats_jwt
from attune_operator.credentials.nats_auth import NatsAuth

_log = structlog.stdlib.get_logger(__name__)

_RETRY: Final = Backoff(initial=0.1, maximum=5.0)
#: Seconds after which the server's accounts are read again.
_INTERVAL: Final = 60.0
_TIMEOUT: Final = 2.0
_OK: Final = 200


class AccountsRefusedError(Exception):
    """The server did not take an account's JWT."""


class AccountPublisher:
    """Publishes accounts.

    Args:
        endpoint: the NATS server, with a user of the system account.
        auth: says what the accounts should be.
    """

    def __init__(self, *, endpoint: NatsEndpoint, auth: NatsAuth) -> None:
        self._endpoint = endpoint
        self._auth = auth

    async def run(self) -> None:
        """Publish until cancelled."""
        retries = _RETRY.start(chance=random.random)
        while True:
            try:
                async with open_connection(self._endpoint) as connection:
                    while not connection.closed:
                        await self._publish(connection)
                        retries.reset()
                        await self._until_due(connection)
                    _log.warning("nats_accounts_not_published", error=connection.reason)
            except (NatsUnavailableError, AccountsRefusedError) as error:
                _log.warning("nats_accounts_not_published", error=str(error))
            except (nats.errors.Error, TimeoutError, OSError) as error:
                _log.warning("nats_accounts_not_published", error=describe(error))
            await asyncio.sleep(retries.next_delay())

    async def _until_due(self, connection: NatsConnection) -> None:
        waits = [asyncio.create_task(wait) for wait in (self._auth.accounts_changed.wait(), connection.wait_closed())]
        try:
            await asyncio.wait(waits, timeout=_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def _publish(self, connection: NatsConnection) -> None:
        self._auth.accounts_changed.clear()
        for account, wanted in self._auth.accounts().items():
            present = await connection.client.request(
                f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", b"", timeout=_TIMEOUT
            )
            try:
                if present.data and nats_jwt.same_account(present.data.decode(), wanted):
                    continue
            except ValueError:
                pass  # it is not an account's JWT, and is replaced
            answer = json.loads(
                (await connection.client.request("$SYS.REQ.CLAIMS.UPDATE", wanted.encode(), timeout=_TIMEOUT)).data
            )
            if answer.get("data", {}).get("code") != _OK:
                said = answer.get("error", {}).get("description") or "no reason"
                raise AccountsRefusedError(f"The NATS server did not take the JWT of an account: {said}.")
            _log.info("nats_account_published", account=account)
