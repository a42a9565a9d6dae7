"""What a rule wants to poll. Pure."""

from hashlib import blake2b
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from attune_http.config import Config, wrong_header
from attune_http.targets import TargetError, target_of
from attune_kit.servers import DEFAULT_SERVER
from attune_sensor import InvalidRuleError, Rule, read_duration, read_parameters

_Text = Annotated[str, Meta(max_length=2048)]
_Pointer = Annotated[str, Meta(max_length=512, pattern=r"^(/([^/~]|~[01])*)*\Z")]
_LONGEST: Final = 24 * 3600.0
#: Seconds that a whole request may take: opening a source may take 15.
_SLOWEST: Final = 10.0
#: Headers with which a rule would carry a secret of its own.
_SECRET: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


class Parameters(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A rule's parameters (packs/http/core.http.yaml describes them)."""

    server: str = DEFAULT_SERVER
    path: Annotated[str, Meta(max_length=2048, pattern=r"^[^\s?#]*\Z")] = ""
    url: _Text | None = None
    query: Annotated[dict[_Text, _Text | int | list[_Text | int]], Meta(max_length=50)] = {}
    headers: Annotated[dict[str, _Text], Meta(max_length=50)] = {}
    interval: str = "1m"
    timeout: str = "10s"
    mode: Literal["changed", "items", "feed"] = "changed"
    pointer: _Pointer = ""
    id: _Pointer | None = None
    updates: bool = False
    listed: Literal["newestFirst", "oldestFirst"] = "newestFirst"
    first: Literal["skip", "report"] = "skip"


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule wants. Each rule polls for itself, since each remembers for itself what it has seen.

    Attributes:
        rule: the rule's uid.
        server: the server in the configuration; None: the address is the rule's.
        url: the whole address.
        place: of the address, what stays the same when its server moves.
        headers: names and values.
        interval: seconds between two requests.
        timeout: seconds for each.
        mode, pointer, id, updates, listed, first: as the rule says.
    """

    rule: str
    server: str | None
    url: str
    place: str
    headers: tuple[tuple[str, str], ...]
    interval: float
    timeout: float
    mode: str
    pointer: str
    id: str
    updates: bool
    listed: str
    first: str

    @property
    def fingerprint(self) -> bytes:
        """Of what decides what is found. What is remembered under another one is of no use."""
        what = (self.place, self.mode, self.pointer, self.id, self.updates)
        return blake2b(msgspec.msgpack.encode(what), digest_size=12).digest()


def subscription_of(rule: Rule, config: Config) -> Subscription:
    """What the rule wants to poll.

    Args:
        rule: the rule.
        config: what the Sensor allows.

    Raises:
        InvalidRuleError: its parameters cannot be used.
    """
    given = read_parameters(rule.parameters, Parameters)
    if given.mode == "items" and given.id is None:
        raise InvalidRuleError("parameters.id: say where an item has its id, like /id")
    if given.mode != "items" and given.id is not None:
        raise InvalidRuleError("parameters.id is only for mode: items")
    if given.mode == "feed" and given.pointer:
        raise InvalidRuleError("parameters.pointer is not for mode: feed")
    if given.url is not None and (given.path or "server" in rule.parameters):
        raise InvalidRuleError("parameters.url stands for itself: leave server and path out")
    for name, value in given.headers.items():
        if name.lower() in _SECRET:
            raise InvalidRuleError(
                f"parameters.headers: {name} is for the Sensor's owner, who writes it in spec.config"
            )
        if (problem := wrong_header(name, value)) is not None:
            raise InvalidRuleError(f"parameters.headers: {problem}")
    try:
        target = target_of(config, server=given.server, path=given.path, url=given.url, query=given.query)
    except TargetError as error:
        raise InvalidRuleError(str(error)) from None
    return Subscription(
        rule=rule.uid,
        server=target.server,
        url=target.url,
        place=target.place,
        headers=tuple(sorted(given.headers.items())),
        interval=_seconds(given.interval, "interval", least=config.min_interval, most=_LONGEST),
        timeout=_seconds(given.timeout, "timeout", least=0.1, most=_SLOWEST),
        mode=given.mode,
        pointer=given.pointer,
        id=given.id or "",
        updates=given.updates,
        listed=given.listed,
        first=given.first,
    )


def _seconds(text: str, name: str, *, least: float, most: float) -> float:
    seconds = read_duration(text, name) / 1e6
    if not least <= seconds <= most:
        raise InvalidRuleError(f"parameters.{name} is {seconds:g} s; it may be from {least:g} to {most:g} s here")
    return seconds
