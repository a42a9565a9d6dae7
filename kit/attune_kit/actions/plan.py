"""What is to be done about one event: which actions of a Rule run, which are skipped and why, and what each asks for.

Pure but for the evaluation of expressions, which the caller does in between, in one call for all of them::

    plan = Plan(rule)
    results = await evaluator.evaluate(rule.uid, plan.program, plan.variables(event)) if plan.program else []
    for step in plan.steps(results, event): ...

The runner does what the steps say; ``attune rules test`` shows them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

import msgspec

from attune_contract.actions import ActionKind, RuleActions, RunReason
from attune_contract.events import Event
from attune_kit.actions.emission import EmissionError, emitted_part
from attune_kit.cel.evaluator import Program
from attune_kit.cel.library import EvaluationError
from attune_kit.cel.templates import Expression, TemplateError, expressions_in, parse, render

#: What expressions of conditions and templates may read; ``success`` and ``await`` see one more.
EVENT: Final = "event"
RESPONSE: Final = "response"
OBJECT: Final = "object"
#: How an evaluation says that a field is not there.
_MISSING: Final = ("Key not found", "Index error", "SELECT to non-message")

Fate = Literal["run", "skip", "fail"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one action.

    Attributes:
        action: as in the Rule, with its defaults.
        kind: what it does.
        fate: run it, skip it, or say that it cannot be done.
        reason, message: why it is skipped or fails.
        request: what it asks for: the part of the action under its kind, with results in place of expressions.
    """

    action: Mapping[str, Any]
    kind: ActionKind
    fate: Fate
    reason: RunReason = RunReason.NONE
    message: str = ""
    request: Any = None

    @property
    def name(self) -> str:
        """The action's name."""
        return str(self.action["name"])


class _Parsed(NamedTuple):
    action: Mapping[str, Any]
    kind: ActionKind
    template: Any
    sources: tuple[str, ...]
    problem: str


def kind_of(action: Mapping[str, Any]) -> ActionKind:
    """What an action does.

    Raises:
        ValueError: it has no kind, or more than one.
    """
    found = [kind for kind in ActionKind if action.get(kind.value) is not None]
    if len(found) != 1:
        raise ValueError(f"the action {action.get('name')!r} has {len(found)} kinds; exactly one is expected")
    return found[0]


class Plan:
    """A Rule's actions, made ready once for all events.

    Attributes:
        rule: the Rule.
        program: the expressions that decide and fill in, each once; None when there are none: nothing needs to be evaluated.
    """

    def __init__(self, rule: RuleActions) -> None:
        self.rule = rule
        self._parsed = [_parse(action) for action in rule.actions]
        conditions = [rule.when, *(each.action.get("when") for each in self._parsed)]
        wanted: dict[tuple[str, bool], None] = {(text, True): None for text in conditions if text}
        wanted |= {(source, False): None for each in self._parsed for source in each.sources}
        self._expressions = tuple(wanted)
        self.program = Program((EVENT,), self._expressions) if wanted else None
        self._rule_raw = msgspec.json.encode(
            {
                "namespace": rule.namespace,
                "name": rule.name,
                "uid": rule.uid,
                "labels": rule.labels,
                "annotations": rule.annotations,
            }
        )
        self._data_raw = msgspec.json.encode(rule.data)

    def variables(self, event: Event) -> dict[str, bytes]:
        """The variables of the expressions, as JSON."""
        return {EVENT: self.event_variable(event)}

    def event_variable(self, event: Event) -> bytes:
        """``event`` as expressions see it."""
        return msgspec.json.encode(
            {
                "id": event.id,
                "type": event.trigger_type,
                "occurredAt": event.occurred_at,
                "sensor": event.sensor_ref,
                "payload": event.payload,
                "data": msgspec.Raw(self._data_raw),
                "rule": msgspec.Raw(self._rule_raw),
            }
        )

    def steps(self, results: Sequence[Any], event: Event) -> list[Step]:
        """What becomes of each action.

        Args:
            results: of :attr:`program`'s expressions, in order; an :class:`EvaluationError` where there is none.
            event: the event that they are of.
        """
        found = dict(zip(self._expressions, results, strict=True)) if self.program else {}
        held = _condition("the Rule's condition", self.rule.when, found)
        return [_checked(_step(each, held, found), event) for each in self._parsed]


def _parse(action: Mapping[str, Any]) -> _Parsed:
    kind = kind_of(action)
    template = msgspec.to_builtins(action[kind.value])
    try:
        sources = tuple(dict.fromkeys(expression.source for _, expression in expressions_in(template)))
    except TemplateError as error:
        return _Parsed(action, kind, template, (), f"column {error.column}: {error}")
    return _Parsed(action, kind, template, sources, "")


def _condition(
    what: str, text: str | None, found: Mapping[tuple[str, bool], Any]
) -> tuple[Fate, RunReason, str] | None:
    """Why a condition keeps an action from being run; None when it holds."""
    if not text:
        return None
    result = found[(text, True)]
    if isinstance(result, EvaluationError):
        if any(word in str(result) for word in _MISSING):
            return "skip", RunReason.CONDITION_FALSE, f"{what} has no result, which counts as false: {result}"
        return "fail", RunReason.INVALID_EXPRESSION, f"{what} cannot be evaluated: {result}"
    return None if result is True else ("skip", RunReason.CONDITION_FALSE, f"{what} is false: {text}")


def _step(parsed: _Parsed, held: tuple[Fate, RunReason, str] | None, found: Mapping[tuple[str, bool], Any]) -> Step:
    action, kind = parsed.action, parsed.kind
    against = held or _condition("the action's condition", action.get("when"), found)
    if against is not None:
        fate, reason, message = against
        return Step(action=action, kind=kind, fate=fate, reason=reason, message=message)
    if parsed.problem:
        return Step(action=action, kind=kind, fate="fail", reason=RunReason.INVALID_EXPRESSION, message=parsed.problem)
    results = {}
    for source in parsed.sources:
        result = found[(source, False)]
        if isinstance(result, EvaluationError):
            message = f"${{{source}}} cannot be evaluated: {result}"
            return Step(action=action, kind=kind, fate="fail", reason=RunReason.INVALID_EXPRESSION, message=message)
        results[source] = result
    return Step(action=action, kind=kind, fate="run", request=_rendered(kind, parsed.template, results))


def _checked(step: Step, event: Event) -> Step:
    """The step, unless what it asks for cannot be."""
    if step.kind is not ActionKind.EMIT or step.fate != "run":
        return step
    try:
        emitted_part(step.request, event)
    except EmissionError as error:
        message = f"the event is not made: {error}"
        return Step(action=step.action, kind=step.kind, fate="fail", reason=error.reason, message=message)
    return step


def _rendered(kind: ActionKind, template: Any, results: Mapping[str, Any]) -> Any:
    if not results:
        return render(template, results)  # "$${" still becomes "${"
    if kind is ActionKind.HTTP:
        rest = {key: value for key, value in template.items() if key != "url"}
        return {"url": _url(str(template["url"]), results), **render(rest, results)}
    return render(template, results)


def _url(text: str, results: Mapping[str, Any]) -> str:
    """A URL with results in it, percent-encoded, so that none of them can name another host or add a parameter. One that
    begins it is taken as it is.
    """
    parts = parse(text).parts
    done: list[str] = []
    for number, part in enumerate(parts):
        if isinstance(part, Expression):
            value = results[part.source]
            shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            done.append(shown if number == 0 else quote(shown, safe=""))
        else:
            done.append(part)
    return "".join(done)
