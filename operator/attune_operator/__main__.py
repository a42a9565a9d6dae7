"""``attune-operator``: runs the operator until a signal stops it. Settings come from the environment (``settings.py``)."""

import argparse
import asyncio
import sys

import structlog
from pydantic import ValidationError

from attune_kit.logs import STYLES, configure_logs
from attune_kit.memory import freeze_startup_objects, limit_allocator
from attune_kit.supervisor import TaskDiedError
from attune_operator.settings import Settings

_log = structlog.stdlib.get_logger("attune_operator")


def _problems(error: ValidationError) -> str:
    lines = ["Invalid settings of the operator:"]
    for problem in error.errors(include_url=False, include_input=False):
        name = "ATTUNE_OPERATOR_" + "_".join(map(str, problem["loc"])).upper()
        lines.append(f"  {name}: {problem['msg']}")
    return "\n".join(lines)


async def _run(settings: Settings) -> int:
    from attune_operator.app import Operator  # after parsing the arguments: it takes a second to import
    from attune_operator.runtime.client import ClusterError

    freeze_startup_objects()
    operator = Operator(settings)
    operator.stop_on_signals()
    try:
        await operator.run()
    except TaskDiedError as died:
        _log.critical("ended", why=str(died))
        return 1
    except (ClusterError, OSError) as error:
        _log.critical("cannot_start", error=str(error))
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the operator; returns the exit status."""
    parser = argparse.ArgumentParser(prog="attune-operator", description=__doc__)
    parser.add_argument("--check", action="store_true", help="read the settings, print them masked, and end")
    parser.add_argument("--log-format", choices=STYLES, help="json for machines, text for people; default: the setting")
    options = parser.parse_args(arguments)
    try:
        settings = Settings(**({"log_format": options.log_format} if options.log_format else {}))
    except ValidationError as error:
        sys.stderr.write(_problems(error) + "\n")
        return 2
    limit_allocator()
    configure_logs(level=settings.log_level, style=settings.log_format, stream=sys.stderr)
    _log.info("settings", **settings.masked())
    return 0 if options.check else asyncio.run(_run(settings))


if __name__ == "__main__":
    raise SystemExit(main())
