"""Which messages may be acknowledged. Pure."""

from collections.abc import Iterable, Sequence

from attune_sensor._confirmations import SETTLED, Confirmation
from attune_sensor._sources import Message


def is_settled(confirmations: Iterable[Confirmation]) -> bool:
    """Whether a message with these confirmations, one for each rule, needs not be delivered again."""
    return all(confirmation.disposition in SETTLED for confirmation in confirmations)


def settle(messages: Sequence[Message], settled: Sequence[bool]) -> tuple[list[Message], list[Message]]:
    """Split a batch into messages to acknowledge, and messages whose events must be reported again.

    In each partition only those are acknowledged before which all are settled: a committed position skips none.

    Args:
        messages: a batch, in order.
        settled: of each message, whether all of its events are.

    Returns:
        Those to acknowledge, and those that remain, each in order.
    """
    blocked: set[str] = set()
    done: list[Message] = []
    left: list[Message] = []
    for message, safe in zip(messages, settled, strict=True):
        if safe and message.partition not in blocked:
            done.append(message)
        else:
            blocked.add(message.partition)
            left.append(message)
    return done, left
