"""The conformance kit's checks of a sensor that reads a queue, beside the queue's real server."""

import sys
from pathlib import Path
from typing import Any, Final

from attune_conformance.checks import all_checks
from attune_conformance.profile import Profile
from attune_conformance.runner import Outcome, run_checks

#: Seconds within which each rule has another message. They are sent more often, by a timer.
_EVERY: Final = 0.5
_FRAME: Final = """
import json, os, signal, sys
{send}
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
signal.setitimer(signal.ITIMER_REAL, {every}, {every})
while signal.sigwait([signal.SIGALRM]):
    try:
        with open(os.environ["ATTUNE_CONFORMANCE_RULES_FILE"]) as file:
            rules = json.load(file)
        send([rule["parameters"] for rule in rules])
    except Exception as error:  # the server is not there yet, or the file is being written
        print(repr(error), file=sys.stderr, flush=True)
"""


async def assert_conforms(
    folder: Path,
    *,
    module: str,
    trigger_type: str,
    parameters: dict[str, Any],
    bad_parameters: dict[str, Any],
    occurrence: str,
    config: dict[str, Any],
    send: str,
    **environment: str,
) -> None:
    """Run all checks of the kit; each must pass or not apply.

    Args:
        folder: where logs are kept.
        module: the sensor's module.
        trigger_type, parameters, bad_parameters, occurrence: see :class:`attune_conformance.profile.Profile`.
        config: the Sensor's configuration.
        send: a program that defines ``send(rules)``. Called again and again, it sends a message to each rule, of which it is
            given the parameters; what it raises is logged.
        environment: variables of the sensor and of that program.
    """
    profile = Profile(
        command=(sys.executable, "-m", module),
        trigger_type=trigger_type,
        parameters=parameters,
        bad_parameters=bad_parameters,
        every=_EVERY,
        repeatable=False,  # two instances divide the messages among them
        occurrence=occurrence,
        config=config,
        environment=environment,
        slack=40.0,  # what a rule reads may be made a moment after the rule
        stimulus=(sys.executable, "-I", "-c", _FRAME.format(send=send, every=_EVERY / 2)),
    )
    results = await run_checks(list(all_checks().values()), profile=profile, folder=folder, parallel=10)
    good = {Outcome.PASSED, Outcome.NOT_APPLICABLE}
    assert {each.check.name: each.message for each in results if each.outcome not in good} == {}
    assert any(each.outcome is Outcome.PASSED for each in results)
