"""The operator's streams, and how they are created and corrected (docs/architecture.md, "A Rule's way").

A stream that somebody else, or an older version of the operator, created is corrected in place. If it cannot be corrected
(its storage), or the server is too old, that is an error instead of half a service.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import nats.js.errors
import structlog
from nats.js import api

from attune_contract import subjects
from attune_contract.actions import ACTIONS_STREAM, ALL_ACTIONS

_log = structlog.get_logger(__name__)

#: Largest message of the rule stream, in bytes: a rule's state with its parameters, and its headers.
MAX_RULE_MESSAGE: Final = 512 * 1024 + 8 * 1024
#: Largest message about actions, in bytes: those of a Rule, with defaults filled in, and its headers.
MAX_ACTIONS_MESSAGE: Final = 768 * 1024
#: Seconds after which the server drops a consumer of the rule stream that nobody asks for messages.
CONSUMER_INACTIVITY: Final = 60.0
#: Most acks that are kept, and their bytes: sensors write them.
MAX_ACKS: Final = 1_000_000
MAX_ACK_BYTES: Final = 256 * 1024 * 1024
#: Largest ack, in bytes. Sensors write them, so they are bounded where they arrive.
MAX_ACK_MESSAGE: Final = 16 * 1024
#: Seconds for which the server remembers the ids of messages (``Nats-Msg-Id``), in memory and without a bound: the shortest
#: there is. Acks have no ids; with two minutes, the default, a sensor that sends some could fill the server's memory.
ACK_IDS: Final = 0.1


class StreamUnusableError(Exception):
    """A stream exists and cannot be corrected. The text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamIdentity:
    """Which incarnation of a stream this is: one that was deleted and created again has another ``created``."""

    name: str
    created: datetime | None
    last_sequence: int
    messages: int


def last_per_subject_stream(
    *, name: str, subject: str, description: str, replicas: int, largest: int, **settings: Any
) -> api.StreamConfig:
    """A stream on disk with the last message of each subject (unless ``settings`` say otherwise) and no other bound.

    Args:
        name: of the stream.
        subject: which subjects it stores.
        description: for people.
        replicas: how many servers store it.
        largest: largest message, in bytes.
        settings: other settings, by their names in :class:`nats.js.api.StreamConfig`.
    """
    common: dict[str, Any] = {
        "retention": api.RetentionPolicy.LIMITS,
        "storage": api.StorageType.FILE,
        "discard": api.DiscardPolicy.NEW,
        "max_msgs_per_subject": 1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "allow_direct": True,
    }
    return api.StreamConfig(
        name=name,
        description=description,
        subjects=[subject],
        max_msg_size=largest,
        num_replicas=replicas,
        **(common | settings),
    )


def rules_stream(*, replicas: int) -> api.StreamConfig:
    """``ATTUNE_RULES``: the last state of each rule, without an age limit; tombstones end by their own TTL."""
    return last_per_subject_stream(
        name=subjects.RULES_STREAM,
        subject=subjects.ALL_RULES,
        description="The state of each Rule, by the Sensor that serves it. Written by attune-operator only.",
        replicas=replicas,
        largest=MAX_RULE_MESSAGE,
        allow_rollup_hdrs=True,
        allow_msg_ttl=True,
        # For durable consumers too: nothing that a sensor leaves behind stays for longer.
        consumer_limits=api.StreamConsumerLimits(inactive_threshold=CONSUMER_INACTIVITY),
    )


def actions_stream(*, replicas: int) -> api.StreamConfig:
    """``ATTUNE_ACTIONS``: what is to be done for each Rule's events; tombstones end by their own TTL."""
    return last_per_subject_stream(
        name=ACTIONS_STREAM,
        subject=ALL_ACTIONS,
        description="The actions of each Rule, for attune-actions. Written by attune-operator only.",
        replicas=replicas,
        largest=MAX_ACTIONS_MESSAGE,
        allow_rollup_hdrs=True,
        allow_msg_ttl=True,
    )


def acks_stream(*, replicas: int) -> api.StreamConfig:
    """``ATTUNE_ACKS``: each sensor's latest ack of each rule. The operator purges acks of deleted rules."""
    return last_per_subject_stream(
        name=subjects.ACKS_STREAM,
        subject=subjects.ALL_ACKS,
        description="The latest ack of each rule, and health reports. Written by the sensors.",
        replicas=replicas,
        largest=MAX_ACK_MESSAGE,
        discard=api.DiscardPolicy.OLD,
        max_msgs=MAX_ACKS,
        max_bytes=MAX_ACK_BYTES,
        duplicate_window=ACK_IDS,
    )


def history_stream(*, replicas: int, per_rule: int, max_age: float) -> api.StreamConfig:
    """``ATTUNE_RULE_HISTORY``: the last ``per_rule`` lifecycle events of each rule, for ``max_age`` seconds."""
    return last_per_subject_stream(
        name=subjects.HISTORY_STREAM,
        subject=subjects.ALL_HISTORY,
        description="The lifecycle events of each Rule, for people to read. Written by attune-operator only.",
        replicas=replicas,
        largest=MAX_RULE_MESSAGE,
        discard=api.DiscardPolicy.OLD,
        max_msgs_per_subject=per_rule,
        max_age=max_age,
    )


#: Settings that are compared with the server's and corrected.
_MANAGED: Final = (
    "description",
    "subjects",
    "retention",
    "storage",
    "discard",
    "max_msgs_per_subject",
    "max_msgs",
    "max_bytes",
    "max_age",
    "max_msg_size",
    "num_replicas",
    "allow_rollup_hdrs",
    "allow_msg_ttl",
    "allow_direct",
    "consumer_limits",
    "duplicate_window",
)


def _plain(value: Any) -> Any:
    """Turn enums into values, and "not set" into what the server writes, so that both sides can be compared."""
    if value is None or value is False:
        return None
    if isinstance(value, api.StreamConsumerLimits):
        return value.inactive_threshold or None
    return getattr(value, "value", value)


def differing(*, desired: api.StreamConfig, present: api.StreamConfig) -> dict[str, tuple[Any, Any]]:
    """Return the managed settings that differ: name → (present, desired). More replicas than desired are no difference."""
    pairs = {name: (_plain(getattr(present, name)), _plain(getattr(desired, name))) for name in _MANAGED}
    if not desired.duplicate_window:
        del pairs["duplicate_window"]  # the server's own
    return {
        name: (now, then)
        for name, (now, then) in pairs.items()
        if now != then and not (name == "num_replicas" and (now or 1) > then)
    }


async def ensure_stream(jetstream: Any, desired: api.StreamConfig) -> StreamIdentity:
    """Create the stream, or correct its settings, and return which incarnation it is.

    Raises:
        StreamUnusableError: its settings cannot be corrected.
        nats.errors.Error: the server did not answer or refused.
    """
    try:
        info = await jetstream.stream_info(desired.name)
    except nats.js.errors.NotFoundError:
        info = await jetstream.add_stream(desired)
        _log.info("stream_created", stream=desired.name, replicas=desired.num_replicas)
    difference = differing(desired=desired, present=info.config)
    if difference:
        if "storage" in difference or "retention" in difference:
            raise StreamUnusableError(
                f"The stream {desired.name} has {_listed(difference)}, which cannot be changed in place; delete the "
                f"stream (`nats stream rm {desired.name}`) and it is created again from the Rules."
            )
        _log.warning("stream_corrected", stream=desired.name, difference=_listed(difference))
        try:
            info = await jetstream.update_stream(
                info.config.evolve(**{name: getattr(desired, name) for name in difference})
            )
        except nats.js.errors.APIError as error:
            raise StreamUnusableError(
                f"The stream {desired.name} has {_listed(difference)}, and the NATS server refuses to change it: "
                f"{error.description}."
            ) from error
        if remaining := differing(desired=desired, present=info.config):
            raise StreamUnusableError(
                f"The NATS server ignores these settings of the stream {desired.name}: {_listed(remaining)}. "
                "nats-server 2.11 or newer is required."
            )
    return identity(info)


async def delete_if_present(jetstream: Any, name: str) -> None:
    """Delete a stream that is not needed any more.

    Raises:
        nats.errors.Error: the server did not answer or refused.
    """
    try:
        await jetstream.delete_stream(name)
    except nats.js.errors.NotFoundError:
        return
    _log.info("stream_deleted", stream=name)


def identity(info: api.StreamInfo) -> StreamIdentity:
    """Return which incarnation of the stream the server's answer describes."""
    return StreamIdentity(
        name=info.config.name or "",
        created=info.created,
        last_sequence=info.state.last_seq,
        messages=info.state.messages,
    )


def _listed(difference: dict[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name}={now!r} instead of {then!r}" for name, (now, then) in difference.items())
