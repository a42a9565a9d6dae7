"""What a check of a document costs at most, known before it is made.

A document is a tree, and each keyword of a schema looks at one value of it. So a check costs the sum, over all values, of
the keywords that can look at that value. For a value at some depth those are known from the schema alone::

    {"allOf": [A, {"properties": {"x": B}}]}

At depth 0 the whole, A and the second of the list look at the value; at depth 1 what A and the second have for members. A
reference counts as what it refers to, each time. So references that fan out, and trees that double with every level, show as
large numbers here instead of as hours there. Where the bound by depth is too rough, a document of few values is walked
together with the schema, which is exact but for mistakes: a real check ends at the first.

Costs are in units of some 30 ns.
"""

from typing import Any, Final, NamedTuple

from attune_contract.schemas.structure import Part, read_parts, size

#: How deep a document may be nested, if the schema refers to itself.
MAX_DEPTH: Final = 32
#: Pairs of a value and a part that :meth:`Costs.walk` looks at, about 1 µs each.
_MAX_STEPS: Final = 20_000
# Beyond these a cost is as good as infinite.
_MOST_UNITS: Final = 4e6
_MOST_MISTAKES: Final = 1e5


class Cost(NamedTuple):
    """What is done with a value at most: units for it, for each character of it and for each value below; mistakes found."""

    units: float
    per_character: float
    per_descendant: float
    mistakes: float


_NOTHING: Final = Cost(0.0, 0.0, 0.0, 0.0)
_WITHOUT_END: Final = (float("inf"), float("inf"))


class Costs:
    """What checks by one schema cost.

    Args:
        schema: decoded.

    Raises:
        UnusableSchemaError: it is not bounded; see :mod:`.structure`.
    """

    def __init__(self, schema: Any) -> None:
        self._parts, self._order = read_parts(schema)
        self._level: list[Cost] = []
        self._most: list[Cost] = []
        self.complete = False  #: whether values at any depth are known to cost no more than those looked at so far
        self.has_alternatives = any(each.alternative for part in self._parts for each in part.in_place)

    def most(self, depth: int) -> Cost:
        """The most that is done with a value of a document that is nested so deeply (at most :data:`MAX_DEPTH`)."""
        while len(self._most) <= depth and not self.complete:
            level = self._next_level()
            self.complete = level == self._level
            self._level = level
            before = self._most[-1] if self._most else _NOTHING
            units, per_character, per_descendant, mistakes = level[0]
            self._most.append(
                Cost(
                    max(before.units, units),
                    max(before.per_character, per_character),
                    before.per_descendant + per_descendant,  # a value is below one of each level
                    max(before.mistakes, mistakes),
                )
            )
        return self._most[min(depth, len(self._most) - 1)]

    def _next_level(self) -> list[Cost]:
        """For each part what it does with a value one level farther down than the last."""
        before = self._level
        found = [_NOTHING] * len(self._parts)
        for number in self._order:
            part = self._parts[number]
            if not before:
                cost = Cost(part.units, part.per_character, part.per_descendant, part.mistakes)
            else:
                cost = _below(part, before)
            if part.in_place:
                cost = _with_in_place(cost, part, found)
            found[number] = cost
        return found

    def walk(self, document: Any) -> tuple[float, float]:
        """The units that a check of this document costs, and the mistakes that it can find; infinite where it takes too long
        to count them.
        """
        units = mistakes = 0.0
        steps = 0
        # A part, a value, how many times it is looked at and described; and how many levels down it is.
        waiting: list[tuple[int, Any, float, float, int]] = [(0, document, 1.0, 1.0, 0)]
        while waiting:
            number, value, times, described, depth = waiting.pop()
            steps += 1
            part = self._parts[number]
            units += times * part.units
            mistakes += described * part.mistakes
            if part.per_descendant:
                units += times * part.per_descendant * size(value)
            below = len(value) if isinstance(value, dict | list) else 0
            if steps + len(waiting) + below > _MAX_STEPS or units > _MOST_UNITS or depth > MAX_DEPTH:
                return _WITHOUT_END
            for each in part.in_place:
                again = described * 2 if each.alternative else described
                waiting.append((each.part, value, times * each.times, again, depth))
            if isinstance(value, str):
                units += times * part.per_character * len(value.encode())
            elif isinstance(value, dict):
                units += times * part.per_character * sum(map(len, value))
                for name, member in value.items():
                    named = part.named.get(name)
                    chosen = part.others if named is None else (named,)
                    waiting += [(each, member, times, described, depth + 1) for each in (*chosen, *part.all_below)]
            elif isinstance(value, list):
                for place, item in enumerate(value):
                    chosen = (part.prefix[place],) if place < len(part.prefix) else part.items
                    waiting += [(each, item, times, described, depth + 1) for each in (*chosen, *part.all_below)]
        return units, mistakes


def _below(part: Part, before: list[Cost]) -> Cost:
    """What a part does with a value one level down: one of its members, or one of its items, and what looks at all."""
    if not (part.named or part.others or part.prefix or part.items or part.all_below):
        return _NOTHING
    one_of = [before[each] for each in (*part.named.values(), *part.others, *part.prefix, *part.items)]
    all_of = [before[each] for each in part.all_below]
    if len(one_of) == 1 and not all_of:
        return one_of[0]
    columns = zip(*(one_of or [_NOTHING]), strict=True)
    if not all_of:
        return Cost(*map(max, columns))
    sums = map(sum, zip(*all_of, strict=True))
    return _capped(*(max(column) + added for column, added in zip(columns, sums, strict=True)))


def _with_in_place(cost: Cost, part: Part, found: list[Cost]) -> Cost:
    units, per_character, per_descendant, mistakes = cost
    for each in part.in_place:
        other, times = found[each.part], each.times
        if other is _NOTHING:
            continue
        units += times * other.units
        per_character += times * other.per_character
        per_descendant += times * other.per_descendant
        # Mistakes of alternatives are collected to describe the alternative, again at each level of nesting.
        mistakes += (2 if each.alternative else 1) * other.mistakes
    return _capped(units, per_character, per_descendant, mistakes)


def _capped(units: float, per_character: float, per_descendant: float, mistakes: float) -> Cost:
    return Cost(
        min(units, _MOST_UNITS),
        min(per_character, _MOST_UNITS),
        min(per_descendant, _MOST_UNITS),
        min(mistakes, _MOST_MISTAKES),
    )
