"""What a rule wants to read. Pure."""

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from attune_kit.servers import DEFAULT_SERVER
from attune_sensor import Rule, read_server_parameters

_Name = Annotated[str, Meta(min_length=1, max_length=512)]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule's parameters (packs/redis/core.redis.yaml describes them)."""

    stream: _Name
    server: str = DEFAULT_SERVER
    group: _Name | None = None
    start: Literal["new", "beginning"] = msgspec.field(default="new", name="from")
    body: _Name | None = None


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What rules share when they agree in it: one group's view of one stream."""

    server: str
    stream: str
    group: str
    start: str


def subscription_of(rule: Rule, *, servers: Iterable[str], group: str) -> Subscription:
    """What the rule wants to read.

    Args:
        rule: the rule.
        servers: the servers that the Sensor knows.
        group: the consumer group of rules that name none.

    Raises:
        InvalidRuleError: its parameters cannot be used.
    """
    parameters = read_server_parameters(rule, Parameters, servers)
    return Subscription(
        server=parameters.server,
        stream=parameters.stream,
        group=parameters.group or group,
        start=parameters.start,
    )
