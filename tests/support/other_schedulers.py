"""Other schedulers as they are, asked when they fire: robfig/cron (Kubernetes), croniter, Quartz, and Debian's cron.

Their programs are in tests/oracles/cron; what they need is fetched once into ``.cache/schedulers``.
"""

import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import tzdata
from support.environments import CACHE, environment

ROOT = Path(__file__).resolve().parents[2]
ORACLES = ROOT / "tests" / "oracles" / "cron"
CRONITER = "croniter==7.0.0"
#: The pinned zones, for those that read compiled zones.
ZONES = Path(tzdata.__file__).parent / "zoneinfo"

#: What a crontab is tried with: a namespace of its own, in which nothing of the machine's cron is seen.
_DEBIAN = """
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/spool && mkdir -p /var/spool/cron/crontabs /run/none || exit 9
[ ! -e /etc/crontab ] || mount --bind /dev/null /etc/crontab || exit 9
[ ! -d /etc/cron.d ] || mount --bind /run/none /etc/cron.d || exit 9
printf '%s true\\n' "$CRON" > /var/spool/cron/crontabs/root && chmod 600 /var/spool/cron/crontabs/root || exit 9
LD_PRELOAD="$CLOCK" exec "$PROGRAM" -f
"""


@dataclass(frozen=True)
class Question:
    """When does it fire?

    Args:
        cron: the expression.
        zone: the time zone.
        from_: not before this instant, in seconds since 1970.
        number: how many times.
        until: nobody wants to know what comes after it, in seconds since 1970.
    """

    cron: str
    zone: str
    from_: int
    number: int
    until: int


@dataclass(frozen=True)
class Times:
    """The answer: instants in seconds since 1970, or why the expression is refused."""

    times: tuple[int, ...] = ()
    refused: str = ""


def robfig(questions: list[Question]) -> list[Times]:
    """As Kubernetes' CronJob controller asks it."""
    return _ask(["go", "run", "."], ORACLES / "robfig", _lines(questions), GOFLAGS="-mod=mod")


def croniter(questions: list[Question]) -> list[Times]:
    """With its defaults."""
    command = [str(environment("croniter", CRONITER, "tzdata")), str(ORACLES / "croniter_times.py")]
    return _ask(command, ORACLES, _lines(questions), PYTHONTZPATH=str(ZONES))


def quartz(questions: list[Question]) -> list[Times]:
    """With a second 0 before five fields, and ``?`` for one of the days, as it demands."""
    jars = CACHE / "quartz"
    if not jars.exists():
        _run(["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={jars}"], cwd=ORACLES / "quartz")
    lines = [f"{each.zone} {each.from_} {each.number} {quartz_expression(each.cron)}\n" for each in questions]
    return _ask(["java", "-cp", f"{jars}/*", "Quartz.java"], ORACLES / "quartz", "".join(lines))


def quartz_expression(cron: str) -> str:
    """A cron expression as Quartz wants it: six fields, with ``?`` for one of the days."""
    fields = cron.split()
    fields = fields if len(fields) == 6 else ["0", *fields]
    if "?" not in fields:
        star = next((place for place in (5, 3) if fields[place] == "*"), None)
        if star is not None:
            fields[star] = "?"
    return " ".join(fields)


def debian(questions: list[Question]) -> list[Times]:
    """The daemon itself, under a clock of its own (clock.c): the minutes in which it starts a process."""
    program, clock = _debian_cron()
    return [_debian_times(each, program, clock) for each in questions]


def _debian_cron() -> tuple[Path, Path]:
    folder = CACHE / "debian"
    program, clock = folder / "usr" / "sbin" / "cron", folder / "clock.so"
    folder.mkdir(parents=True, exist_ok=True)
    if not program.exists():
        _run(["apt-get", "-q", "download", "cron"], cwd=folder)
        [package] = folder.glob("cron_*.deb")
        _run(["dpkg-deb", "-x", str(package), str(folder)])
    _run(["cc", "-shared", "-fPIC", "-O2", "-o", str(clock), str(ORACLES / "clock.c")])
    return program, clock


def _debian_times(question: Question, program: Path, clock: Path) -> Times:
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *rights, "--mount", "sh", "-c", _DEBIAN],
        env={
            "PATH": os.environ["PATH"],
            "TZ": question.zone,
            "TZDIR": str(ZONES),
            "CRON": question.cron,
            "PROGRAM": str(program),
            "CLOCK": str(clock),
            "CLOCK_FROM": str(question.from_ - 60),
            "CLOCK_UNTIL": str(question.until + 60),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    if done.stderr:
        return Times(refused=done.stderr.splitlines()[0])
    # It wakes a second after the minute has begun.
    minutes = [int(line) // 60 * 60 for line in done.stdout.split()]
    return Times(tuple(at for at in minutes if at >= question.from_)[: question.number])


def _lines(questions: list[Question]) -> str:
    return "".join(json.dumps({key.rstrip("_"): value for key, value in asdict(each).items()}) + "\n"
                   for each in questions)  # fmt: skip


def _ask(command: list[str], folder: Path, text: str, **variables: str) -> list[Times]:
    answers = [json.loads(line) for line in _run(command, cwd=folder, text=text, **variables).splitlines()]
    return [Times(tuple(each.get("times") or ()), each.get("refused", "")) for each in answers]


def _run(command: list[str], *, cwd: Path = ROOT, text: str = "", **variables: str) -> str:
    path = f"{os.environ['PATH']}:/usr/local/go/bin"
    done = subprocess.run(
        command,
        cwd=cwd,
        input=text,
        env={**os.environ, **variables, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return done.stdout
