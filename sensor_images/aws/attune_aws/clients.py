"""Clients of AWS' services, with the credentials that a server's configuration names."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiobotocore.config import AioConfig
from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioCredentials,
    AioDeferredRefreshableCredentials,
)
from aiobotocore.session import AioSession

from attune_aws.config import Server
from attune_kit.server_secrets import ServerSecrets
from attune_sensor import SourceError

#: Seconds to connect, and to wait for a part of an answer: the longest wait for messages is 20 s.
_CONNECTS: Final = 5.0
_ANSWERS: Final = 26.0
#: How often a request is sent in all. What fails longer is the source's failure, which has a backoff of its own.
_ATTEMPTS: Final = 3
_ROLE_SESSION: Final = "attune"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a server is reached: its configuration, with the secrets that it refers to.

    Attributes:
        server: its configuration.
        access_key_id, secret_access_key, session_token: static credentials, if it has some.
        ca_file: the file with the authority of its certificate.
    """

    server: Server
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    ca_file: Path | None = None


def access_of(server: Server, secrets: ServerSecrets) -> Access:
    """Read what a server refers to.

    Raises:
        MissingSecretError: a secret is missing.
    """
    return Access(
        server=server,
        access_key_id=secrets.text(server.name, "accessKeyId", server.access_key_id),
        secret_access_key=secrets.text(server.name, "secretAccessKey", server.secret_access_key),
        session_token=secrets.text(server.name, "sessionToken", server.session_token),
        ca_file=secrets.file(server.name, "ca", server.ca),
    )


class Clients:
    """Makes clients. The descriptions of the services are read once, and those of no others."""

    def __init__(self) -> None:
        self._session: Any = AioSession()
        self._read: set[str] = set()

    async def client(self, service: str, access: Access, **settings: Any) -> AbstractAsyncContextManager[Any]:
        """A client, which connects when it is entered.

        Args:
            service: the service's name, like ``sqs``.
            access: where and as whom.
            settings: more of botocore's configuration.
        """
        await self._prepare(service)
        session, static = await self._identity(access)
        server = access.server
        made: AbstractAsyncContextManager[Any] = session.create_client(
            service,
            region_name=server.region,
            endpoint_url=server.url,
            verify=None if access.ca_file is None else str(access.ca_file),
            config=AioConfig(
                connect_timeout=_CONNECTS,
                read_timeout=_ANSWERS,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                max_pool_connections=2 * server.receivers,
                **settings,
            ),
            **static,
        )
        return made

    async def _prepare(self, service: str) -> None:
        """Read a service's description in a thread: that takes a while, and clients find it read."""
        if service in self._read:
            return
        loader = self._session.get_component("data_loader")

        def read() -> None:
            for kind in ("service-2", "endpoint-rule-set-1"):
                loader.load_service_model(service, kind)
            for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
                loader.load_data(name)

        await asyncio.to_thread(read)
        self._read.add(service)

    async def _identity(self, access: Access) -> tuple[Any, dict[str, Any]]:
        """The session that makes the client, and static credentials for it."""
        static = {
            "aws_access_key_id": access.access_key_id,
            "aws_secret_access_key": access.secret_access_key,
            "aws_session_token": access.session_token,
        }
        if access.server.role is None:
            return self._session, static
        if access.access_key_id is None:
            # The usual chain: environment, web identity (IRSA), pod identity, the node's role.
            source = await self._session.get_credentials()
            if source is None:
                raise SourceError(
                    "there are no credentials with which to take on the role: give the pod's service account a role, or write "
                    "accessKeyId and secretAccessKey"
                )
        else:
            source = AioCredentials(access.access_key_id, access.secret_access_key, access.session_token)
        await self._prepare("sts")
        session: Any = AioSession()
        session.register_component("data_loader", self._session.get_component("data_loader"))
        asked = {"RoleSessionName": _ROLE_SESSION}
        if access.server.external_id is not None:
            asked["ExternalId"] = access.server.external_id

        def creator(service: str, **given: Any) -> Any:
            return session.create_client(service, region_name=access.server.region, **given)

        fetcher = AioAssumeRoleCredentialFetcher(creator, source, access.server.role, extra_args=asked)
        session._credentials = AioDeferredRefreshableCredentials(
            refresh_using=fetcher.fetch_credentials, method="assume-role"
        )
        return session, {}
