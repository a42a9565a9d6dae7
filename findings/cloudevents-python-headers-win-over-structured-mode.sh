#!/bin/sh
# cloudevents 2.2.0 (the Python SDK): a structured message that has the attributes as headers, too, is read in binary mode.
#
# The HTTP binding (1.0.2) says that a receiver finds the mode by the content type (section 3), and that a structured message
# may have the headers of binary mode as well (section 3.2.3). Seen: with such headers the whole envelope becomes the
# event's data, and the media type of the envelope its datacontenttype. Without them the same body is read as it should be.
#
# Exits with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cloudevents==2.2.0
"$folder/venv/bin/python" - <<'PYTHON'
import json

from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.formats.json import JSONFormat

ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/line/1", "type": "example.measured"}
BODY = json.dumps({**ATTRIBUTES, "data": {"value": 7}}).encode()
MEDIA_TYPE = "application/cloudevents+json; charset=utf-8"


def read(headers):
    return from_http(HTTPMessage({"content-type": MEDIA_TYPE, **headers}, BODY), JSONFormat())


alone, both = read({}), read({f"ce-{name}": value for name, value in ATTRIBUTES.items()})
print("cloudevents 2.2.0: the body alone:", alone.get_data())
print("cloudevents 2.2.0: with the headers, too:", both.get_data(), both.get_datacontenttype())
assert alone.get_data() == {"value": 7}
assert both.get_data() == {**ATTRIBUTES, "data": {"value": 7}}
assert both.get_datacontenttype() == MEDIA_TYPE
PYTHON
