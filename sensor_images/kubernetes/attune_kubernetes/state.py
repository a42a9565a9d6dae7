"""How far each watch has come, kept beside the spool, so that a sensor that is started again goes on from there.

A pod's spool outlives its containers, but not the pod. What goes on when there is no state is the handler's to know.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

_FILE: Final = "watches.json"


class Progress(msgspec.Struct, kw_only=True):
    """How far one watch has come.

    Attributes:
        version: everything up to this version of the API server is stored, or in the spool.
        time: when that was, by the API server's clock (seconds since 1970).
        rules: of which rules, by uid: their generation.
    """

    version: int
    time: int
    rules: dict[str, int]


class _Saved(msgspec.Struct):
    watches: dict[str, Progress]


_DECODER: Final = msgspec.json.Decoder(_Saved)


class State:
    """The file with the progress of all watches.

    Args:
        directory: where it is; None keeps nothing.
    """

    def __init__(self, directory: Path | None) -> None:
        self._path = None if directory is None else directory / _FILE

    def load(self) -> dict[str, Progress]:
        """What was saved; nothing when there is nothing, or when it cannot be read."""
        if self._path is None:
            return {}
        try:
            return _DECODER.decode(self._path.read_bytes()).watches
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return {}

    def save(self, watches: dict[str, Progress]) -> None:
        """Replace what was saved, at once or not at all. It blocks.

        Raises:
            OSError: the disk failed.
        """
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                file.write(msgspec.json.encode(_Saved(watches)))
                file.flush()
                os.fdatasync(file.fileno())
            new.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
