"""Where the log of ``attune up`` goes: all of it into a file, and warnings to standard error unless a live view is drawn."""

import logging
import sys
from pathlib import Path

from attune_kit.logs import Style, configure_logs, log_handler


def configure(file: Path, *, verbose: bool, stderr: bool, style: Style = "text") -> None:
    """Set up the logs of this process.

    Args:
        file: gets everything, one JSON object per line.
        verbose: have standard error get what the file gets, instead of warnings only.
        stderr: write to standard error at all.
        style: of standard error.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handlers = [log_handler(logging.FileHandler(file, encoding="utf-8"), style="json")]
    if stderr:
        shown = log_handler(logging.StreamHandler(sys.stderr), style=style)
        shown.setLevel(logging.INFO if verbose else logging.WARNING)
        handlers.append(shown)
    configure_logs(level="INFO", handlers=handlers)
