"""The table "Coming from elsewhere" of docs/timers.md, held against the schedulers that it names. Figures: docs/soak.md.

It needs the network once, Go, Java with Maven, a C compiler, and apt-get; what is not there is skipped.
"""

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.other_schedulers import Question, Times, croniter, debian, quartz, robfig

from attune_contract.calendar.cron import parse
from attune_contract.calendar.zones import zone
from attune_timer import instants
from attune_timer.cron import CronSchedule

PAGE = Path(__file__).parents[2] / "docs" / "timers.md"
SECOND = 1_000_000
#: So many firings are compared.
NUMBER = 20
COLUMNS: dict[str, tuple[int, Callable[[list[Question]], list[Times]], tuple[str, ...]]] = {
    "CronJob": (4, robfig, ("go",)),
    "croniter": (5, croniter, ()),
    "Quartz": (6, quartz, ("java", "mvn")),
    "Debian": (7, debian, ("apt-get", "dpkg-deb", "cc", "unshare")),
}


def rows() -> list[list[str]]:
    """The table's cells, without their marks."""
    section = PAGE.read_text().partition("## Coming from elsewhere")[2]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def question(row: list[str]) -> tuple[Question, tuple[int, ...]]:
    """What to ask, and when the product fires."""
    begin = datetime.fromisoformat(row[2]).replace(tzinfo=UTC)
    plan = CronSchedule(cron=parse(row[0]), zone=zone(row[1]))
    ours: list[int] = []
    at = int(begin.timestamp()) * SECOND - 1
    while len(ours) < NUMBER:
        following = plan.next(at)
        assert following is not None
        at = following.at
        ours.append(at // SECOND)
    return Question(row[0], row[1], int(begin.timestamp()), NUMBER, ours[-1]), tuple(ours)


def cell(asked: Question, found: Times, expected: tuple[int, ...]) -> str:
    """What the table may say."""
    if found.refused:
        return "refused"
    if not found.times:
        return "never"
    times = tuple(at for at in found.times if at <= asked.until)
    return "=" if times == expected else "other"


def shown(at: int) -> list[str]:
    moment = instants.to_datetime(at * SECOND)
    return [moment.strftime(shape) for shape in ("%m-%d", "%H:%M", "%m-%d %H:%M")]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", COLUMNS)
def test_column(name: str) -> None:
    place, ask, needs = COLUMNS[name]
    missing = [each for each in needs if shutil.which(each, path="/usr/local/go/bin:/usr/bin:/bin") is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    table = rows()
    asked, ours = zip(*map(question, table), strict=True)
    wrong = []
    for row, each, expected, found in zip(table, asked, ours, ask(list(asked)), strict=True):
        said, really = row[place], cell(each, found, expected)
        kind = said if said in {"=", "refused", "never"} else "other" if said else "not told"
        times = re.findall(r"\d\d-\d\d \d\d:\d\d|\d\d-\d\d|\d\d:\d\d", said)
        listed = [text in shown(at) for text, at in zip(times, found.times, strict=False)]
        if kind != really or not all(listed):
            first = ", ".join(shown(at)[2] for at in found.times[:4])
            wrong.append(
                f"{row[0]} {row[1]} {row[2]}: the table says {said!r}, but it is {really}: {first}{found.refused}"
            )
    print(f"\n{name}: {len(asked)} expressions asked")
    assert not wrong, "\n".join(wrong)
