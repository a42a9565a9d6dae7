"""Senders' libraries that are written for Node.js, as a program that says whether a request is theirs (tests/oracles/webhook)."""

import base64
import fcntl
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.webhook_senders import Signed

FOLDER = Path(__file__).parents[1] / "oracles" / "webhook"


@dataclass(frozen=True)
class Question:
    """Whether a library accepts a request."""

    library: str
    secret: bytes
    signed: Signed
    certificate: bytes = b""

    def line(self) -> str:
        return json.dumps(
            {
                "library": self.library,
                "secret": self.secret.decode(),
                "headers": dict(self.signed.headers),
                "body": base64.b64encode(self.signed.body).decode(),
                "certificate": self.certificate.decode(),
            }
        )


def install() -> None:
    """Install the libraries that package-lock.json names; skips the test when that cannot be done here."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed, so senders' JavaScript libraries cannot be asked")
    installed = FOLDER / "node_modules" / ".installed"
    lock = (FOLDER / "package-lock.json").read_text()
    with (FOLDER / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # workers of one test run share the folder
        if installed.exists() and installed.read_text() == lock:
            return
        made = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=FOLDER,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        if made.returncode:
            pytest.skip(f"npm cannot install senders' libraries here: {made.stderr.strip()[-300:]}")
        installed.write_text(lock)


def ask(questions: Sequence[Question]) -> list[bool]:
    """What the libraries say."""
    done = subprocess.run(
        ["node", "oracle.mjs"],
        cwd=FOLDER,
        input="".join(f"{question.line()}\n" for question in questions),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    answers = [json.loads(line)["accepted"] for line in done.stdout.splitlines()]
    assert len(answers) == len(questions), done.stderr[-2000:]
    return answers
