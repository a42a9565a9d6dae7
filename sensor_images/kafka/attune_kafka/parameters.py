"""What a rule wants to read. Pure."""

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from attune_kit.servers import DEFAULT_SERVER
from attune_sensor import InvalidRuleError, Rule, read_server_parameters

Start = Literal["latest", "earliest"]
_Topic = Annotated[str, Meta(pattern=r"^[-._a-zA-Z0-9]+\Z", max_length=249)]
_Group = Annotated[str, Meta(min_length=1, max_length=255)]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule's parameters (packs/kafka/core.kafka.yaml describes them)."""

    topic: _Topic
    server: str = DEFAULT_SERVER
    group: _Group | None = None
    start: Start = msgspec.field(default="latest", name="from")


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What rules share when they agree in it: one group's view of one topic."""

    server: str
    topic: str
    group: str
    start: Start


def subscription_of(rule: Rule, *, servers: Iterable[str], sensor: str) -> Subscription:
    """What the rule wants to read.

    Args:
        rule: the rule.
        servers: the servers that the Sensor knows.
        sensor: the Sensor, as namespace/name; groups of rules that name none are called after it.

    Raises:
        InvalidRuleError: its parameters cannot be used.
    """
    parameters = read_server_parameters(rule, Parameters, servers)
    if parameters.topic in (".", ".."):
        raise InvalidRuleError(f"parameters.topic: {parameters.topic!r} is no name of a topic")
    return Subscription(
        server=parameters.server,
        topic=parameters.topic,
        group=parameters.group or own_group(sensor, parameters.topic, parameters.start),
        start=parameters.start,
    )


def own_group(sensor: str, topic: str, start: Start) -> str:
    """The name of the sensor's own group: one for each topic, so that a rebalance of one does not stop the others.

    Args:
        sensor: the Sensor, as namespace/name.
        topic: the topic.
        start: where it begins.
    """
    return f"attune/{sensor}/{topic}" + ("" if start == "latest" else f"/{start}")
