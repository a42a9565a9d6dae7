"""The check of the Markdown pages (``hack/docs/check_docs.py``) finds what it is for, and nothing else."""

from pathlib import Path

import pytest
from check_docs import anchors, check, check_code, check_decisions, check_lines, check_links, check_paths, check_words

PAGE = Path("page.md")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "decisions").mkdir(parents=True)
    (tmp_path / "docs" / "decisions" / "README.md").write_text("")
    (tmp_path / "docs" / "other.md").write_text("# Other `page`, with signs\n")
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "main.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("other.md", None),
        ("other.md#other-page-with-signs", None),
        ("https://example.org/nowhere", None),
        ("../api/main.py", None),
        ("missing.md", "no such file: missing.md"),
        ("other.md#elsewhere", "no such heading: other.md#elsewhere"),
        ("#here", "no such heading: #here"),
    ],
)
def test_links(root: Path, link: str, message: str | None) -> None:
    page = root / "docs" / "page.md"
    page.write_text(f"# Page\n\nSee [this]({link}).\n")
    assert [problem.message for problem in check_links(page, page.read_text())] == ([message] if message else [])


@pytest.mark.parametrize(
    ("path", "exists"),
    [
        ("api/main.py", True),
        ("api/", True),
        ("api/main", True),
        ("api/*.py", True),
        ("api/<name>.py", True),
        ("elsewhere/x", True),
        ("api/gone.py", False),
    ],
)
def test_paths_in_backticks_exist(root: Path, path: str, exists: bool) -> None:
    assert (list(check_paths(PAGE, f"It is in `{path}`.", root)) == []) is exists


def test_long_lines_of_prose_only() -> None:
    long = "word " * 30
    assert [p.line for p in check_lines(PAGE, f"{long}\n| {long} |\n```\n{long}\n```\n    {long}\n")] == [1]


def test_banned_words() -> None:
    text = "Whoever may.\nIt is read anew.\n```\nwhoever\n```\n"
    assert [p.line for p in check_words(PAGE, text)] == [1, 2]


def test_words_in_code() -> None:
    assert [p.line for p in check_code(PAGE, '"""Read anew."""\nnew = 1\n# Not anew.\n')] == [1, 3]


def test_decisions_are_listed_once_and_have_a_status(root: Path) -> None:
    folder = root / "docs" / "decisions"
    (folder / "README.md").write_text("[1](0001-a.md) [1](0001-b.md)")
    (folder / "0001-a.md").write_text("Status: accepted.\n")
    (folder / "0001-b.md").write_text("Status: accepted.\n")
    (folder / "0002-c.md").write_text("")
    assert [p.message for p in check_decisions(folder)] == [
        "the number 0001 is taken by 0001-a.md",
        "not in README.md",
        "no line that begins with Status:",
    ]


def test_anchors_leave_code_out() -> None:
    assert anchors("# A b\n```\n# no heading\n```\n## C\n") == {"a-b", "c"}


def test_the_pages_of_this_repository() -> None:
    assert [str(problem) for problem in check(Path(__file__).parents[3])] == []
