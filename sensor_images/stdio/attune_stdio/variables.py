"""The environment that a program is given. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attune_sensor import Rule

PARAMETER: Final = "ATTUNE_PARAM_"
PARAMETERS_FILE: Final = "ATTUNE_PARAMETERS_FILE"
RULE: Final = "ATTUNE_RULE"
RULE_UID: Final = "ATTUNE_RULE_UID"
RULE_NAMESPACE: Final = "ATTUNE_RULE_NAMESPACE"
RULE_NAME: Final = "ATTUNE_RULE_NAME"
TRIGGER_TYPE: Final = "ATTUNE_TRIGGER_TYPE"

#: Of our own variables a program gets these. The others say where the credentials are, which are none of its business.
_SHARED: Final = frozenset(
    {
        "ATTUNE_SENSOR_REF",
        "ATTUNE_SENSOR_INSTANCE",
        "ATTUNE_TRIGGER_TYPES",
        "ATTUNE_CONFIG_FILE",
        "ATTUNE_LOG_FORMAT",
        "ATTUNE_LOG_LEVEL",
        "ATTUNE_SCRIPTS_DIR",
        "ATTUNE_SECRETS_DIR",
        "ATTUNE_LISTEN_HOST",
    }
)
#: The ports of ``spec.ports`` are a program's business, too.
_PORT: Final = "ATTUNE_PORT_"
#: `$$` counts before a name only: elsewhere it is a shell's process id.
_REFERENCE: Final = re.compile(r"\$\$(\([A-Za-z_][A-Za-z0-9_]*\))|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
#: Linux takes no variable above 128 KiB, and no environment above a few MiB. What is left out here is in the file.
_MAX_VALUE: Final = 32 * 1024
_MAX_TOTAL: Final = 256 * 1024


def of_program(variables: Mapping[str, str], *, scripts_dir: Path | None) -> dict[str, str]:
    """What every program is given: the supervisor's environment without what is the supervisor's alone.

    Args:
        variables: the supervisor's environment.
        scripts_dir: where the scripts are; programs are looked for there first.
    """
    given = {
        name: value
        for name, value in variables.items()
        if not name.startswith("ATTUNE_") or name in _SHARED or name.startswith(_PORT)
    }
    # Python keeps what is printed into a pipe until 8 KiB are together: events would come in lumps, minutes late.
    given.setdefault("PYTHONUNBUFFERED", "1")
    if scripts_dir is not None:
        given["PATH"] = f"{scripts_dir}:{given['PATH']}" if given.get("PATH") else str(scripts_dir)
    return given


def expanded(command: Sequence[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    """A command with each ``$(NAME)`` replaced by the variable's value, as Kubernetes does it: without a shell, so that a value
    stays one argument whatever is in it. Unknown names stay as they are, and ``$$(NAME)`` is ``$(NAME)``.
    """

    def value(match: re.Match[str]) -> str:
        escaped, name = match[1], match[2]
        return f"${escaped}" if escaped else variables.get(name, match[0])

    return tuple(_REFERENCE.sub(value, text) for text in command)


def of_rule(rule: Rule, *, parameters_file: Path) -> dict[str, str]:
    """Additional variables for the program of one rule."""
    state = rule.state
    return {
        **dict(_parameters(state.parameters)),
        PARAMETERS_FILE: str(parameters_file),
        RULE: rule.ref,
        RULE_UID: state.uid,
        RULE_NAMESPACE: state.namespace,
        RULE_NAME: state.name,
        TRIGGER_TYPE: state.trigger_type,
    }


def same_names(parameters: Mapping[str, Any]) -> list[str]:
    """A sentence for each variable that several parameters would become, like ``dry-run`` and ``dry_run``."""
    keys: dict[str, list[str]] = {}
    for key in sorted(parameters):
        keys.setdefault(_variable(key), []).append(key)
    return [
        f"The parameters {', '.join(found)} have the same variable {name}, which holds {found[0]}; read the others from "
        f"{PARAMETERS_FILE}."
        for name, found in keys.items()
        if len(found) > 1
    ]


def _variable(key: str) -> str:
    return PARAMETER + re.sub(r"[^A-Z0-9]", "_", key.upper())


def _parameters(parameters: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each parameter as a variable: texts as they are, all else as JSON. Of two that would have the same name, the first in
    the order of their names.
    """
    seen = set()
    total = 0
    for key in sorted(parameters):
        name = _variable(key)
        found = parameters[key]
        text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode("utf-8", "surrogatepass"))
        if name in seen:
            continue
        seen.add(name)
        if found is None or "\0" in text or size > _MAX_VALUE or total + size > _MAX_TOTAL:
            continue
        total += size
        yield name, text
