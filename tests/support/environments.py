"""What tests fetch once and keep: Python environments of their own, beside this one."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

#: Where all that is fetched for comparisons with other programs is kept.
CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "schedulers"


def environment(name: str, *requirements: str) -> Path:
    """The Python of an environment that has these requirements, as pip takes them. It blocks while they are fetched.

    Other requirements get another folder, and one that was not finished is started from nothing.

    Raises:
        AssertionError: they cannot be installed; the text has what was said.
    """
    digest = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{digest}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements)
        complete.touch()
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr[-2000:]}")
