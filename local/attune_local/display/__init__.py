"""What somebody who runs ``attune up`` sees: a live view on a terminal, plain lines, or one JSON line per event."""

from attune_local.display.base import Display, Started, program
from attune_local.display.lines import JsonLines, PlainLines

__all__ = ["Display", "JsonLines", "PlainLines", "Started", "program"]
