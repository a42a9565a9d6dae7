"""httpx, without the command line of its own that it imports where click and rich are installed: a third of a second for nothing.

Import it from here, and not before: ``from attune_cli.targets.httpx_client import httpx``.
"""

import sys

# None makes the import fail, which httpx is ready for: it is what happens where click is not installed.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx  # noqa: E402

__all__ = ["httpx"]
