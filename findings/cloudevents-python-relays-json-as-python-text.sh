#!/bin/sh
# cloudevents 2.2.0 (the Python SDK): JSON data that is no object is not JSON any more when an event is passed on.
#
# The HTTP binding (1.0.2, section 3.1) has the data in the body as its content type says. An event in binary mode is read
# and written again with the SDK's own JSON format. Seen: the array [1, true, null] becomes the text [1, True, None], true
# becomes True, and the string "12" becomes 12, a number for the next reader. Objects stay what they are. An attribute of
# the type Boolean is written as True as well, where the type system (section 3.1 of the specification) says true.
#
# Exits with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cloudevents==2.2.0
"$folder/venv/bin/python" - <<'PYTHON'
from cloudevents.core.bindings.http import HTTPMessage, from_http, to_binary
from cloudevents.core.formats.json import JSONFormat

FORMAT = JSONFormat()
HEADERS = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/line/1",
    "ce-type": "example.measured",
    "content-type": "application/json",
}
ENVELOPE = b'{"specversion": "1.0", "id": "1", "source": "/line/1", "type": "example.measured", "urgent": true}'


def passed_on(body):
    return to_binary(from_http(HTTPMessage(HEADERS, body), FORMAT), FORMAT).body


seen = {body: passed_on(body) for body in (b"[1, true, null]", b"true", b'"12"', b'{"a": true}')}
structured = HTTPMessage({"content-type": "application/cloudevents+json"}, ENVELOPE)
urgent = to_binary(from_http(structured, FORMAT), FORMAT).headers["ce-urgent"]
for body, after in seen.items():
    print(f"cloudevents 2.2.0: data {body.decode()} is passed on as {after.decode()}")
print("cloudevents 2.2.0: the attribute true is passed on as", urgent)
assert seen == {
    b"[1, true, null]": b"[1, True, None]",
    b"true": b"True",
    b'"12"': b"12",
    b'{"a": true}': b'{"a": true}',
}
assert urgent == "True"
PYTHON
