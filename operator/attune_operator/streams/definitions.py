"""What the operator's streams are, and how they are made and put right (design, "The rule stream").

A stream that somebody else made, or an older version of the operator, is corrected in place. What cannot be corrected (the
kind of storage) and what the server is too old for is said clearly instead of working half.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import nats.js.errors
import structlog
from nats.js import api

from attune_contract import subjects

log = structlog.get_logger(__name__)

#: Largest message of the rule stream, in bytes: a rule's state with its parameters, and its headers.
MAX_RULE_MESSAGE: Final = 512 * 1024 + 8 * 1024
#: Largest ack, in bytes. Sensors write them, so they are bounded where they arrive.
MAX_ACK_MESSAGE: Final = 16 * 1024


class StreamUnusableError(Exception):
    """A stream is there and cannot be made what it must be. The text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamIdentity:
    """Which incarnation of a stream this is: a stream that was deleted and made again has another ``created``."""

    name: str
    created: datetime | None
    last_sequence: int
    messages: int


def last_words(
    *, name: str, subject: str, description: str, replicas: int, largest: int, **settings: Any
) -> api.StreamConfig:
    """A stream of last words: on disk, one message of each subject (unless ``settings`` say otherwise) and no other bound.

    Args:
        name: the stream's.
        subject: what it takes.
        description: for people who look at it.
        replicas: how many servers keep it.
        largest: bytes of a message.
        settings: whatever else is to be as it is not for all, by its name in :class:`nats.js.api.StreamConfig`.
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
    """``ATTUNE_RULES``: the last state of each rule, for ever; tombstones end by their own TTL."""
    return last_words(
        name=subjects.RULES_STREAM,
        subject=subjects.ALL_RULES,
        description="The state of each Rule, by the Sensor that serves it. Written by attune-operator only.",
        replicas=replicas,
        largest=MAX_RULE_MESSAGE,
        allow_rollup_hdrs=True,
        allow_msg_ttl=True,
    )


def acks_stream(*, replicas: int) -> api.StreamConfig:
    """``ATTUNE_ACKS``: each sensor's last word on each rule. The operator purges those of rules that are gone."""
    return last_words(
        name=subjects.ACKS_STREAM,
        subject=subjects.ALL_ACKS,
        description="What each Sensor last said of each Rule. Written by the sensors.",
        replicas=replicas,
        largest=MAX_ACK_MESSAGE,
        discard=api.DiscardPolicy.OLD,
    )


def history_stream(*, replicas: int, per_rule: int, max_age: float) -> api.StreamConfig:
    """``ATTUNE_RULE_HISTORY``: the last ``per_rule`` lifecycle events of each rule, for ``max_age`` seconds."""
    return last_words(
        name=subjects.HISTORY_STREAM,
        subject=subjects.ALL_HISTORY,
        description="The lifecycle events of each Rule, for people to read. Written by attune-operator only.",
        replicas=replicas,
        largest=MAX_RULE_MESSAGE,
        discard=api.DiscardPolicy.OLD,
        max_msgs_per_subject=per_rule,
        max_age=max_age,
    )


#: Settings that are compared with the server's and put right.
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
)


def _plain(value: Any) -> Any:
    """Enums as their values, and "not set" as the server writes it, so that both sides compare."""
    if value is None or value is False:
        return None
    return getattr(value, "value", value)


def differing(*, wanted: api.StreamConfig, present: api.StreamConfig) -> dict[str, tuple[Any, Any]]:
    """Managed settings that differ: name → (present, wanted)."""
    pairs = {name: (_plain(getattr(present, name)), _plain(getattr(wanted, name))) for name in _MANAGED}
    return {name: (now, then) for name, (now, then) in pairs.items() if now != then}


async def ensure_stream(jetstream: Any, wanted: api.StreamConfig) -> StreamIdentity:
    """Make the stream, or put its settings right, and say which incarnation it is.

    Raises:
        StreamUnusableError: its settings cannot be what they must be.
        nats.errors.Error: the server did not answer or refused.
    """
    try:
        info = await jetstream.stream_info(wanted.name)
    except nats.js.errors.NotFoundError:
        info = await jetstream.add_stream(wanted)
        log.info("stream_created", stream=wanted.name, replicas=wanted.num_replicas)
    difference = differing(wanted=wanted, present=info.config)
    if difference:
        if "storage" in difference or "retention" in difference:
            raise StreamUnusableError(
                f"The stream {wanted.name} has {_listed(difference)}, which cannot be changed in place; delete the "
                f"stream (`nats stream rm {wanted.name}`) and it is made anew from the Rules."
            )
        log.warning("stream_corrected", stream=wanted.name, difference=_listed(difference))
        try:
            info = await jetstream.update_stream(
                info.config.evolve(**{name: getattr(wanted, name) for name in difference})
            )
        except nats.js.errors.APIError as error:
            raise StreamUnusableError(
                f"The stream {wanted.name} has {_listed(difference)}, and the NATS server refuses to change it: "
                f"{error.description}."
            ) from error
        if remaining := differing(wanted=wanted, present=info.config):
            raise StreamUnusableError(
                f"The NATS server does not take these settings of the stream {wanted.name}: {_listed(remaining)}. "
                "nats-server 2.11 or newer is needed."
            )
    return identity(info)


def identity(info: api.StreamInfo) -> StreamIdentity:
    """Which incarnation of the stream the server's answer is about."""
    return StreamIdentity(
        name=info.config.name or "",
        created=info.created,
        last_sequence=info.state.last_seq,
        messages=info.state.messages,
    )


def _listed(difference: dict[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{name}={now!r} instead of {then!r}" for name, (now, then) in difference.items())
