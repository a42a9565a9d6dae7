#!/bin/sh
# standardwebhooks 1.1.0 (PyPI): a secret in URL-safe base64 becomes another key, without an error.
#
# The library decodes secrets with base64.b64decode, which drops "-" and "_", so the key is shorter than the sender's. The
# JavaScript library (standardwebhooks 1.1.1 on npm) refuses such a secret. Seen: the signature by a key of 27 bytes, shown
# with "-" and "_", is the one by what is left of the key, and not the one by the 27 bytes.
#
# So attune_webhook/schemes/keys.py decodes both alphabets itself, and the tests' oracle is given the standard one.
# Exits 1 when this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check standardwebhooks==1.1.0
cat >"$folder/check.py" <<'PYTHON'
import base64
import datetime

from standardwebhooks import Webhook

key = bytes([255, 239, 190]) * 8
text = base64.urlsafe_b64encode(key).decode()
now = datetime.datetime(2026, 11, 27, tzinfo=datetime.timezone.utc)
right = Webhook(key).sign("m", now, "{}")
shown = Webhook("whsec_a2V5" + text).sign("m", now, "{}")
expected = Webhook(b"key" + key).sign("m", now, "{}")
dropped = Webhook(base64.b64decode("a2V5" + text + "==")).sign("m", now, "{}")
print("standardwebhooks 1.1.0: as the sender means it:", shown == expected, "| with characters dropped:", shown == dropped)
raise SystemExit(0 if shown != expected and shown == dropped and right else 1)
PYTHON
"$folder/venv/bin/python" "$folder/check.py"
