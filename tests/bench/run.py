"""Runs the benchmarks and writes their results as JSON: ``make bench [BENCH=name] [OUT=file]``.

A benchmark is a module ``bench_<name>.py`` beside this file with ``async def run() -> dict[str, object]``; the result
has a ``ratio`` to a reference that it measured in the same run, since machines are shared and noisy and absolute times
mean little.
"""

import argparse
import asyncio
import importlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    """All benchmarks there are."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=names(), help="run just this one")
    parser.add_argument("--out", type=Path, help="write the JSON to this file as well")
    options = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "hack" / "cluster")]
    results = {}
    for name in [options.only] if options.only else names():
        sys.stderr.write(f"• {name}\n")
        results[name] = asyncio.run(importlib.import_module(f"bench_{name}").run())
    text = json.dumps(results, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
