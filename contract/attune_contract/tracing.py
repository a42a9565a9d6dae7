"""The context of a trace as it travels with an event (W3C Trace Context, https://www.w3.org/TR/trace-context/). Pure."""

import re
from typing import Final, NamedTuple

#: The header of HTTP and NATS, and the attribute of CloudEvents (extension "Distributed Tracing"), that names trace and span.
TRACEPARENT: Final = "traceparent"
#: The one with what tracing systems add to it.
TRACESTATE: Final = "tracestate"

#: Version 00 (section 3.2.2), and what of a higher version is read as such (section 4.3): lower case only.
_TRACEPARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
#: Flags that are passed on: sampled (level 1) and random trace id (level 2). Others have no meaning yet.
_FLAGS: Final = 0x03
_SAMPLED: Final = 0x01
#: Longer than any that is read; one of a higher version may have more fields.
_LONGEST: Final = 512

#: A member of tracestate (section 3.3.1.3): the key, with or without a tenant, and the value.
_MEMBER: Final = re.compile(
    r"(?:[a-z0-9][-_*/a-z0-9]{0,255}|[a-z0-9][-_*/a-z0-9]{0,240}@[a-z][-_*/a-z0-9]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
#: What of tracestate is kept: members, and characters (section 3.3.1.5).
MOST_MEMBERS: Final = 32
MOST_STATE: Final = 512
#: Members that are longer leave first.
_LONG_MEMBER: Final = 128


class Trace(NamedTuple):
    """The trace that something belongs to, as headers. Without one both texts are empty.

    Attributes:
        traceparent: trace id, span id and flags, like ``00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01``.
        tracestate: what tracing systems add to it.
    """

    traceparent: str = ""
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """The id of the trace: 32 hexadecimal digits; empty without one."""
        return trace_id_of(self.traceparent)


NO_TRACE: Final = Trace()


def trace_id_of(traceparent: str) -> str:
    """The trace id of a header that :func:`read_trace` has read; empty when there is none."""
    return traceparent[3:35]


def read_trace(traceparent: str, tracestate: str = "") -> Trace:
    """A trace from what somebody sent. What is not valid is as if it were not there: nothing is refused for it.

    Args:
        traceparent: the header's value. Of a header that was there twice, both joined by a comma: no valid one.
        tracestate: the header's value; several headers joined by commas.
    """
    value = traceparent.strip(" \t")
    if not value or len(value) > _LONGEST:
        return NO_TRACE
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return NO_TRACE
    version, trace, span, flags, more = found.groups()
    if trace == _NO_TRACE or span == _NO_SPAN or (version == "00" and more):
        return NO_TRACE
    return Trace(f"00-{trace}-{span}-{int(flags, 16) & _FLAGS:02x}", read_state(tracestate) if tracestate else "")


def read_state(tracestate: str) -> str:
    """The members of ``tracestate`` as they are passed on: at most 32, and at most 512 characters. Empty when one is malformed,
    or two have the same key (section 3.3.1.4).
    """
    if len(tracestate) > 16 * MOST_STATE:
        return ""
    members = [member for each in tracestate.split(",") if (member := each.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    if len(members) > MOST_MEMBERS or len(keys) < len(members) or not all(map(_MEMBER.fullmatch, members)):
        return ""
    if _length(members) > MOST_STATE:
        members = [member for member in members if len(member) <= _LONG_MEMBER]
    while _length(members) > MOST_STATE:
        members.pop()
    return ",".join(members)


def _length(members: list[str]) -> int:
    return sum(map(len, members)) + max(0, len(members) - 1)


def is_sampled(traceparent: str) -> bool:
    """Whether the one who began the trace records it."""
    return bool(traceparent) and bool(int(traceparent[-2:], 16) & _SAMPLED)
