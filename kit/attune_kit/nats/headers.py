"""Reads and writes the header block of a NATS message, quickly.

nats-py 2.16 takes 10 µs to read the headers of a rule, half of what a sensor spends on reading 100,000 rules: it looks
at each character of each name. The names here are known, so one look into a table is enough. Writing costs as much.
"""

from collections.abc import Mapping
from typing import Final

_NAMES: Final = frozenset(
    {
        "ce-changedat",
        "ce-changedby",
        "ce-id",
        "ce-reason",
        "ce-sensor",
        "ce-source",
        "ce-specversion",
        "ce-subject",
        "ce-time",
        "ce-type",
        "content-type",
        "Nats-Consumer-Stalled",
        "Nats-Expected-Last-Subject-Sequence",
        "Nats-Last-Consumer",
        "Nats-Last-Stream",
        "Nats-Marker-Reason",
        "Nats-Msg-Id",
        "Nats-Rollup",
        "Nats-TTL",
    }
)
#: What ``bytes.strip`` takes away; ``str.strip`` takes more.
_BLANKS: Final = " \t\n\r\x0b\x0c"


def read_headers(block: bytes) -> dict[str, str] | None:
    """Parse the lines of a header block.

    Args:
        block: the lines after ``NATS/1.0``, each ended by CR LF (NATS protocol, HMSG).

    Returns:
        The headers as nats-py would parse them; None when a name is not in the table, so that nats-py parses the block.
    """
    found = {}
    for line in block.decode("utf-8", "replace").split("\r\n"):  # decoding each value takes twice as long
        if line:
            name, separator, value = line.partition(":")
            if name not in _NAMES or not separator:
                return None
            found[name] = value.strip(_BLANKS)
    return found


def prepare_headers(headers: Mapping[str, str]) -> bytes:
    """The header block of a message (NATS protocol, HPUB).

    A line break in a value becomes a space, because it would begin another header.
    """
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    block = "".join(lines)
    if block.count("\n") != len(lines) or block.count("\r") != len(lines):
        block = "".join(f"{name}: {' '.join(value.split())}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{block}\r\n".encode()
