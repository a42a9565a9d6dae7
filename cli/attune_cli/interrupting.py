"""Ctrl-C during a command that runs until it is interrupted."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from attune_cli.errors import ExitCode


@contextmanager
def interrupted_for_certain() -> Iterator[None]:
    """End the process on Ctrl-C at once. Python's own KeyboardInterrupt is lost when it is raised during an import or in a
    destructor, and then nothing would end a command that runs for ever. There is nothing to clean up.
    """
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(ExitCode.INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
