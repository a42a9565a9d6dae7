"""``attune-actions``: carries out actions until a signal stops it. Settings come from the environment (``settings.py``)."""

import argparse
import asyncio
import sys
from typing import Final

import structlog
import uvloop
from prometheus_client import disable_created_metrics
from pydantic import ValidationError

from attune_actions.settings import Settings
from attune_kit.logs import STYLES, configure_logs
from attune_kit.memory import freeze_startup_objects, limit_allocator
from attune_kit.supervisor import TaskDiedError
from attune_kit.tracing import open_tracer

_log = structlog.stdlib.get_logger("attune_actions")

#: Seconds that the last spans have to be exported when the program ends: what is left of the grace that pods get.
_LAST_SPANS: Final = 3.0


def _problems(error: ValidationError) -> str:
    lines = ["Invalid settings of attune-actions:"]
    for problem in error.errors(include_url=False, include_input=False):
        name = "ATTUNE_ACTIONS_" + "_".join(map(str, problem["loc"])).upper()
        lines.append(f"  {name}: {problem['msg']}")
    return "\n".join(lines)


async def _run(settings: Settings) -> int:
    from attune_actions.app import Runner  # after the settings are known to be right

    tracer = open_tracer("attune-actions")
    runner = Runner(settings, tracer=tracer)
    runner.stop_on_signals()
    freeze_startup_objects()
    try:
        await runner.run()
    except TaskDiedError as died:
        _log.critical("ended", why=str(died))
        return 1
    except OSError as error:
        _log.critical("cannot_start", error=str(error))
        return 1
    finally:
        await asyncio.to_thread(tracer.close, within=_LAST_SPANS)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="attune-actions", description=__doc__)
    parser.add_argument("--check", action="store_true", help="read the settings, print them masked, and end")
    parser.add_argument("--log-format", choices=STYLES, help="json for machines, text for people; default: the setting")
    options = parser.parse_args(arguments)
    try:
        settings = Settings(**({"log_format": options.log_format} if options.log_format else {}))
    except ValidationError as error:
        sys.stderr.write(_problems(error) + "\n")
        return 2
    limit_allocator()
    disable_created_metrics()  # type: ignore[no-untyped-call]
    configure_logs(level=settings.log_level, style=settings.log_format)
    _log.info("settings", **settings.masked())
    return 0 if options.check else uvloop.run(_run(settings))


if __name__ == "__main__":
    raise SystemExit(main())
