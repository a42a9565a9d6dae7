"""Delays that spread timers which are due at the same instant, the same for an occurrence wherever it is computed."""

from hashlib import blake2b


def delay(*, key: str, at: int, most: int) -> int:
    """How long after its scheduled instant an occurrence fires, from 0 to ``most``.

    It is derived from the rule and the instant, so that replicas agree and a restart changes nothing. It moves the firing only:
    the event's id and ``occurred_at`` are the scheduled ones.

    Args:
        key: the rule's uid.
        at: the scheduled instant, in microseconds since 1970.
        most: the longest delay, in microseconds.
    """
    if most == 0:
        return 0
    digest = blake2b(f"{key}/{at}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % (most + 1)
