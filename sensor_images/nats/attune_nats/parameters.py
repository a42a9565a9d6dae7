"""What a rule wants to read. Pure."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from attune_kit.servers import DEFAULT_SERVER
from attune_sensor import Rule, read_server_parameters

#: Names of streams and consumers become tokens of subjects.
_Name = Annotated[str, Meta(pattern=r"^[^\s.*>/\\]+\Z", max_length=255)]
_Subject = Annotated[str, Meta(pattern=r"^([^\s.*>]+|\*)(\.([^\s.*>]+|\*))*(\.>)?\Z|^>\Z", max_length=1024)]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule's parameters (packs/nats/core.nats.yaml describes them)."""

    stream: _Name
    server: str = DEFAULT_SERVER
    subject: _Subject | None = None
    consumer: _Name | None = None
    start: Literal["new", "beginning"] = msgspec.field(default="new", name="from")


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What rules share when they agree in it: one consumer of one stream.

    Attributes:
        own: the consumer's name was chosen by the sensor.
    """

    server: str
    stream: str
    subject: str | None
    consumer: str
    start: str
    own: bool


def subscription_of(rule: Rule, *, servers: Iterable[str], sensor: str) -> Subscription:
    """What the rule wants to read.

    Args:
        rule: the rule.
        servers: the servers that the Sensor knows.
        sensor: the Sensor, as namespace/name; consumers of rules that name none are called after it.

    Raises:
        InvalidRuleError: its parameters cannot be used.
    """
    parameters = read_server_parameters(rule, Parameters, servers)
    return Subscription(
        server=parameters.server,
        stream=parameters.stream,
        subject=parameters.subject,
        consumer=parameters.consumer or own_consumer(sensor, parameters.subject, parameters.start),
        start=parameters.start,
        own=parameters.consumer is None,
    )


def own_consumer(sensor: str, subject: str | None, start: str) -> str:
    """The name of the sensor's own consumer: one for each subject, as its subject cannot be changed by another rule.

    Args:
        sensor: the Sensor, as namespace/name.
        subject: which messages of the stream; None: all.
        start: where it begins.
    """
    digest = sha256(f"{sensor}\n{subject or ''}\n{start}".encode()).hexdigest()[:12]
    return f"attune-{sensor.replace('/', '-').replace('.', '_')}-{digest}"
