"""The rights that docs/rbac.md lists, as RBAC rules."""

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "rbac.md"


def documented(section: str) -> list[dict[str, list[str]]]:
    """The rules of one table of the document."""
    [table] = re.findall(rf"<!-- operator: {section} -->\n\n(.*?)\n\n", DOCUMENT.read_text() + "\n\n", re.DOTALL)
    rules = []
    for row in table.splitlines()[2:]:
        group, resources, verbs = (cell.strip() for cell in row.split("|")[1:4])
        rules.append(
            {
                "apiGroups": ["" if group == "(core)" else group],
                "resources": [name.strip() for name in resources.split(",")],
                "verbs": [verb.strip() for verb in verbs.split(",")],
            }
        )
    return rules
