#!/bin/sh
# cloudevents 10.0.0 (the JavaScript SDK): attributes are neither percent-encoded in headers nor decoded from them.
#
# The HTTP binding (1.0.2, section 3.1.3.2) says that blanks, double quotes, percent signs and everything outside of printable
# ASCII are percent-encoded in header values, and that readers decode them. Seen: the subject "Zürich 100%" is written as it is,
# which `fetch` refuses to send when a character is beyond Latin-1, and the encoded form that other SDKs send is read as it is.
# JSON data that is a number or a boolean is read as text in binary mode: true becomes "true".
#
# Exits with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init --yes >/dev/null
npm install --silent --no-fund --no-audit cloudevents@10.0.0
cat >check.mjs <<'JAVASCRIPT'
import assert from "node:assert";
import sdk from "cloudevents";

const { CloudEvent, HTTP } = sdk;
const headers = { "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/line/1", "ce-type": "example.measured" };

const written = HTTP.binary(new CloudEvent({ source: "/line/1", type: "t", subject: "Zürich 100%", data: {} }));
console.log("cloudevents 10.0.0 writes:", written.headers["ce-subject"]);
assert.equal(written.headers["ce-subject"], "Zürich 100%");

const read = HTTP.toEvent({ headers: { ...headers, "ce-subject": "Z%C3%BCrich%20100%25" }, body: "" });
console.log("cloudevents 10.0.0 reads:", read.subject);
assert.equal(read.subject, "Z%C3%BCrich%20100%25");

const beyond = HTTP.binary(new CloudEvent({ source: "/line/1", type: "t", subject: "Łódź", data: {} }));
assert.throws(() => new Headers({ "ce-subject": beyond.headers["ce-subject"] }), TypeError);
console.log("cloudevents 10.0.0 writes what fetch refuses:", beyond.headers["ce-subject"]);

const json = { ...headers, "content-type": "application/json" };
const scalars = ["true", "12"].map((body) => HTTP.toEvent({ headers: json, body }).data);
console.log("cloudevents 10.0.0 reads true and 12 as:", JSON.stringify(scalars));
assert.deepEqual(scalars, ["true", "12"]);
JAVASCRIPT
node check.mjs
