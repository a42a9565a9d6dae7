"""What a rule wants to know of. Pure."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from attune_files.globs import MOST_DEEP, depth_of
from attune_kit.servers import unknown_name
from attune_sensor import InvalidRuleError, Rule, read_duration, read_parameters

_Pattern = Annotated[str, Meta(min_length=1, max_length=512)]
_Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^/]*\Z")]
#: Names of files that other programs are still writing, and hidden ones.
UNFINISHED: Final = (".*", "*.tmp", "*.temp", "*.part", "*.partial", "*.filepart", "*.crdownload", "*.swp", "*~")
_LONGEST: Final = 3600.0


class Parameters(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A rule's parameters (packs/files/core.files.yaml describes them)."""

    folder: str = "default"
    patterns: Annotated[list[_Pattern], Meta(min_length=1, max_length=20)] = msgspec.field(
        default_factory=lambda: ["*"]
    )
    ignore: Annotated[list[_Name], Meta(max_length=50)] = msgspec.field(default_factory=lambda: list(UNFINISHED))
    settle: str = "2s"
    marker: _Name | None = None
    content: Literal["none", "inline"] = "none"
    digest: bool = False
    first: Literal["skip", "report"] = "skip"


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule wants. Each rule looks for itself, since each remembers for itself what it has seen.

    Attributes:
        rule: the rule's uid.
        folder: the folder's name.
        patterns: in parts.
        ignore: names of files and folders that are passed by.
        settle: seconds for which a file must not change.
        marker: what follows a file's name in the name of a file that says that it is complete; empty: no such file.
        content, digest, first: as the rule says.
    """

    rule: str
    folder: str
    patterns: tuple[tuple[str, ...], ...]
    ignore: tuple[str, ...]
    settle: float
    marker: str
    content: str
    digest: bool
    first: str

    @property
    def depth(self) -> int | None:
        """How many folders below the first are looked into; None: all."""
        depths = [depth_of(each) for each in self.patterns]
        return None if None in depths else max(each for each in depths if each is not None)

    @property
    def fingerprint(self) -> bytes:
        """Of what decides what is found. What is remembered under another one is of no use."""
        what = (self.folder, self.patterns, self.ignore, self.marker)
        return blake2b(msgspec.msgpack.encode(what), digest_size=12).digest()


def subscription_of(rule: Rule, folders: Iterable[str]) -> Subscription:
    """What the rule wants to know of.

    Args:
        rule: the rule.
        folders: those that the Sensor knows.

    Raises:
        InvalidRuleError: its parameters cannot be used.
    """
    given = read_parameters(rule.parameters, Parameters)
    if (problem := unknown_name(given.folder, folders, what="folder")) is not None:
        raise InvalidRuleError(problem)
    return Subscription(
        rule=rule.uid,
        folder=given.folder,
        patterns=tuple(_pattern(each) for each in given.patterns),
        ignore=tuple(given.ignore),
        settle=_settle(given.settle),
        marker=given.marker or "",
        content=given.content,
        digest=given.digest,
        first=given.first,
    )


def _pattern(text: str) -> tuple[str, ...]:
    parts = tuple(text.split("/"))
    if "" in parts or "." in parts or ".." in parts:
        raise InvalidRuleError(f"parameters.patterns: {text!r} is not like *.csv or in/**/*.json")
    if parts.count("**") > MOST_DEEP:
        raise InvalidRuleError(f"parameters.patterns: {text!r} has more than {MOST_DEEP} parts '**'")
    return (*parts, "*") if parts[-1] == "**" else parts


def _settle(text: str) -> float:
    seconds = read_duration(text, "settle") / 1e6
    if seconds > _LONGEST:
        raise InvalidRuleError(f"parameters.settle is {seconds:g} s; it may be {_LONGEST:g} s at most")
    return seconds
