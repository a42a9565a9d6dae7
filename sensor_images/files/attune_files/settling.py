"""Which files are complete: those that have not changed for a while. Pure."""

from collections.abc import Sequence

from attune_files.scanning import File


class Settling:
    """Files that may still be written.

    Args:
        settle: seconds for which a file must not change.
    """

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._since: dict[bytes, float] = {}

    def complete(self, files: Sequence[File], *, began: float) -> list[File]:
        """Those that are complete, in their order.

        Args:
            files: all that are new now; what is not among them is forgotten.
            began: when it was begun to look, in monotonic seconds.
        """
        self._since = {file.mark: self._since.get(file.mark, began) for file in files}
        return [file for file in files if began - self._since[file.mark] >= self._settle]

    def next_at(self) -> float | None:
        """When the next file may be complete, in monotonic seconds; None when none is waited for."""
        return min(self._since.values()) + self._settle if self._since else None

    def done(self, mark: bytes) -> None:
        """Wait no longer for a file."""
        self._since.pop(mark, None)
