#!/bin/sh
# cel-expr-python 0.1.3 (cel-cpp): cel.bind beside loops fails or gives wrong results.
#
# Each expression is true by the language definition: cel.bind(x, v, e) is e with x standing for v. Seen: the first one,
# with one cel.bind, is true; the second, with a loop before it and another cel.bind inside a loop after it, fails with
# "Applying SELECT to non-message type".
#
# So kit/attune_kit/cel does not offer cel.bind, and rewrites has() with exists() instead. Exits 1 when this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cel-expr-python==0.1.3
cat >"$folder/check.py" <<'PYTHON'
from cel_expr_python import cel

config = cel.NewEnvConfigFromYaml("extensions:\n- name: bindings\n")
environment = cel.NewEnv(config=config, variables={"o": cel.Type.DYN})


def result(text):
    found = environment.compile(text).eval(data={"o": {"kind": "D", "l": [{"h": 1}]}})
    return str(found.value())


simple = result("cel.bind(x, o, has(x.l))")
beside = result("!(['D', 'E'].all(k, o.kind != k) || !cel.bind(x, o, has(x.l)) || o.l.all(v, !cel.bind(y, v, has(y.h))))")
print("cel-expr-python 0.1.3: alone:", simple, "| beside loops:", beside)
raise SystemExit(0 if simple == "True" and "Applying SELECT to non-message type" in beside else 1)
PYTHON
"$folder/venv/bin/python" "$folder/check.py"
