"""Memory of a process."""

from pathlib import Path


def peak_mib(pid: int) -> float:
    """The most memory that a process ever had resident, in MiB (proc(5), VmHWM)."""
    return _mib(pid, "VmHWM")


def now_mib(pid: int) -> float:
    """The memory that a process has resident now, in MiB (proc(5), VmRSS)."""
    return _mib(pid, "VmRSS")


def _mib(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise ValueError(f"process {pid} has no {name}")


def reset_peak(pid: int) -> float:
    """Reset the peak (proc(5), clear_refs). Returns the present value in MiB."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_mib(pid)
