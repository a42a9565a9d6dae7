"""Programs in Java, with their parts as Maven resolves them."""

import asyncio
import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from support.environments import CACHE

SOAK = Path(__file__).resolve().parents[1] / "soak"
#: What Maven has fetched stays there, so that another try goes on from it.
_TRIES: Final = 3
_SECONDS: Final = 120


class JarsError(Exception):
    """Maven cannot get them here; the text has what it said."""


async def jars(name: str) -> Path:
    """What ``tests/soak/<name>/pom.xml`` asks for, with what that needs; several may ask at a time.

    Raises:
        JarsError: Maven cannot get it.
    """
    return await asyncio.to_thread(_jars, name)


def _jars(name: str) -> Path:
    pom = SOAK / name / "pom.xml"
    folder = CACHE / f"{name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # the workers of a run share Maven's folder, too
        if not folder.exists():
            place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=CACHE))
            try:
                shutil.copy(pom, place)
                _fetch(place)
                (place / "jars").rename(folder)
            finally:
                shutil.rmtree(place, ignore_errors=True)
    return folder


def _fetch(place: Path) -> None:
    command = ["mvn", "-q", "-B", "-f", str(place / "pom.xml"), "dependency:copy-dependencies"]
    said = ""
    for _ in range(_TRIES):
        try:
            done = subprocess.run(
                [*command, f"-DoutputDirectory={place / 'jars'}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_SECONDS,
            )
        except subprocess.TimeoutExpired:
            said = f"it took more than {_SECONDS} s"
            continue
        if not done.returncode:
            return
        said = (done.stdout + done.stderr)[-500:]
    raise JarsError(f"Maven, {_TRIES} times: {said}")
