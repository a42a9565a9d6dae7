"""From what was entered in a form to a Rule's parameters, and what is wrong with them, beside the fields. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from attune_api.console.views.schema_fields import Field, Fields

if TYPE_CHECKING:
    from attune_contract.schemas.json_schema import JsonSchema

#: The form's field for parameters that have none of their own.
OTHERS: Final = "others"
_MOST_MISTAKES: Final = 20
_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,30}")
_LONGEST_NUMBER: Final = 60
#: Levels of lists and objects in a field: YAML is written level by level, and recursion has its end.
_MOST_LEVELS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Entered:
    """What was entered.

    Attributes:
        parameters: as the Rule is to have them.
        problems: what is wrong, by the form's field.
        general: what is wrong and belongs to no field.
    """

    parameters: Mapping[str, Any]
    problems: Mapping[str, str]
    general: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not self.general


def given(fields: Fields) -> dict[str, str]:
    """The form as it is first shown: switched on is what is on by default."""
    return {field.key: "on" for field in fields.fields if field.kind == "checkbox" and field.switched_on}


def entered(form: Mapping[str, str], fields: Fields, *, schema: Any) -> Entered:
    """The parameters of a form, checked as the operator and ``attune lint`` check them.

    Args:
        form: the fields of the request.
        fields: those of the trigger type.
        schema: what they come from; None where any parameters are accepted.
    """
    parameters: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for field in fields.fields:
        try:
            value = _value(field, form.get(field.key, ""))
        except ValueError as error:
            problems[field.key] = str(error)
            continue
        if value is not msgspec.UNSET:
            parameters[field.name] = value
    if fields.others:
        try:
            parameters |= _others(form.get(OTHERS, ""), parameters)
        except ValueError as error:
            problems[OTHERS] = str(error)
    if problems or schema is None:
        return Entered(parameters=parameters, problems=problems)
    return _checked(parameters, fields, schema)


def _value(field: Field, text: str) -> Any:
    """What stands in a field; UNSET if it is to be left out.

    Raises:
        ValueError: it is no JSON.
    """
    if field.kind == "checkbox":
        on = bool(text)
        return on if field.required or on != field.switched_on else msgspec.UNSET
    if not text.strip():
        return msgspec.UNSET
    match field.kind:
        case "text":
            return text
        case "select":
            # What is none of the options is left to the checker, as text.
            return json.loads(text) if text in {option.value for option in field.options} else text
        case "number" | "integer":
            return _number(text.strip())
        case _:
            return _decoded(text)


def _number(text: str) -> Any:
    if _NUMBER.fullmatch(text):
        return int(text)
    try:
        number = msgspec.json.decode(text, type=float) if len(text) <= _LONGEST_NUMBER else None
    except msgspec.MsgspecError:
        number = None
    return text if number is None else number


def _decoded(text: str) -> Any:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f'This is no JSON ({error}). Texts stand in quotes: "like this".') from None
    if _is_deep(value):
        raise ValueError(f"It has more than {_MOST_LEVELS} levels.")
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MOST_LEVELS + 1):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [child for each in inner for child in each]
    return bool(level)


def _others(text: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    found = _decoded(text) if text.strip() else {}
    if not isinstance(found, dict):
        raise ValueError('This must be a JSON object, like {"name": "value"}.')
    if twice := sorted(found.keys() & parameters.keys()):
        raise ValueError(f"{twice[0]} has a field of its own above.")
    return found


def _checked(parameters: Mapping[str, Any], fields: Fields, schema: Any) -> Entered:
    # Imported with the first form: some MiB, for those who have one.
    from attune_contract.schemas.json_schema import CheckTooCostlyError
    from attune_contract.schemas.structure import UnusableSchemaError
    from attune_contract.schemas.violations import describe, show

    try:
        checker = _compiled(msgspec.json.encode(schema))
        violations = checker.violations(msgspec.json.encode(parameters), limit=_MOST_MISTAKES)
    except UnusableSchemaError as error:
        unusable = f"The schema of this trigger type cannot be used: {str(error)[:300]}. Its author must fix it."
        return Entered(parameters=parameters, problems={}, general=(unusable,))
    except (CheckTooCostlyError, msgspec.MsgspecError, RecursionError) as error:
        return Entered(parameters=parameters, problems={}, general=(f"They cannot be checked: {error}.",))
    keys = {field.name: field.key for field in fields.fields}
    missing = {f"{show(field.name)} is a required property": field.key for field in fields.fields}
    problems: dict[str, str] = {}
    general: list[str] = []
    for each in violations:
        key = keys.get(str(each.path[0]), "") if each.path else missing.get(each.message, "")
        if not key:
            general.append(describe(each, root="parameters"))
        elif key not in problems:
            problems[key] = describe(each, root=str(each.path[0])) if len(each.path) > 1 else _sentence(each.message)
    return Entered(parameters=parameters, problems=problems, general=tuple(general))


def _sentence(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:299]}…"


@lru_cache(maxsize=16)
def _compiled(schema: bytes) -> "JsonSchema":
    from attune_contract.schemas.json_schema import JsonSchema

    return JsonSchema(schema)
