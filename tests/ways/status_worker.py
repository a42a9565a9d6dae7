"""Runs ``attune status -n NAMESPACE`` for each line of standard input, and answers with a line of JSON.

A process for each would spend most of its time in loading Python.
"""

import contextlib
import io
import json
import os
import sys

from attune_cli.app import app


def main() -> None:
    os.environ["COLUMNS"] = "4000"  # a terminal that breaks no line
    for line in sys.stdin:
        output = io.StringIO()
        status: object = 0
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                app(["status", "-n", line.strip()], prog_name="attune")
            except SystemExit as end:
                status = end.code
            except Exception as error:  # what a user would see as a traceback
                output.write(f"{type(error).__name__}: {error}")
                status = 70
        print(json.dumps({"status": status, "output": output.getvalue()}), flush=True)


if __name__ == "__main__":
    main()
