"""The supervisor's program: ``attune-stdio -- COMMAND…``."""

import contextlib
import os
import resource
import sys
from typing import Final

from attune_sensor import RuleHandler, SensorContext, SettingsError, run_sensor
from attune_stdio import orphans
from attune_stdio.handler import handler_for
from attune_stdio.settings import StdioSettings

_FILES: Final = 65536


def main() -> int:
    """Run until SIGTERM; returns the exit status."""
    problem: SettingsError | None = None
    settings: StdioSettings | None = None
    try:
        settings = StdioSettings.read(sys.argv[1:], os.environ)
    except SettingsError as error:
        problem = error
    _more_files()

    def handler(context: SensorContext) -> RuleHandler:
        # Raised here, where run_sensor says it as it says what else is wrong with the environment.
        if settings is None:
            raise problem or AssertionError
        orphans.adopt()
        orphans.watch()
        return handler_for(settings)(context)

    return run_sensor(handler)


def _more_files() -> None:
    """A few files belong to each process; the usual limit would end at some 300 rules."""
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


if __name__ == "__main__":
    raise SystemExit(main())
