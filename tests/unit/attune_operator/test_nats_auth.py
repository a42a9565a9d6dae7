"""The operator's Secrets for NATS, while something else happens."""

from typing import Any

from attune_operator.credentials.nats_auth import API_SECRET, NatsAuth
from attune_operator.resources.kinds import Kind


class Secrets:
    """Keeps Secrets in memory; ``while_reading`` is called before the API's Secret is returned."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.while_reading: Any = lambda: None

    async def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        if name == API_SECRET:
            self.while_reading()
        return self.objects.get(name)

    async def create(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
        self.objects[body["metadata"]["name"]] = body
        return body

    replace = create


async def test_a_revocation_that_comes_while_the_secrets_are_checked_is_not_lost() -> None:
    secrets: Any = Secrets()
    auth = NatsAuth(secrets, namespace="attune-system")
    try:
        await auth.ensure()
        secrets.while_reading = lambda: auth.revoke("uid-1", 1_800_000_000)
        await auth.ensure()
        secrets.while_reading = lambda: None
        assert list(auth._revoked) == ["uid-1"]
        await auth.ensure()
        assert list(auth._revoked) == ["uid-1"]
    finally:
        auth.close()
