"""Each line of docs/actions-security.md names a test that is there."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]


def test_each_line_of_the_page_is_a_test() -> None:
    lines = re.findall(
        r"^\| (.+?) \| .+? \| `(test_\w+)` \|$", (REPOSITORY / "docs" / "actions-security.md").read_text(), re.MULTILINE
    )
    assert len(lines) >= 15
    files = [*REPOSITORY.glob("tests/integration/actions/*.py"), *REPOSITORY.glob("tests/unit/actions/*.py")]
    tests = set(re.findall(r"^(?:async )?def (test_\w+)", "\n".join(file.read_text() for file in files), re.MULTILINE))
    assert {name for _, name in lines} <= tests
