"""Keeps the accounts that the NATS server knows equal to what they should be: how revocations take effect at once.

A server takes an account's new JWT from a user of the system account and closes the connections of users that it revokes
(``$SYS.REQ.CLAIMS.UPDATE``; NATS documentation, "Resolver"). Level-triggered: what the server has is read at each connection,
after each change and periodically, and what differs is published.

A server has an account twice: the JWT that it keeps in its directory, and the one that it goes by. They can differ: the
first login to an account reads the kept JWT, and when another is published in that moment, it goes by the older one until
the next change. So both are read, of each server of a cluster, and read again shortly after something was published.
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
from attune_operator.credentials.nats_servers import answers

_log = structlog.stdlib.get_logger(__name__)

_RETRY: Final = Backoff(initial=0.1, maximum=5.0)
#: Seconds after which the server's accounts are read again.
_INTERVAL: Final = 60.0
#: Seconds after which they are read again when something was published. A JWT of the same second is the same JWT.
_SETTLED: Final = 1.0
#: Seconds in which all servers of a cluster say what they go by.
_ANSWERS: Final = 0.2
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
                        published = await self._publish(connection)
                        retries.reset()
                        await self._until_due(connection, _SETTLED if published else _INTERVAL)
                    _log.warning("nats_accounts_not_published", error=connection.reason)
            except (NatsUnavailableError, AccountsRefusedError) as error:
                _log.warning("nats_accounts_not_published", error=str(error))
            except (nats.errors.Error, TimeoutError, OSError) as error:
                _log.warning("nats_accounts_not_published", error=describe(error))
            await asyncio.sleep(retries.next_delay())

    async def _until_due(self, connection: NatsConnection, within: float) -> None:
        waits = [asyncio.create_task(wait) for wait in (self._auth.accounts_changed.wait(), connection.wait_closed())]
        try:
            await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def _publish(self, connection: NatsConnection) -> bool:
        """Publish what the servers do not have; says whether there was any."""
        self._auth.accounts_changed.clear()
        wanted = self._auth.accounts()
        # What is not kept is published first: a revocation does not wait for what servers say that they go by.
        missing = [account for account, token in wanted.items() if not await _kept(connection, account, token)]
        for account in missing:
            await _update(connection, account, wanted[account])
        present = [(account, token) for account, token in wanted.items() if account not in missing]
        effective = await asyncio.gather(*(_in_effect(connection, account, token) for account, token in present))
        ignored = [account for (account, _), in_effect in zip(present, effective, strict=True) if not in_effect]
        for account in ignored:
            _log.warning("nats_account_not_in_effect", account=account)
            await _update(connection, account, wanted[account])
        return bool(missing or ignored)


async def _kept(connection: NatsConnection, account: str, wanted: str) -> bool:
    """Whether the server keeps what it should."""
    subject = f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP"
    present = await connection.client.request(subject, b"", timeout=_TIMEOUT)
    return _says(present.data.decode(), wanted)


async def _in_effect(connection: NatsConnection, account: str, wanted: str) -> bool:
    """Whether no server goes by something else. One that has not loaded the account yet will read what is kept."""
    told = await answers(connection, f"$SYS.REQ.ACCOUNT.{account}.INFO", within=_ANSWERS)
    return all(_says(token, wanted) for token in map(_loaded, told) if token)


def _loaded(answer: bytes) -> str:
    """The JWT that a server says it goes by; empty where it says an error."""
    try:
        return str((json.loads(answer).get("data") or {}).get("jwt") or "")
    except (ValueError, AttributeError):
        return ""


def _says(present: str, wanted: str) -> bool:
    try:
        return bool(present) and nats_jwt.same_account(present, wanted)
    except ValueError:
        return False  # it is not an account's JWT, and is replaced


async def _update(connection: NatsConnection, account: str, token: str) -> None:
    answer = json.loads(
        (await connection.client.request("$SYS.REQ.CLAIMS.UPDATE", token.encode(), timeout=_TIMEOUT)).data
    )
    if answer.get("data", {}).get("code") != _OK:
        said = answer.get("error", {}).get("description") or "no reason"
        raise AccountsRefusedError(f"The NATS server did not take the JWT of an account: {said}.")
    _log.info("nats_account_published", account=account)
