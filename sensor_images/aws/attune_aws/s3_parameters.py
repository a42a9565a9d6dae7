"""What a rule wants to know of a bucket. Pure."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from attune_aws.config import Server
from attune_kit.servers import DEFAULT_SERVER
from attune_sensor import InvalidRuleError, Rule, read_duration, read_server_parameters

TYPE: Final = "core.s3objects"
_SECOND: Final = 1_000_000
_SHORTEST: Final = 1 * _SECOND
_LONGEST: Final = 24 * 3600 * _SECOND


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule's parameters (packs/aws/core.aws.yaml describes them)."""

    bucket: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[-._a-zA-Z0-9]+\Z")]
    prefix: Annotated[str, Meta(max_length=1024)] = ""
    server: str = DEFAULT_SERVER
    order: Literal["time", "name"] = "time"
    changes: bool = False
    every: str = "1m"
    start: Literal["new", "beginning"] = msgspec.field(default="new", name="from")


class BucketSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule wants. Rules do not share it: each has a place of its own in the bucket.

    Attributes:
        rule: the rule's uid.
        server: a name in the Sensor's configuration.
        bucket, prefix: what is listed.
        order: ``time``, or ``name`` where names grow.
        changes: whether an object that is written again is an event again.
        every: seconds between two listings.
        start: what is new at first: ``new`` or ``beginning``.
    """

    rule: str
    server: str
    bucket: str
    prefix: str
    order: str
    changes: bool
    every: float
    start: str

    @property
    def fingerprint(self) -> bytes:
        """What the place in the bucket belongs to: with others of these, the rule begins again."""
        parts = (self.server, self.bucket, self.prefix, self.order, str(self.changes), self.start)
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


def subscription_of(rule: Rule, *, servers: Mapping[str, Server]) -> BucketSubscription:
    """What the rule wants to know.

    Args:
        rule: the rule.
        servers: the servers that the Sensor knows.

    Raises:
        InvalidRuleError: its parameters cannot be used.
    """
    parameters = read_server_parameters(rule, Parameters, servers)
    if parameters.changes and parameters.order == "name":
        raise InvalidRuleError(
            "parameters.changes: with order: name only what comes behind the last name is listed, so a change is never seen; "
            "use order: time"
        )
    every = read_duration(parameters.every, "every")
    if not _SHORTEST <= every <= _LONGEST:
        raise InvalidRuleError(f"parameters.every: {parameters.every} is not between 1s and 24h")
    return BucketSubscription(
        rule=rule.uid,
        server=parameters.server,
        bucket=parameters.bucket,
        prefix=parameters.prefix,
        order=parameters.order,
        changes=parameters.changes,
        every=every / _SECOND,
        start=parameters.start,
    )
