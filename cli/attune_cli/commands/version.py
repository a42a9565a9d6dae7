"""``attune version``."""

import platform

from attune_cli.app import version as installed
from attune_cli.lazy import command_app
from attune_cli.output import Format, OutputOption, show

app = command_app()


@app.command()
def version(output: OutputOption = Format.TABLE) -> None:
    """Print the version, and the version of the time zone data (tzdata)."""
    found = {"attune": installed(), "python": platform.python_version(), "tzdata": _tzdata()}
    show(found, output, title=f"attune {found['attune']} (Python {found['python']}, tzdata {found['tzdata']})")


def _tzdata() -> str:
    try:
        from attune_contract.calendar.zones import version as zones
    except ImportError:  # the command line without its extra
        return "none"
    return zones()
