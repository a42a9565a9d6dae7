"""``attune version``."""

import platform

from attune_cli.app import version as installed
from attune_cli.lazy import command_app
from attune_cli.output import Format, OutputOption, show

app = command_app()


@app.command()
def version(output: OutputOption = Format.TABLE) -> None:
    """Print the version."""
    found = {"attune": installed(), "python": platform.python_version()}
    show(found, output, title=f"attune {found['attune']} (Python {found['python']})")
