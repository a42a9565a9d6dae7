"""How much memory a process holds."""

import re
from pathlib import Path


def resident(pid: int) -> int:
    """Bytes in memory now (``VmRSS``; proc(5))."""
    found = re.search(r"VmRSS:\s+([0-9]+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
