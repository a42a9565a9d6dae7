"""Draws the README's picture: runs ``attune up`` in a terminal of its own and writes what it shows as SVG.

``.venv/bin/python hack/docs/screenshot.py`` writes ``docs/images/attune-up.svg``; it takes about 15 seconds. The picture is
the real output, with real times and ports, so it differs from run to run.
"""

import fcntl
import io
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

ROOT: Final = Path(__file__).parents[2]
PICTURE: Final = ROOT / "docs" / "images" / "attune-up.svg"
COLUMNS, LINES = 116, 20
#: Seconds until the picture is taken, at the latest.
PATIENCE: Final = 90.0
#: The picture has events that came within this many milliseconds: those of the start, while the API is starting, did not.
LATEST: Final = 50.0

#: Rules beside the demo's: one that has not fired yet, and one that cannot.
RULES: Final = """\
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {name: nightly-report, namespace: default}
spec: {trigger: {type: core.crontimer, parameters: {cron: "30 2 * * *", timezone: Europe/Berlin}}}
---
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {name: report-uploads, namespace: default}
spec: {trigger: {type: acme.file, parameters: {directory: /uploads}}}
"""


def last_frame(output: str) -> str:
    """What the live view drew last: it goes back line by line before it draws again."""
    return re.split(r"(?:\r?\x1b\[2K|\x1b\[1A)+", output)[-1].replace("\x1b[?25h", "")


def read(terminal: int) -> bytes:
    """What a program wrote within a tenth of a second; nothing when it has ended."""
    try:
        return os.read(terminal, 65536) if select.select([terminal], [], [], 0.1)[0] else b""
    except OSError:  # Linux says so when the other end is closed
        return b""


def record(command: list[str], folder: Path) -> str:
    """Run ``command`` in a terminal until its events come in time; return what was on the screen then."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    output, frame, deadline = b"", "", time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            output += read(main)
            frame = last_frame(output.decode("utf-8", "ignore"))
            late = [float(found) for found in re.findall(r"([\d.]+) ms ", frame)]
            if late and max(late) < LATEST and "Ctrl-C" in frame:
                return frame
            if process.poll() is not None:
                break
        raise SystemExit(f"attune up did not show events that came in time; it showed:\n{frame}")
    finally:
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            read(main)
        os.close(main)


def as_svg(command: str, frame: str) -> str:
    """A terminal window with the command and its output."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ ") + Text(command, style="bold"))
    for line in frame.replace("\r", "").rstrip("\n").split("\n"):
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop")
    svg = console.export_svg(title="attune up", unique_id="attune-up")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def main() -> int:
    """Write the picture; returns the exit status."""
    folder = Path(tempfile.mkdtemp(prefix="attune-")) / "demo"
    folder.mkdir()
    try:
        for name in ("core.timer.yaml", "echo-every-second.yaml"):
            shutil.copy(ROOT / "packs" / "core" / name, folder)
        (folder / "rules.yaml").write_text(RULES)
        frame = record([str(Path(sys.executable).parent / "attune"), "up", "."], folder)
    finally:
        shutil.rmtree(folder.parent)
    PICTURE.parent.mkdir(exist_ok=True)
    # The folder has a random name, and the line may have been cut off in the middle of it.
    frame = re.sub(r" in /\S*…", " in ~/demo/.attune", frame.replace(str(folder.parent), "~"))
    PICTURE.write_text(as_svg("attune up .", frame))
    print(f"wrote {PICTURE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
