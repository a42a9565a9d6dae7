"""The rights that docs/rbac.md lists, as RBAC rules."""

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "rbac.md"


def documented(section: str) -> list[dict[str, list[str]]]:
    """The rules of one table of the document."""
    [table] = re.findall(rf"<!-- operator: {section} -->\n\n(.*?)\n\n", DOCUMENT.read_text() + "\n\n", re.DOTALL)
    rules = []
    for row in table.splitlines()[2:]:
        group, resources, names, verbs = (cell.strip() for cell in row.split("|")[1:5])
        rule = {"apiGroups": ["" if group == "(core)" else group], "resources": _each(resources), "verbs": _each(verbs)}
        rules.append(rule if names == "all" else {**rule, "resourceNames": _each(names)})
    return rules


def _each(cell: str) -> list[str]:
    return [word.strip() for word in cell.split(",")]
