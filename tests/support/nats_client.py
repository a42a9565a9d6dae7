"""A NATS client for tests that is at rest when it is closed, also while its server is down."""

from typing import Any

from attune_kit.nats.client import NatsClient


async def connect(url: str, **options: Any) -> NatsClient:
    """As ``nats.connect``."""
    client = NatsClient()
    await client.connect(url, **options)
    return client
