#!/bin/sh
# nats-py 2.16.0: a task that is cancelled while its publish waits for the socket is not cancelled; publish returns.
#
# A server that reads slowly lets more than 2 MiB wait (the client's default pending_size), so that publish() waits for the
# flush. Seen: the CancelledError is caught in Client._flush_pending, publish() returns normally, and the task goes on.
#
# So kit/attune_kit/nats/client.py raises the error after each call. Exits 1 when this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nats-py==2.16.0
cat >"$folder/check.py" <<'PYTHON'
import asyncio
import json

import nats

INFO = {"server_id": "S", "version": "2.11.0", "proto": 1, "host": "127.0.0.1", "port": 0, "max_payload": 1048576}


async def slow_server(reader, writer):
    """Answers the handshake, and then reads nothing for as long as the connection lasts."""
    writer.write(b"INFO " + json.dumps({**INFO, "headers": True, "client_id": 1}).encode() + b"\r\n")
    while b"PING" not in await reader.readline():
        pass
    writer.write(b"PONG\r\n")
    writer.transport.pause_reading()


async def main():
    server = await asyncio.start_server(slow_server, "127.0.0.1", 0)
    client = await nats.connect(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", allow_reconnect=False)
    swallowed = False
    published = 0

    async def publish():
        nonlocal swallowed, published
        while not asyncio.current_task().cancelling():
            await client.publish("subject", b"x" * 65536)
            published += 1
        swallowed = True  # publish() returned although the task was cancelled in it

    task = asyncio.create_task(publish())
    before = -1
    while published != before or not published:  # until publish() waits
        before = published
        await asyncio.sleep(0.3)
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    print("nats-py 2.16.0: the cancellation", "is swallowed" if swallowed else "ends the task")
    client._transport._io_writer.transport.abort()
    server.close()
    return 0 if swallowed else 1


raise SystemExit(asyncio.run(main()))
PYTHON
"$folder/venv/bin/python" "$folder/check.py" 2>/dev/null
