#!/bin/sh
# cloudevents 2.2.0 (the Python SDK): reading a message without an id gives an event with a random one.
#
# The specification (1.0.2) requires an id, and source and id together name an event: a consumer may take a second event
# of the same name as a duplicate. Seen: a request without ce-id is read without an error, and each delivery of it is another
# event. A missing type or source is refused. An event without a time, which is optional, gets that of its reading.
#
# So who deduplicates by id has to look whether the message had one. Exits with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cloudevents==2.2.0
"$folder/venv/bin/python" - <<'PYTHON'
from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat

HEADERS = {"ce-specversion": "1.0", "ce-source": "/line/1", "ce-type": "example.measured"}


def read(headers):
    return from_http(HTTPMessage(headers, b""), JSONFormat())


first, second = read(HEADERS), read(HEADERS)
print("cloudevents 2.2.0: one message without an id, read twice:", first.get_id(), second.get_id())
print("cloudevents 2.2.0: its time, which it has not:", first.get_time(), second.get_time())
assert first.get_id() and second.get_id() and first.get_id() != second.get_id()
assert first.get_time() is not None and first.get_time() != second.get_time()
try:
    read({name: value for name, value in HEADERS.items() if name != "ce-type"})
except CloudEventValidationError:
    print("cloudevents 2.2.0: a message without a type is refused")
else:
    raise SystemExit("a message without a type is read")
PYTHON
