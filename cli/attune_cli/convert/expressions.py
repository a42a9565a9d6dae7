"""CEL out of other people's paths, literals and templates."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Words of CEL that cannot be the name of a field after a dot.
_WORDS: Final = """
    as break const continue else false for function if import in let loop namespace null package return true var void while
"""
_RESERVED: Final = frozenset(_WORDS.split())


class UntranslatableError(ValueError):
    """There is no expression that says the same; the text says why."""


def literal(value: Any) -> str:
    """A value as CEL has it. JSON's texts are CEL's, too."""
    return json.dumps(value, ensure_ascii=False)


def select(base: str, path: Sequence[str]) -> str:
    """A field inside of ``base``."""
    text = base
    for part in path:
        text += _step(part)
    return text


def _step(part: str) -> str:
    if part.isdigit():
        return f"[{part}]"
    if _IDENTIFIER.fullmatch(part) and part not in _RESERVED:
        return f".{part}"
    return f"[{literal(part)}]"


def optional(base: str, path: Sequence[str], default: Any) -> str:
    """A field inside of ``base``, or a value where it is missing."""
    if not path:
        return base
    text = base
    for part in path:
        step = _step(part)
        text += f".?{step[1:]}" if step.startswith(".") else f"[?{step[1:]}"
    return f"{text}.orValue({literal(default)})"


def there(base: str, path: Sequence[str]) -> str:
    """Whether a field inside of ``base`` is there."""
    if not path:
        return "true"
    parent, last = select(base, path[:-1]), path[-1]
    step = _step(last)
    return f"has({parent}{step})" if step.startswith(".") else f"{literal(last)} in {parent}"


def split_path(path: str) -> list[str]:
    r"""The names of ``a.b\.c.0``.

    Raises:
        UntranslatableError: it has more than names in it.
    """
    if re.search(r"[#*?|@{}\[\]()]", path):
        raise UntranslatableError(f"the path {path!r} has more than names in it")
    return [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", path) if part]


def escaped(value: Any) -> Any:
    """A value in which ``${`` means nothing."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, dict):
        return {key: escaped(inner) for key, inner in value.items()}
    return [escaped(inner) for inner in value] if isinstance(value, list) else value


_MUSTACHE: Final = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)


def from_mustache(text: str, expression: Callable[[str], str]) -> str:
    """A text with ``{{ … }}`` in it, as ours with ``${…}``.

    Args:
        text: a template.
        expression: the CEL expression of what stands between the braces; raises UntranslatableError.

    Raises:
        UntranslatableError: something between the braces has no equal.
    """
    if "{%" in text:
        raise UntranslatableError("it has statements ({% … %})")
    done, end = "", 0
    for match in _MUSTACHE.finditer(text):
        done += escaped(text[end : match.start()]) + "${" + expression(match[1]) + "}"
        end = match.end()
    return done + str(escaped(text[end:]))


def put(target: Any, path: Sequence[str], value: Any) -> None:
    """Set a field inside of objects and lists, and make what is missing on the way.

    Raises:
        UntranslatableError: the path goes through something that is neither, or beyond a list's end.
    """
    for index, part in enumerate(path):
        last = index == len(path) - 1
        following: Any = [] if not last and path[index + 1].isdigit() else {}
        if isinstance(target, dict):
            if last:
                target[part] = value
            target = target.setdefault(part, following)
        elif isinstance(target, list) and part.isdigit() and int(part) <= len(target):
            if int(part) == len(target):
                target.append(value if last else following)
            elif last:
                target[int(part)] = value
            target = target[int(part)]
        else:
            raise UntranslatableError(f"there is no place {'.'.join(path)!r}")


def get(target: Any, path: Sequence[str]) -> Any:
    """A field inside of objects and lists; None when it is missing."""
    for part in path:
        if isinstance(target, dict):
            target = target.get(part)
        elif isinstance(target, list) and part.isdigit() and int(part) < len(target):
            target = target[int(part)]
        else:
            return None
    return target


def name(*parts: str) -> str:
    """A name for an object, out of others."""
    text = "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts if part)
    return text[:63].strip("-") or "converted"


def action_name(text: str) -> str:
    """A name for an action."""
    return name(text)[:40].strip("-")
