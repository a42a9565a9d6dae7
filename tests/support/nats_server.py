"""The real NATS server that tests start, kill and wipe: the conformance kit's."""

from attune_conformance.nats_server import NatsServer

__all__ = ["NatsServer"]
