#!/bin/sh
# cel-expr-python 0.1.3 (cel-cpp): an environment with an extension that does not exist is built without an error.
#
# `NewEnvConfigFromYaml` and `NewEnv` take any name. Seen: with "string" instead of "strings" both return, and each `compile`
# then fails with "CompilerLibrary not registered", even of 1 + 1. So a wrong name in a configuration looks like an error in
# each expression of the users.
#
# Exits with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cel-expr-python==0.1.3
"$folder/venv/bin/python" - <<'PYTHON'
from cel_expr_python import cel


def compiled(extension):
    config = cel.NewEnvConfigFromYaml(f"extensions:\n- name: {extension}\n")
    environment = cel.NewEnv(config=config, variables={})
    try:
        environment.compile("1 + 1")
    except RuntimeError as error:
        return str(error)
    return "compiled"


right, wrong = compiled("strings"), compiled("string")
print("cel-expr-python 0.1.3: strings:", right, "| string: built, then", wrong)
assert right == "compiled" and "CompilerLibrary not registered" in wrong
PYTHON
