"""Checks the Markdown pages of the repository; part of ``make lint``.

Every relative link leads to a file and, with ``#``, to a heading. Every path in backticks that begins with a folder of the
repository exists. Prose has lines of at most 120 characters; tables, code and links that cannot be broken may be longer.
Phrases that are not plain English are not used, neither in pages nor in code. Every decision is in the index.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LONGEST_LINE: Final = 120

#: Phrases that are not plain English, and what to write instead.
BANNED: Final = {
    r"\banew\b": "again",
    r"\bwhoever\b": "anyone who, a user who",
    r"\bnobody\b": "no one; or say who",
    r"\bof which\b": "a second sentence",
    r"\bso that one may\b": "so that you can",
    r"\b(?:is|are|was|were) told\b": "say who says what to whom",
    r"\bfares?\b": "health",
    r"\bbesides\b": "also, in addition",
    r"\bmade again\b": "created again, issued again, renewed",
    r"\(design\b|\bdesign, \"": "the page of docs/ that says it",
}

#: Folders with code whose phrases are checked, too, and the phrases that are only checked in pages.
CODE: Final = ("api", "cli", "conformance", "contract", "hack", "kit", "local", "operator", "sensor_images")
ONLY_IN_PAGES: Final = (r"\bnobody\b", r"\bof which\b")

#: A path of this repository, as written in backticks. ``<name>`` and ``…`` stand for something; such paths are not checked.
_PATH: Final = re.compile(
    r"`((?:contract|kit|operator|api|sensor_images|local|cli|conformance|deploy|hack|packs|examples|tests|docs)/[^`\s]*)`"
)
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE: Final = re.compile(r"\s*(```|~~~)")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at one place of a page. ``line`` counts from 1."""

    page: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.message}"


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The lines outside of code blocks, with their numbers."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield number, line


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    found = set()
    for _, line in prose(text):
        if heading := re.match(r"#+ +(.*)", line):
            plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


def check_links(page: Path, text: str) -> Iterator[Problem]:
    """Relative links that lead nowhere."""
    for number, line in prose(text):
        for link in _LINK.findall(line):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            if not target.exists():
                yield Problem(page, number, f"no such file: {name}")
            elif anchor and anchor not in anchors(target.read_text()):
                yield Problem(page, number, f"no such heading: {link}")


def check_paths(page: Path, text: str, root: Path) -> Iterator[Problem]:
    """Paths in backticks that do not exist. A ``*`` matches; a trailing ``.py`` may be left out."""
    for number, line in prose(text):
        for path in _PATH.findall(line):
            if re.search(r"[<…{]", path):
                continue
            if not any(root.glob(path.rstrip("/"))) and not any(root.glob(f"{path}.py")):
                yield Problem(page, number, f"no such path: {path}")


def check_lines(page: Path, text: str) -> Iterator[Problem]:
    """Lines of prose that are too long."""
    for number, line in prose(text):
        if len(line) > LONGEST_LINE and not line.startswith("|") and " " in line.strip()[:LONGEST_LINE]:
            yield Problem(page, number, f"{len(line)} characters; at most {LONGEST_LINE}")


def check_words(page: Path, text: str) -> Iterator[Problem]:
    """Phrases that are not plain English."""
    for number, line in prose(text):
        for pattern, instead in BANNED.items():
            if found := re.search(pattern, line, re.IGNORECASE):
                yield Problem(page, number, f'"{found[0]}": write instead: {instead}')


def check_code(path: Path, text: str) -> Iterator[Problem]:
    """Phrases in code that are not plain English."""
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, instead in BANNED.items():
            if pattern in ONLY_IN_PAGES:
                continue
            if found := re.search(pattern, line, re.IGNORECASE):
                yield Problem(path, number, f'"{found[0]}": write instead: {instead}')


def check_decisions(folder: Path) -> Iterator[Problem]:
    """Decisions that the index lacks, and numbers that are used twice."""
    index = folder / "README.md"
    listed = set(_LINK.findall(index.read_text()))
    seen: dict[str, str] = {}
    for decision in sorted(folder.glob("[0-9]*.md")):
        number = decision.name[:4]
        if decision.name not in listed:
            yield Problem(decision, 1, f"not in {index.name}")
        if number in seen:
            yield Problem(decision, 1, f"the number {number} is taken by {seen[number]}")
        seen[number] = decision.name
        if not re.search(r"^Status: ", decision.read_text(), re.MULTILINE):
            yield Problem(decision, 1, "no line that begins with Status:")


def pages(root: Path) -> list[Path]:
    """The pages that are checked: those at the top, and all below ``docs`` and ``examples``."""
    return [
        *sorted(root.glob("*.md")),
        *sorted((root / "docs").rglob("*.md")),
        *sorted((root / "examples").rglob("*.md")),
    ]


def check(root: Path) -> list[Problem]:
    """Check all pages."""
    problems: list[Problem] = []
    decisions = root / "docs" / "decisions"
    for page in pages(root):
        text = page.read_text()
        problems += check_links(page, text)
        problems += check_lines(page, text)
        if page.name != "glossary.md":  # it lists the words
            problems += check_words(page, text)
        if page.parent != decisions and page.name != "CHANGELOG.md":  # they speak of the tree as it was
            problems += check_paths(page, text, root)
    problems += check_decisions(decisions)
    for folder in CODE:
        for path in sorted((root / folder).rglob("*.py")):
            if path != Path(__file__).resolve():
                problems += check_code(path, path.read_text())
    return problems


def main() -> int:
    """Check the repository that this file is in; returns the exit status."""
    root = Path(__file__).parents[2]
    problems = check(root)
    for problem in problems:
        print(Problem(problem.page.relative_to(root), problem.line, problem.message))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
