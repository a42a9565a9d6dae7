"""A new Rule's manifest, from its name and parameters. Pure."""

import re
from collections.abc import Mapping
from typing import Any, Final

from attune_contract.names import API_VERSION

#: As Kubernetes has them (RFC 1123).
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME: Final = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_LONGEST_NAMESPACE, _LONGEST_NAME, _LONGEST_DESCRIPTION = 63, 253, 1024


def naming_problems(form: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with the namespace, the name and the description of a Rule, by the form's field."""
    problems = {}
    namespace, name = form.get("namespace", ""), form.get("name", "")
    if len(namespace) > _LONGEST_NAMESPACE or not _LABEL.fullmatch(namespace):
        problems["namespace"] = "Name a namespace: lower-case letters, digits and -, at most 63 characters."
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        problems["name"] = "Give the Rule a name: lower-case letters, digits, - and ., at most 253 characters."
    if len(form.get("description", "")) > _LONGEST_DESCRIPTION:
        problems["description"] = "It has more than 1024 characters."
    return problems


def manifest(form: Mapping[str, str], *, kind: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The Rule.

    Args:
        form: has its ``namespace``, ``name`` and, if there is one, ``description``.
        kind: the trigger type.
        parameters: of the trigger.
    """
    description = form.get("description", "").strip()
    trigger = {"type": kind, **({"parameters": dict(parameters)} if parameters else {})}
    return {
        "apiVersion": API_VERSION,
        "kind": "Rule",
        "metadata": {"name": form.get("name", ""), "namespace": form.get("namespace", "")},
        "spec": {**({"description": description} if description else {}), "trigger": trigger},
    }


def refusal(status: int, said: str, form: Mapping[str, str]) -> str:
    """Why the cluster made no Rule, and what to do, as a sentence.

    Args:
        status: of its answer.
        said: its own words.
        form: has the Rule's ``namespace`` and ``name``.
    """
    where = form["namespace"]
    match status:
        case 403:
            needed = f"it needs the right to create rules.attune.dev in namespace {where}"
            return f"Nothing was made: {needed}. The cluster says: {said}"
        case 404:
            return f"Nothing was made: is there a namespace {where}? The cluster says: {said}"
        case 409:
            return f"Nothing was made: there is a Rule {where}/{form['name']} already. Choose another name."
        case _:
            return f"Nothing was made: the cluster refused it. It says: {said}"
