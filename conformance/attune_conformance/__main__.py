"""``python -m attune_conformance``: the command without the rest of the command line."""

import typer

from attune_conformance.command import conformance

if __name__ == "__main__":
    typer.run(conformance)
