"""Runs checks, several at a time, each on a testbed of its own."""

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from attune_conformance.check import Check, Level
from attune_conformance.errors import CheckFailedError, NotApplicableError
from attune_conformance.profile import Profile
from attune_conformance.testbed import prepared_testbed

#: No check takes longer than this, whatever the sensor does (seconds).
_LONGEST: Final = 600.0


class Outcome(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"
    BROKEN = "broken"  #: the check could not be carried out; it says nothing about the sensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One check's result. ``log`` is what the sensor printed."""

    check: Check
    outcome: Outcome
    message: str
    seconds: float
    log: Path | None

    @property
    def counts(self) -> bool:
        """Whether it stands against the sensor: a MUST that failed, or a check that could not be carried out."""
        return self.outcome is Outcome.BROKEN or (self.outcome is Outcome.FAILED and self.check.level is Level.MUST)


async def run_checks(
    checks: Sequence[Check],
    *,
    profile: Profile,
    folder: Path,
    parallel: int,
    on_result: Callable[[Result], None] = lambda _result: None,
) -> list[Result]:
    """Examine the sensor.

    Args:
        checks: what to look at.
        profile: the sensor.
        folder: where each check's files are put, in a folder of its name; that of a check that passed is removed.
        parallel: how many checks run at once.
        on_result: told of each result as it comes.

    Returns:
        The results in the order of ``checks``.
    """
    room = asyncio.Semaphore(parallel)

    async def one(check: Check) -> Result:
        async with room:
            result = await _run(check, profile=profile, folder=folder / check.name)
        if result.outcome in (Outcome.PASSED, Outcome.NOT_APPLICABLE):
            await asyncio.to_thread(shutil.rmtree, folder / check.name, ignore_errors=True)
        on_result(result)
        return result

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(check)) for check in checks]
    return [task.result() for task in running]


async def _run(check: Check, *, profile: Profile, folder: Path) -> Result:
    began = time.monotonic()
    outcome, message = Outcome.PASSED, ""
    try:
        async with asyncio.timeout(_LONGEST), prepared_testbed(profile, folder, nats=check.nats) as made:
            await check.examine(made)
            if made.api.violations:
                raise CheckFailedError(f"By the way: {next(iter(made.api.violations))}.")
    except CheckFailedError as failure:
        outcome, message = Outcome.FAILED, str(failure)
    except NotApplicableError as reason:
        outcome, message = Outcome.NOT_APPLICABLE, str(reason)
    except Exception as error:
        outcome, message = Outcome.BROKEN, f"The check could not be carried out: {type(error).__name__}: {error}"
    log = folder / "sensor-1.log"
    return Result(
        check=check,
        outcome=outcome,
        message=message,
        seconds=time.monotonic() - began,
        log=log if outcome in (Outcome.FAILED, Outcome.BROKEN) else None,
    )
