"""``attune``, ``kubectl attune`` and ``python -m attune_cli``."""

import sys
from pathlib import Path

from attune_cli.app import app


def program_name(path: str) -> str:
    """What the user typed: kubectl runs ``kubectl-attune`` for ``kubectl attune``."""
    return "kubectl attune" if Path(path).stem == "kubectl-attune" else "attune"


def main() -> None:
    """Run the command line."""
    app(prog_name=program_name(sys.argv[0]))


if __name__ == "__main__":
    main()
