"""The command line, run in this process or as a program of its own."""

import json
from typing import Any

from typer.testing import CliRunner, Result

from attune_cli.app import app

_RUNNER = CliRunner()


def attune(*arguments: object, code: int = 0, **environment: str) -> Result:
    """Run a command in this process; it must end with ``code``."""
    done = _RUNNER.invoke(app, [str(argument) for argument in arguments], env=environment)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, f"{done.exit_code} instead of {code}:\n{done.stdout}\n{done.stderr}"
    return done


def answer(*arguments: object, **environment: str) -> Any:
    """What a command says with ``--output json``."""
    return json.loads(attune(*arguments, "--output", "json", code=0, **environment).stdout)
