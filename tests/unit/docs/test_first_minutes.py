"""What is tried on new machines is what the README says."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
#: Commands of the README that ``hack/first-minutes/commands`` does not run, and why.
ELSEWHERE = {
    "make test": "it is make lint, unit, integration and e2e, which are tried one by one",
    "helm install": "needs a cluster: tests/e2e",
    "kubectl apply": "needs a cluster: tests/e2e",
    "kubectl wait": "needs a cluster: tests/e2e",
}


def test_every_command_of_the_readme_is_tried_on_a_new_machine() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    lines = [line for block in readme.split("```")[1::2] for line in block.splitlines()[1:]]
    found = {match[0] for line in lines if (match := re.match(r"(make|attune|helm|kubectl) [a-z-]+", line))}
    assert {"make demo", "attune status", "attune lint", "helm install"} <= found
    script = (REPOSITORY / "hack" / "first-minutes" / "commands").read_text()
    targets = re.findall(r"for target in ([^;]*);", script)
    script += "\n".join(f"make {name}" for names in targets for name in names.split())
    assert {command for command in found if command not in script} == set(ELSEWHERE)
