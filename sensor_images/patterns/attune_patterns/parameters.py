"""From a rule's parameters to what decides about it. Pure. An error is a sentence for the rule's author."""

import hashlib
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from attune_kit.cel.evaluator import Program
from attune_patterns.calendar import DAYS, Daily, UnknownZoneError
from attune_patterns.decide import Pattern
from attune_patterns.operators import MOST_MARKS, Absent, AbsentAt, All, Count, Debounce, InOrder, Operator, Throttle
from attune_sensor import InvalidRuleError, Rule, read_duration, read_parameters

#: The trigger types.
ABSENT: Final = "core.absent"
ALL: Final = "core.all"
COUNT: Final = "core.count"
DEBOUNCE: Final = "core.debounce"
SEQUENCE: Final = "core.sequence"
THROTTLE: Final = "core.throttle"
#: Keys of a rule, unless it says fewer, and events of all of them together that it may remember.
MOST_KEYS: Final = 10_000
_MOST_REMEMBERED: Final = 50_000
_SHORTEST: Final = 1_000_000
_LONGEST: Final = 31 * 24 * 3_600_000_000
#: The longest key, in characters.
LONGEST_KEY: Final = 256
#: What expressions may read.
VARIABLES: Final = ("event",)

_Name = Annotated[
    str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z", max_length=253)
]
_Names = Annotated[list[_Name], Meta(min_length=1, max_length=20)]
_Expression = Annotated[str, Meta(min_length=1, max_length=4096)]
_Keys = Annotated[list[Annotated[str, Meta(min_length=1, max_length=LONGEST_KEY)]], Meta(max_length=1000)]


class _Common(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    """Parameters of all types (packs/patterns/core.patterns.yaml describes them)."""

    rules: _Names
    when: _Expression | None = None
    key: _Expression | None = None
    max_keys: Annotated[int, Meta(ge=1, le=MOST_KEYS)] | None = None


class _Within(_Common, frozen=True, kw_only=True):
    within: str


class _Count(_Within, frozen=True, kw_only=True):
    count: Annotated[int, Meta(ge=2, le=1000)]


class _Absent(_Within, frozen=True, kw_only=True):
    keys: _Keys = []
    at: str | None = None
    timezone: str | None = None
    days: Annotated[list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], Meta(min_length=1)] | None = None
    returns: bool = False


class _Debounce(_Common, frozen=True, kw_only=True):
    quiet: str


class _Throttle(_Common, frozen=True, kw_only=True):
    every: str


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule listens to, and what decides about it.

    Attributes:
        names: the rules whose events it is about; a mark's ``member`` is a place here.
        when: which of their events count; None: all.
        key: which of them belong together; None: all.
        pattern: what decides.
        fingerprint: of all of this: a rule with another one begins again.
        awaits: whether it is about what does not come.
        scheduled: whether its times are of the calendar.
    """

    names: tuple[str, ...]
    when: str | None
    key: str | None
    pattern: Pattern
    fingerprint: str
    awaits: bool
    scheduled: bool

    @property
    def program(self) -> Program:
        """The expressions: the condition first, where there is one, then the key."""
        condition = () if self.when is None else ((self.when, True),)
        key = () if self.key is None else ((self.key, False),)
        return Program(VARIABLES, (*condition, *key))

    def where(self, number: int) -> str:
        """Which parameter an expression of the program is."""
        return "parameters.when" if number == 0 and self.when is not None else "parameters.key"


def listening_of(rule: Rule) -> Listening:
    """What a rule listens to.

    Raises:
        InvalidRuleError: its parameters cannot be used.
    """
    kind = rule.trigger_type
    if kind not in _TYPES:
        raise InvalidRuleError(f"the trigger type is {kind}; expected one of: {', '.join(sorted(_TYPES))}")
    given = read_parameters(rule.parameters, _TYPES[kind])
    if rule.state.name in given.rules:
        raise InvalidRuleError(
            f"parameters.rules names this rule itself, {rule.state.name}: its events would make further ones"
        )
    unique = tuple(dict.fromkeys(given.rules))
    if kind != SEQUENCE and len(unique) != len(given.rules):
        raise InvalidRuleError("parameters.rules names a rule twice")
    operator, remembered = _operator(kind, given, unique)
    expected = frozenset(getattr(given, "keys", ()))
    keyed = given.key is not None
    if expected and not keyed:
        raise InvalidRuleError(
            "parameters.keys says which keys are expected, and parameters.key is missing: what is an event's key?"
        )
    if kind == ABSENT and not keyed:
        expected = frozenset({""})
    most = MOST_KEYS if given.max_keys is None else given.max_keys
    if most * remembered > _MOST_REMEMBERED:
        if given.max_keys is not None:
            raise InvalidRuleError(
                f"parameters.maxKeys is {most}, and {remembered} events may be remembered for each; together at most "
                f"{_MOST_REMEMBERED}, so write at most {_MOST_REMEMBERED // remembered}"
            )
        most = _MOST_REMEMBERED // remembered
    if len(expected) > most:
        raise InvalidRuleError(f"parameters.keys has {len(expected)} keys, and parameters.maxKeys is {most}")
    return Listening(
        names=unique,
        when=given.when,
        key=given.key,
        pattern=Pattern(operator=operator, most_keys=most if keyed else 1, expected=expected),
        fingerprint=_fingerprint(kind, given),
        awaits=kind == ABSENT,
        scheduled=isinstance(operator, AbsentAt),
    )


def _operator(kind: str, given: Any, names: tuple[str, ...]) -> tuple[Operator, int]:
    """What decides, and how many events of a key it remembers.

    Raises:
        InvalidRuleError: the parameters cannot be used.
    """
    match kind:
        case "core.count":
            return Count(count=given.count, window=_duration("within", given.within)), given.count
        case "core.all":
            if len(names) < 2:
                raise InvalidRuleError("parameters.rules has one rule; core.all is about several")
            return All(members=len(names), window=_duration("within", given.within)), len(names)
        case "core.sequence":
            if len(given.rules) < 2:
                raise InvalidRuleError("parameters.rules has one rule; core.sequence is about several")
            steps = [names.index(name) for name in given.rules]
            return InOrder(steps=steps, window=_duration("within", given.within)), MOST_MARKS
        case "core.debounce":
            return Debounce(quiet=_duration("quiet", given.quiet)), 2
        case "core.throttle":
            return Throttle(every=_duration("every", given.every)), 1
    return _absent(given), 2


def _absent(given: _Absent) -> Operator:
    within = _duration("within", given.within)
    if given.at is None:
        if given.timezone is not None or given.days is not None:
            raise InvalidRuleError("parameters.timezone and parameters.days belong to parameters.at, which is missing")
        return Absent(within=within, tells_return=given.returns)
    try:
        daily = Daily.parse(given.at, zone=given.timezone or "UTC", days=given.days or DAYS)
    except UnknownZoneError as error:
        raise InvalidRuleError(f"parameters.timezone: {error}") from None
    except ValueError as error:
        raise InvalidRuleError(f"parameters.at: {error}") from None
    return AbsentAt(within=within, next_time=daily.next, tells_return=given.returns)


def _duration(name: str, text: str) -> int:
    found = read_duration(text, name)
    if not _SHORTEST <= found <= _LONGEST:
        raise InvalidRuleError(f"parameters.{name} is {text}; expected from 1s to 744h (31 days)")
    return found


def _fingerprint(kind: str, given: _Common) -> str:
    return hashlib.sha256(kind.encode() + b"\n" + msgspec.json.encode(given, order="sorted")).hexdigest()[:32]


_TYPES: Final[dict[str, type[_Common]]] = {
    ABSENT: _Absent,
    ALL: _Within,
    COUNT: _Count,
    DEBOUNCE: _Debounce,
    SEQUENCE: _Within,
    THROTTLE: _Throttle,
}
