"""NATS as the operator sets it up: its streams, and the keys and permissions of its users."""

from attune_operator.credentials.nats_auth import make_keys, sensor_permissions, server_config
from attune_operator.credentials.nats_jwt import Permissions, make_seed, public_of, user_creds
from attune_operator.streams.definitions import acks_stream, rules_stream

__all__ = [
    "Permissions",
    "acks_stream",
    "make_keys",
    "make_seed",
    "public_of",
    "rules_stream",
    "sensor_permissions",
    "server_config",
    "user_creds",
]
